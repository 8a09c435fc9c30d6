"""Frames, landmarks and tracks of every clip in the catalog."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from pipelines import tables
from pipelines.atomic import write_bytes_atomic
from pipelines.fanout import FanOutResult, Item, Step, run_and_assemble
from pipelines.heads import load_head
from pipelines.main import run_stage
from pipelines.params import Compute, load_params
from pipelines.preprocess import clip_items, preprocess_steps, together_step
from pipelines.preprocess.assemble import write_head, write_outs
from pipelines.preprocess.together import FIT_TOGETHER, camera_groups
from pipelines.runs import stage_run
from pipelines.subject import CATALOG_FILE, TRACKS_FOLDER

METRICS = Path("metrics/preprocess.json")


def fit_groups(step: Step, groups: list[Item], compute: Compute, result: FanOutResult) -> tuple[FanOutResult, dict[str, float]]:
    """Fits what several cameras filmed, then assembles: (what became of the groups, the figures)."""
    if not groups:
        none = FanOutResult(FIT_TOGETHER, [step])
        return none, assemble(result, none)
    return run_and_assemble(
        FIT_TOGETHER,
        [step],
        groups,
        lambda together: assemble(result, together),
        compute=compute,
        things="groups of cameras",
        may_all_fail=True,  # their clips have fits of their own
    )


def assemble(result: FanOutResult, together: FanOutResult) -> dict[str, float]:
    """Writes data/frames, data/tracks and the figures."""
    segments = write_outs(result, together)
    failures = pa.concat_tables([result.quarantine_table(), together.quarantine_table()])
    tables.write_table(failures, tables.QUARANTINE, TRACKS_FOLDER / "quarantine.parquet")

    frames = sum(row["num_frames"] for row in segments)
    figures = {
        "clips": len(result.entries),
        "quarantined": len(result.quarantined),
        "groups": len(together.entries),
        "groups_quarantined": len(together.quarantined),
        "segments": len(segments),
        "segments_passed": sum(row["passed"] for row in segments),
        "frames": frames,
        "frames_good": sum(row["num_good"] for row in segments),
        "mean_reprojection": round(sum(row["reprojection"] * row["num_frames"] for row in segments) / max(frames, 1), 5),
        "mean_jitter": round(sum(row["jitter"] * row["num_frames"] for row in segments) / max(frames, 1), 5),
    }
    write_bytes_atomic(METRICS, (json.dumps(figures, indent=1) + "\n").encode())
    return figures


def main() -> None:
    params = load_params()
    with stage_run("preprocess", params) as run:
        catalog = tables.read_table(CATALOG_FILE, tables.CATALOG)
        head = load_head(params.preprocess.head, params.preprocess.head_file)
        write_head(head)
        step = together_step(params, head)
        result, (together, figures) = run_and_assemble(
            "preprocess",
            preprocess_steps(params),
            clip_items(catalog, params.preprocess),
            lambda result: fit_groups(step, camera_groups(catalog, result)[0], params.compute, result),
            compute=params.compute,
            things="clips",
        )
        for clip_id, (observed, _) in sorted(result.entries.items()):
            frames = observed.summary["frames"]
            if frames["decoded"] == params.preprocess.max_frames:
                print(f"preprocess: {clip_id}: the first {frames['decoded']} frames of {frames['in_clip']}; see max_frames")
        in_groups = {clip for group in together.entries for clip in together.last(group).summary["members"]}
        for clip_id, (_, fitted) in sorted(result.entries.items()):
            for row in fitted.summary["segments"]:
                if params.preprocess.fit_photometric and not row["refined"] and clip_id not in in_groups:
                    print(f"preprocess: {row['clip_id']}: its pictures did not help; the fit to landmarks is kept")
        for line in camera_groups(catalog, result)[1]:
            print(f"preprocess: {line}")
        for failure in together.quarantined:
            print(f"preprocess: {failure.item} could not be fitted as one ({failure.reason}); its clips keep fits of their own")
        if together.entries or together.quarantined:
            run.log_fan_out(together, prefix="together.")
        kept_fps = [min(fps, params.preprocess.max_fps) for fps in catalog["fps"].to_pylist()]
        run.log_fan_out(result, fps=sum(kept_fps) / max(len(kept_fps), 1))
        run.log_metrics(figures)


if __name__ == "__main__":
    run_stage(main)
