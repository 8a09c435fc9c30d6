"""What the page shows, read from the outs of the stages before."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines import tables
from pipelines.csim_asset import read_csim_record
from pipelines.dotted import flatten
from pipelines.evaluation import PAIR
from pipelines.judging import METRICS_SCHEMA
from pipelines.lineage import detector_hashes, package_versions
from pipelines.methods import HEADGAS
from pipelines.params import Params
from pipelines.report.charts import Line, line_chart
from pipelines.report.embed import data_uri
from pipelines.report.figures import face_tables, written
from pipelines.report.npga import npga_section
from pipelines.report.oneshot import oneshot_section
from pipelines.report.sweeps import sweep_sections
from pipelines.report.tracking import segment_cards
from pipelines.subject import CATALOG_FILE, read_tables
from pipelines.video_facts import claims_another_rate

EVALUATION = HEADGAS.evaluation
QUARANTINES = (
    "data/catalog", "data/tracks", "models/headgas", "models/oneshot", "models/nphm", "data/tracks_nphm", "models/nphm_forward",
    "models/npga", "data/evaluation", "data/evaluation_oneshot", "data/evaluation_npga",
)  # fmt: skip


def gather(params: Params) -> dict[str, Any]:
    """All values of the page's template."""
    data = read_tables()
    catalog = tables.read_table(CATALOG_FILE, tables.CATALOG)
    figures = json.loads(HEADGAS.metrics.read_text())
    of_subject = json.loads(HEADGAS.subjects.read_text())
    subjects = sorted(of_subject)
    shown = subjects[: params.report.max_subjects]
    preprocess = json.loads(Path("metrics/preprocess.json").read_text())
    csim = read_csim_record(EVALUATION)
    return {
        "title": params.report.title,
        "headline": headline(catalog, preprocess, figures, len(subjects)),
        "heroes": [
            (subject, data_uri(EVALUATION / "videos" / f"{subject}.mp4", "video/mp4"), of_subject[subject]) for subject in shown
        ],
        "hidden": len(subjects) - len(shown),
        "cross": cross_videos(shown),
        "pairs": len(subjects) * (len(subjects) - 1),
        "clips": [clip_row(row) for row in catalog.to_pylist()],
        "segments": list(segment_cards(data, params.report.max_subjects)),
        "num_segments": data.segments.num_rows,
        "quarantine": quarantine_rows(),
        "curves": learning_curves(shown),
        "psnr_chart": psnr_chart(shown),
        "subjects": [(subject, of_subject[subject]) for subject in subjects],
        "overall": figures,
        "faces": face_tables(of_subject, figures, csim),
        "csim": csim,
        "oneshot": oneshot_section(params.report.max_subjects),
        "npga": npga_section(params.report.max_subjects),
        "sweeps": sweep_sections(),
        "params": sorted(
            flatten(
                {name: block for name, block in params.model_dump(mode="json").items() if name not in ("compute", "tracking")}
            ).items()
        ),
        "packages": sorted(package_versions().items()),
        "assets": sorted(detector_hashes().items()),
    }


def headline(catalog: pa.Table, preprocess: dict[str, Any], figures: dict[str, Any], avatars: int) -> list[tuple[str, str]]:
    """(figure, what it is), most telling first."""
    seconds = sum((row["frame_end"] - row["frame_start"]) / row["fps"] for row in catalog.to_pylist() if row["fps"] > 0)
    share = preprocess["frames_good"] / preprocess["frames"] if preprocess["frames"] else 0.0
    return [
        (str(avatars), "avatars"),
        *([(f"{figures['psnr']:.1f} dB", "PSNR on frames never seen")] if figures else []),
        (str(preprocess["clips"]), "clips tracked"),
        (f"{seconds:.0f} s", "of video"),
        (f"{share:.0%}", "of the tracked frames good"),
        (f"{preprocess['mean_reprojection'] * 100:.1f} %", "landmark error over eye distance"),
    ]


def cross_videos(shown: list[str]) -> list[tuple[str, str, str, str]]:
    """(target, driver, video, mouth correlation) of the pairs whose avatar is shown, those of an avatar beside each other."""
    figures, found = json.loads(HEADGAS.pairs.read_text()), []
    for path in sorted((EVALUATION / "cross").glob("*/*.mp4")):
        target, driver = path.parent.name, path.stem
        if target in shown:
            mouth = written(figures[f"{target}{PAIR}{driver}"], "mouth_correlation", "{:.2f}")
            found.append((target, driver, data_uri(path, "video/mp4"), mouth))
    return found


def clip_row(row: dict[str, Any]) -> dict[str, Any]:
    frames = row["frame_end"] - row["frame_start"]
    notes = []
    if row["frames_header"] not in (0, row["frames_found"]):
        notes.append(f"header promises {row['frames_header']} frames, {row['frames_found']} found")
    if row["variable_rate"]:
        notes.append("variable rate")
    elif claims_another_rate(row["fps_header"], row["fps"]):
        notes.append(f"header says {row['fps_header']:.2f} fps")
    if row["rotation"]:
        notes.append(f"turned by {row['rotation']}°")
    return {**row, "frames": frames, "seconds": frames / row["fps"] if row["fps"] else 0.0, "notes": ", ".join(notes)}


def quarantine_rows() -> list[dict[str, Any]]:
    rows = []
    for folder in QUARANTINES:
        path = Path(folder) / "quarantine.parquet"
        if path.exists():
            rows += tables.read_table(path, tables.QUARANTINE).to_pylist()
    return rows


def read_csv(path: Path, shown: list[str]) -> dict[str, list[dict[str, str]]]:
    by_subject: dict[str, list[dict[str, str]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["subject"] in shown:
                by_subject[row["subject"]].append(row)
    return by_subject


def learning_curves(shown: list[str]) -> Any:
    rows = read_csv(Path("plots/headgas_curves.csv"), shown)
    lines = [
        Line(name, [float(row["step"]) for row in found], [float(row["loss"]) for row in found]) for name, found in rows.items()
    ]
    return line_chart(lines, "step", "loss")


def psnr_chart(shown: list[str]) -> Any:
    table = tables.read_table(EVALUATION / "metrics.parquet", METRICS_SCHEMA).to_pylist()
    lines = []
    for subject in shown:
        rows = [row for row in table if row["subject_id"] == row["driver_id"] == subject]
        lines.append(Line(subject, list(range(1, len(rows) + 1)), [row["psnr"] for row in rows]))
    return line_chart(lines, "held-out frame", "PSNR in dB")
