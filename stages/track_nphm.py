"""The neural head of every tracked clip."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.atomic import write_bytes_atomic
from pipelines.fanout import FanOutResult, run_and_assemble
from pipelines.main import run_stage
from pipelines.nphm_tracks.assemble import write_tracks
from pipelines.nphm_tracks.items import tracking_items, tracking_step
from pipelines.params import load_params
from pipelines.runs import stage_run
from pipelines.schedule import AS_LONG_AS_IT_TAKES_S
from pipelines.subject import NPHM_PRIOR

METRICS = Path("metrics/track_nphm.json")


def assemble(result: FanOutResult, min_frames: int) -> dict[str, float]:
    """Writes data/tracks_nphm and the figures."""
    segments = write_tracks(result, min_frames)
    for row in segments:
        if not row["passed"]:
            print(f"track_nphm: {row['clip_id']} did not pass: {row['reason']}")
    frames = sum(row["num_frames"] for row in segments)
    mean = {
        name: round(sum(row[name] * row["num_frames"] for row in segments) / max(frames, 1), 5)
        for name in ("reprojection", "fit_reprojection")
    }
    misfits = [result.last(name).summary["misfit_mm"] for name in result.entries]
    figures = {
        "subjects": len(result.entries),
        "quarantined": len(result.quarantined),
        "segments_passed": sum(row["passed"] for row in segments),
        "steps": sum(result.last(name).summary["steps"] for name in result.entries),
        "steps_without_cloud": sum(result.last(name).summary["without_cloud"] for name in result.entries),
        "frames": frames,
        "frames_good": sum(row["num_good"] for row in segments),
        "mean_misfit_mm": round(sum(misfits) / max(len(misfits), 1), 3),
        "mean_reprojection": mean["reprojection"],
        "mean_fit_reprojection": mean["fit_reprojection"],
    }
    left = [both for name in result.entries for both in result.last(name).summary["unexplained"].values() if both]
    if left:
        figures |= {
            f"mean_unexplained_{when}": round(sum(both[place] for both in left) / len(left), 4)
            for place, when in enumerate(("before", "after"))
        }
    write_bytes_atomic(METRICS, (json.dumps(figures, indent=1) + "\n").encode())
    return figures


def main() -> None:
    params = load_params()
    items = tracking_items(params)
    if not items:
        print(f"{NPHM_PRIOR} holds no prior (train_nphm.steps is 0?): no clip is tracked with a neural head")
    steps = [tracking_step(params)] if items else []
    compute = params.compute.model_copy(update={"item_timeout_s": AS_LONG_AS_IT_TAKES_S})
    with stage_run("track_nphm", params) as run:
        result, figures = run_and_assemble(
            "track_nphm",
            steps,
            items,
            lambda result: assemble(result, params.preprocess.gates.min_frames),
            compute=compute,
            things="subjects",
        )
        for subject in result.entries:
            for clip in result.last(subject).summary["alone"]:
                print(f"track_nphm: {clip}: no other calibrated camera saw it; its linear head's surface is fitted")
            for clip, both in result.last(subject).summary["unexplained"].items():
                if not both:
                    print(f"track_nphm: {clip}: the fitted face explains its pictures too little, or no better: no change")
        run.log_fan_out(result)
        run.log_metrics(figures)


if __name__ == "__main__":
    run_stage(main)
