"""One GAGAvatar of all subjects: a model that makes an avatar of a photo."""

from __future__ import annotations

from pathlib import Path

from avatar_models.model_folder import FACTS, TENSORS
from pipelines.fanout import FanOutResult, run_and_assemble
from pipelines.fleet.outs import ModelOuts
from pipelines.main import run_stage
from pipelines.oneshot.items import model_item, model_step, say_what_is_off
from pipelines.params import ONESHOT_MODEL, load_params
from pipelines.runs import stage_run
from pipelines.schedule import AS_LONG_AS_IT_TAKES_S
from pipelines.subject_runs import subject_runs
from pipelines.training import PROGRESS

OUTS = ModelOuts(ONESHOT_MODEL, Path("metrics/train_oneshot.json"), Path("plots/oneshot_curve.csv"))
PICTURES = Path("plots/oneshot_progress")


def assemble(result: FanOutResult) -> list[dict[str, float]]:
    """Writes the model and the pictures of its probes; returns the curve."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in result.entries:
        entry = result.last(name)
        if PROGRESS in entry.files:  # there is none without test subjects
            entry.copy_to(PROGRESS, PICTURES / f"{name}.png")
    return OUTS.write(result, (TENSORS, FACTS))


def main() -> None:
    params = load_params()
    items = [model_item(params)] if params.train_oneshot.steps else []
    if items:
        say_what_is_off(params)
    else:
        print("train_oneshot.steps is 0: no one-shot model is trained")
    steps = [model_step(params)] if items else []
    compute = params.compute.model_copy(update={"item_timeout_s": AS_LONG_AS_IT_TAKES_S})
    blocks = {"train_oneshot": params.model_dump(mode="json")["train_oneshot"]}
    with stage_run("train_oneshot", params) as run, subject_runs(run, blocks) as runs:
        result, curve = run_and_assemble(
            "train_oneshot", steps, items, assemble, compute=compute, things="models", listener=runs
        )
        run.log_fan_out(result)
        for step in steps:
            run.log_assets(step.assets)
        for name in result.entries:
            with runs.finished(name, curve) as child:
                for picture in PICTURES.glob("*.png"):
                    child.log_bytes(picture.read_bytes(), PROGRESS)


if __name__ == "__main__":
    run_stage(main)
