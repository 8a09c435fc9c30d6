"""The prior of neural heads, trained on registered scans."""

from __future__ import annotations

from pathlib import Path

from avatar_models.model_folder import FACTS, TENSORS
from pipelines.fanout import FanOutResult, run_and_assemble
from pipelines.fleet.outs import ModelOuts
from pipelines.main import run_stage
from pipelines.params import load_params
from pipelines.prior.items import prior_item, prior_step
from pipelines.prior.trainer import CARD
from pipelines.runs import stage_run
from pipelines.schedule import AS_LONG_AS_IT_TAKES_S
from pipelines.subject import NPHM_PRIOR
from pipelines.subject_runs import subject_runs

OUTS = ModelOuts(NPHM_PRIOR, Path("metrics/train_nphm.json"), Path("plots/nphm_curve.csv"))


def assemble(result: FanOutResult) -> list[dict[str, float]]:
    """Writes the prior with its card; returns the curve."""
    return OUTS.write(result, (TENSORS, FACTS, CARD))


def main() -> None:
    params = load_params()
    items = [prior_item()] if params.train_nphm.steps else []
    if not items:
        print("train_nphm.steps is 0: no prior of neural heads is trained")
    steps = [prior_step(params)] if items else []
    compute = params.compute.model_copy(update={"item_timeout_s": AS_LONG_AS_IT_TAKES_S})
    blocks = {"train_nphm": params.train_nphm.as_key()}
    with stage_run("train_nphm", params) as run, subject_runs(run, blocks) as runs:
        result, curve = run_and_assemble("train_nphm", steps, items, assemble, compute=compute, things="priors", listener=runs)
        run.log_fan_out(result)
        for step in steps:
            run.log_assets(step.assets)
        for name in result.entries:
            with runs.finished(name, curve):
                run.log_artifact(NPHM_PRIOR / CARD)


if __name__ == "__main__":
    run_stage(main)
