"""Do the outs depend on who computed them? 1 actor, 2 actors, and 3 simulated Ray nodes of which one is killed.

python -m bench.workers
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from bench.incremental import show
from bench.killed_driver import committed_entries
from bench.workspace import Workspace, cut_clip, make_workspace, real_clips

NUM_CLIPS = 8


def run_on_three_nodes(workspace: Workspace) -> None:
    """Runs preprocess on a head and two worker nodes on this machine; SIGKILLs a worker node at half way."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        before = committed_entries(workspace)
        driver = workspace.command("dvc", "repro", "preprocess")
        while committed_entries(workspace) - before < NUM_CLIPS and driver.poll() is None:
            time.sleep(0.05)
        for process in nodes[0].live_processes():
            os.kill(process[1].pid, signal.SIGKILL)
        print(f"\n== node killed with {committed_entries(workspace) - before} of {2 * NUM_CLIPS} steps committed")
        driver.wait()
        print((workspace.folder / "command.log").read_text()[-2000:])
    finally:
        del os.environ["RAY_ADDRESS"]
        cluster.shutdown()


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        clips = real_clips()
        for number in range(NUM_CLIPS):
            cut_clip(clips[number % len(clips)], Path(scratch) / "clips" / f"clip{number:02d}.mp4", frames=60)
        paths = sorted((Path(scratch) / "clips").iterdir())

        digests = {}
        for name, count in (("one actor", 1), ("two actors", 2), ("three nodes", 0)):
            workspace = make_workspace(Path(scratch) / name.replace(" ", "_") / "project", {"compute.decode.count": count})
            workspace.add_videos(paths)
            show(f"{name}: catalog", workspace.repro("catalog"))
            if name == "three nodes":
                run_on_three_nodes(workspace)
            else:
                show(f"{name}: preprocess", workspace.repro("preprocess"))
            digests[name] = workspace.digests()

        wanted = digests["one actor"]
        for name, found in digests.items():
            differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
            print(f"{name}: {len(found)} files, {len(differing)} differ from one actor: {differing}")


if __name__ == "__main__":
    main()
