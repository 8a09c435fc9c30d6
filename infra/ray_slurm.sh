#!/usr/bin/env bash
# Runs `dvc repro` on a Ray cluster made of this Slurm job's nodes.
#
#   sbatch --nodes 8 --ntasks-per-node 1 --cpus-per-task 32 --exclusive infra/ray_slurm.sh
#
# The project folder, its .venv and compute.cache must lie on a file system that all nodes see.
#SBATCH --job-name=headwater
set -euo pipefail

project=${SLURM_SUBMIT_DIR:-$PWD}
cd "$project"
export PATH="$project/.venv/bin:$PATH"
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun does not take it over by itself
export RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true
port=6379
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes 1 --ntasks 1 --nodelist "$head" hostname --ip-address | awk '{print $1}')
export RAY_ADDRESS="$address:$port"

# One step per node; the step stays in the foreground (--block), so Slurm ends Ray with the job.
srun --nodes 1 --ntasks 1 --nodelist "$head" \
    ray start --head --node-ip-address "$address" --port "$port" --include-dashboard=false --block &
for second in $(seq 120); do
    ray health-check --address "$RAY_ADDRESS" >/dev/null 2>&1 && break
    ((second < 120)) || { echo "Ray's head on $head did not answer within two minutes" >&2; exit 1; }
    sleep 1
done
workers=$((SLURM_JOB_NUM_NODES - 1))
if ((workers > 0)); then
    srun --nodes "$workers" --ntasks "$workers" --exclude "$head" ray start --address "$RAY_ADDRESS" --block &
fi

dvc repro
