"""Frames, landmarks and tracks of every clip in the catalog."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines import tables
from pipelines.atomic import write_bytes_atomic
from pipelines.fanout import FanOutResult, run_and_assemble
from pipelines.heads import load_head
from pipelines.main import run_stage
from pipelines.params import load_params
from pipelines.preprocess import clip_items, preprocess_steps
from pipelines.preprocess.assemble import write_head, write_outs
from pipelines.runs import stage_run
from pipelines.subject import TRACKS_FOLDER

METRICS = Path("metrics/preprocess.json")
CATALOG = Path("data/catalog/catalog.parquet")


def assemble(result: FanOutResult) -> dict[str, float]:
    """Writes data/frames, data/tracks and the figures."""
    segments = write_outs(result)
    tables.write_table(result.quarantine_table(), tables.QUARANTINE, TRACKS_FOLDER / "quarantine.parquet")

    frames = sum(row["num_frames"] for row in segments)
    figures = {
        "clips": len(result.entries),
        "quarantined": len(result.quarantined),
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
        catalog = tables.read_table(CATALOG, tables.CATALOG)
        write_head(load_head(params.preprocess.head, params.preprocess.head_file))
        result, figures = run_and_assemble(
            "preprocess",
            preprocess_steps(params),
            clip_items(catalog, params.preprocess),
            assemble,
            compute=params.compute,
            things="clips",
        )
        for clip_id, (observed, _) in sorted(result.entries.items()):
            frames = observed.summary["frames"]
            if frames["decoded"] == params.preprocess.max_frames:
                print(f"preprocess: {clip_id}: the first {frames['decoded']} frames of {frames['in_clip']}; see max_frames")
        for row in (row for _, fitted in result.entries.values() for row in fitted.summary["segments"]):
            if params.preprocess.fit_photometric and not row["refined"]:
                print(f"preprocess: {row['clip_id']}: its pictures did not help; the fit to landmarks is kept")
        kept_fps = [min(fps, params.preprocess.max_fps) for fps in catalog["fps"].to_pylist()]
        run.log_fan_out(result, fps=sum(kept_fps) / max(len(kept_fps), 1))
        run.log_metrics(figures)


if __name__ == "__main__":
    run_stage(main)
