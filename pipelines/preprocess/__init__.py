"""From a catalog row to frames, landmarks and tracks: `observe` and `fit`, two steps of one fan-out over clips, and
`fit_together`, a second fan-out over what several known cameras filmed at the same time.

The rules for cuts, gaps, several faces and small ones are in docs/preprocess.md.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from avatar_models.heads.interface import Head
from avatar_models.tracking.landmarker_file import LandmarkerError, read_landmarker
from pipelines.cache import absolute_uri
from pipelines.fanout import Item, Step
from pipelines.heads import load_head
from pipelines.lineage import detector_hashes
from pipelines.params import Params, Preprocess
from pipelines.preprocess.fit import VERSION as FIT_VERSION
from pipelines.preprocess.fit import FitClip
from pipelines.preprocess.observe import VERSION as OBSERVE_VERSION
from pipelines.preprocess.observe import ObserveClip
from pipelines.preprocess.together import FIT_TOGETHER, FitTogether
from pipelines.preprocess.together import VERSION as TOGETHER_VERSION

OBSERVE_PARAMS = ("max_fps", "max_frames", "jpeg_quality", "cut_threshold", "max_gap_s", "crop")
TOGETHER_PARAMS = ("head", "fit_iterations", "fit_smoothness", "gates")
FIT_PARAMS = (*TOGETHER_PARAMS, "fit_photometric")


def clip_items(catalog: pa.Table, options: Preprocess) -> list[Item]:
    """An item for each clip of the catalog."""
    items = []
    for row in catalog.to_pylist():
        facts = {
            name: row[name]
            for name in ("clip_id", "subject_id", "camera_id", "source", "frame_start", "frame_end", "crop", "split")
        }
        # The ids go into the tables, so two clips of equal content are two items.
        fingerprint = f"{row['fingerprint']}:{row['clip_id']}:{row['subject_id']}:{row['camera_id']}:{row['split']}"
        items.append(Item(row["clip_id"], fingerprint, facts, row["source"], frames_to_keep(row, options)))
    return items


def frames_to_keep(row: Mapping[str, Any], options: Preprocess) -> int:
    """About how many frames of a catalog row are worked on, at its mean rate."""
    frames = int(row["frame_end"] - row["frame_start"])
    thinned = math.ceil(frames * min(1.0, options.max_fps / row["fps"])) if row["fps"] > 0 else frames
    return min(thinned, options.max_frames)


def landmarker_hash(file: str) -> str:
    """sha256 of preprocess.landmarker_file. Raises LandmarkerError."""
    try:
        return hashlib.sha256(read_landmarker(Path(file))).hexdigest()
    except LandmarkerError as error:
        raise LandmarkerError(f"preprocess.landmarker_file {error}") from None


def preprocess_steps(params: Params) -> list[Step]:
    """The two steps, each with the parameters that its result depends on."""
    block = params.preprocess.as_key()
    head = load_head(params.preprocess.head, params.preprocess.head_file)
    observe = {name: block[name] for name in OBSERVE_PARAMS}
    fit = {name: block[name] for name in FIT_PARAMS}
    buffer_bytes = params.preprocess.frame_buffer_mb * 1024**2
    task = params.preprocess.landmarker_file
    task_hash = landmarker_hash(task) if task else ""
    observe_clip = partial(ObserveClip, buffer_bytes=buffer_bytes, landmarker_file=task, landmarker_hash=task_hash)
    fit_clip = partial(FitClip, head_file=params.preprocess.head_file, head_hash=head.hash())
    # The buffer changes no result, and where a file lies neither, so these are kept out of the keys.
    return [
        Step(
            "observe",
            OBSERVE_VERSION,
            observe_clip,
            observe,
            params.compute.decode,
            detector_hashes() | ({"face_landmarker": task_hash} if task else {}),
        ),
        Step(
            "fit",
            FIT_VERSION,
            fit_clip,
            fit,
            params.compute.fit,
            {head.name: head.hash()},
        ),
    ]


def together_step(params: Params, head: Head) -> Step:
    """The step of groups of cameras, like `preprocess_steps`; `head` is the one that the parameters name."""
    block = params.preprocess.as_key()
    worker = partial(
        FitTogether,
        cache_uri=absolute_uri(params.compute.cache),
        head_file=params.preprocess.head_file,
        head_hash=head.hash(),
    )
    wanted = {name: block[name] for name in TOGETHER_PARAMS}
    return Step(FIT_TOGETHER, TOGETHER_VERSION, worker, wanted, params.compute.fit, {head.name: head.hash()})
