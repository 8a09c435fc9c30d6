"""The forward deformation that NPGA avatars share, distilled from the prior's backward one."""

from __future__ import annotations

from pathlib import Path

from avatar_models.model_folder import FACTS, TENSORS
from pipelines.fanout import FanOutResult, run_and_assemble
from pipelines.fleet.outs import ModelOuts
from pipelines.forward.items import forward_items, forward_step
from pipelines.main import run_stage
from pipelines.params import load_params
from pipelines.runs import stage_run
from pipelines.schedule import AS_LONG_AS_IT_TAKES_S
from pipelines.subject import NPHM_PRIOR
from pipelines.subject_runs import subject_runs

OUTS = ModelOuts(Path("models/nphm_forward"), Path("metrics/distill_forward.json"), Path("plots/forward_curve.csv"))


def assemble(result: FanOutResult) -> list[dict[str, float]]:
    """Writes the field; returns the curve."""
    return OUTS.write(result, (TENSORS, FACTS))


def main() -> None:
    params = load_params()
    items = forward_items(params)
    if not params.distill_forward.steps:
        print("distill_forward.steps is 0: no forward field is distilled")
    elif not items:
        print(f"{NPHM_PRIOR} holds no prior (train_nphm.steps is 0?): no forward field is distilled")
    steps = [forward_step(params)] if items else []
    compute = params.compute.model_copy(update={"item_timeout_s": AS_LONG_AS_IT_TAKES_S})
    blocks = {"distill_forward": params.distill_forward.as_key()}
    with stage_run("distill_forward", params) as run, subject_runs(run, blocks) as runs:
        result, curve = run_and_assemble(
            "distill_forward", steps, items, assemble, compute=compute, things="fields", listener=runs
        )
        run.log_fan_out(result)
        for name in result.entries:
            with runs.finished(name, curve):
                pass


if __name__ == "__main__":
    run_stage(main)
