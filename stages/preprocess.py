"""Frames, landmarks and tracks of every clip in the catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipelines import tables
from pipelines.atomic import write_bytes_atomic
from pipelines.fanout import FanOutResult, run_and_assemble
from pipelines.frames import write_frames
from pipelines.main import run_stage
from pipelines.params import load_params
from pipelines.preprocess import clip_items, preprocess_steps
from pipelines.runs import stage_run
from pipelines.subject import FRAMES_FOLDER, TRACKS_FOLDER

METRICS = Path("metrics/preprocess.json")
CATALOG = Path("data/catalog/catalog.parquet")


def encoded_segments(result: FanOutResult) -> Iterator[tuple[str, pa.Table]]:
    """(clip_id, frames) of every segment in order, one in memory at a time."""
    for clip_id in result.entries:
        observed = result.entries[clip_id][0]
        for number, segment in enumerate(observed.summary["segments"]):
            yield segment["clip_id"], observed.read_table(f"frames-{number}")


def assemble(result: FanOutResult) -> dict[str, float]:
    """Writes data/frames, data/tracks and the figures."""
    write_frames(FRAMES_FOLDER, encoded_segments(result))
    kinds = {"landmarks": tables.LANDMARKS, "tracks": tables.TRACKS, "identities": tables.IDENTITIES}
    parts: dict[str, list[pa.Table]] = {name: [schema.empty_table()] for name, schema in kinds.items()}
    segments = []
    for observed, fitted in result.entries.values():
        for number, row in enumerate(fitted.summary["segments"]):
            parts["landmarks"].append(observed.read_table(f"landmarks-{number}"))
            parts["tracks"].append(fitted.read_table(f"tracks-{number}"))
            parts["identities"].append(fitted.read_table(f"identity-{number}"))
            segments.append(row)
    for name, schema in kinds.items():
        tables.write_table(pa.concat_tables(parts[name]), schema, TRACKS_FOLDER / f"{name}.parquet")
    tables.write_table(
        pa.Table.from_pylist(segments, schema=tables.SEGMENTS), tables.SEGMENTS, TRACKS_FOLDER / "segments.parquet"
    )
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
        result, figures = run_and_assemble(
            "preprocess",
            preprocess_steps(params),
            clip_items(catalog),
            assemble,
            compute=params.compute,
            things="clips",
        )
        run.log_fan_out(result, fps=sum(catalog["fps"].to_pylist()) / max(catalog.num_rows, 1))
        run.log_metrics(figures)


if __name__ == "__main__":
    run_stage(main)
