"""The second step of preprocess: fit the head to each segment's landmarks, measure, and judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from threadpoolctl import threadpool_limits

from avatar_models.tracking.fit import fit_clip
from avatar_models.tracking.quality import Limits, clip_verdict, coverage, good_frames, jitter
from pipelines import tables
from pipelines.cache import Entry, EntryWriter
from pipelines.fanout import Item
from pipelines.frames import decode_frame
from pipelines.heads import HeadError, load_head
from pipelines.keys import digest

VERSION = 4


class FitClip:
    """Fits one clip's segments per call."""

    def __init__(self, params: Mapping[str, Any], head_file: str, head_hash: str) -> None:
        """Raises HeadError where this machine's head is not the one, of that hash, that the results are kept under."""
        self.head, self.head_hash = load_head(params["head"], head_file), head_hash
        if self.head.hash() != head_hash:
            raise HeadError(f"preprocess.head_file {head_file}: holds another head here than where the run began")
        self.iterations, self.smoothness = int(params["fit_iterations"]), float(params["fit_smoothness"])
        self.photometric = bool(params["fit_photometric"])
        torch.set_num_threads(1)
        self.limits = Limits(**params["gates"])

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        assert upstream is not None
        with threadpool_limits(1):  # sums in another order with each number of threads, and so other bits
            return self.fit(item, upstream, out)

    def fit(self, item: Item, upstream: Entry, out: EntryWriter) -> dict[str, Any]:
        source_size = tuple(upstream.summary["source_size"])
        rows = [
            self.segment(item, upstream, number, facts, source_size, out)
            for number, facts in enumerate(upstream.summary["segments"])
        ]
        return {"segments": rows}

    def segment(
        self, item: Item, upstream: Entry, number: int, facts: Mapping[str, Any], source_size: Any, out: EntryWriter
    ) -> dict[str, Any]:
        """Writes tracks-{number} and identity-{number}; returns the segment's row."""
        frames, landmarks = upstream.read_table(f"frames-{number}"), upstream.read_table(f"landmarks-{number}")
        count = frames.num_rows
        points = np.array(landmarks["points"].to_pylist(), np.float32).reshape(count, -1, 3)
        crop = np.array(frames["crop"].to_pylist(), np.float32)
        batch = frames.combine_chunks().to_batches()[0]
        size = len(decode_frame(batch, 0).image)
        pictures = np.stack([decode_frame(batch, row).image for row in range(count)]) if self.photometric else None
        fit = fit_clip(
            self.head, points, crop, source_size, iterations=self.iterations, smoothness=self.smoothness,
            times=frames["time"].to_numpy(), pictures=pictures, blendshapes=_scores(landmarks),
        )  # fmt: skip
        # The detector is sure of a face behind a hand, too: what the head does not agree with is no ground to train on.
        confidence = (landmarks["confidence"].to_numpy() * fit.inliers).astype(np.float32)
        indices = frames["frame"].to_numpy()
        shake = jitter(points, _rows_without_gaps(frames["time"].to_numpy()))
        good = good_frames(fit.reprojection, confidence, self.limits)
        tracks = {
            "clip_id": frames["clip_id"],
            "frame": indices,
            "time": frames["time"],
            "K": fit.K.reshape(count, -1).tolist(),
            "viewmat": fit.viewmat.reshape(count, -1).tolist(),
            "neck": fit.neck.tolist(),
            "jaw": fit.jaw.tolist(),
            "eyes": fit.eyes.tolist(),
            "expression": fit.expression.tolist(),
            "reprojection": fit.reprojection.astype(np.float32),
            "jitter": shake.astype(np.float32),
            "coverage": coverage(points, size).astype(np.float32),
            "confidence": confidence,
            "good": good,
            "head": [self.head.name] * count,
            "head_hash": [self.head_hash] * count,
        }
        out.write_table(f"tracks-{number}", pa.table(tracks, schema=tables.TRACKS))
        identity = {
            "subject_id": [item.payload["subject_id"]],
            "clip_id": [facts["clip_id"]],
            "head": [self.head.name],
            "head_hash": [self.head_hash],
            "identity": [fit.identity.tolist()],
        }
        out.write_table(f"identity-{number}", pa.table(identity, schema=tables.IDENTITIES))
        times = frames["time"].to_numpy()
        reason = clip_verdict(good, shake, facts["coverage"], self.limits)
        made = [
            upstream.files[f"frames-{number}"],
            upstream.files[f"landmarks-{number}"],
            out.files[f"tracks-{number}"],
            out.files[f"identity-{number}"],
        ]
        return {
            "clip_id": facts["clip_id"],
            "catalog_clip_id": item.payload["clip_id"],
            "subject_id": item.payload["subject_id"],
            "camera_id": item.payload["camera_id"],
            "split": item.payload["split"],
            "frame_start": int(indices[0]),
            "frame_end": int(indices[-1]) + 1,
            "fps": float((count - 1) / (times[-1] - times[0])) if count > 1 else 0.0,
            "num_frames": count,
            "num_good": int(good.sum()),
            "reprojection": float(np.median(fit.reprojection)),
            "jitter": float(np.median(shake)),
            "coverage": float(facts["coverage"]),
            "passed": not reason,
            "reason": reason,
            "fingerprint": digest([*(file["sha256"] for file in made), item.payload["split"], not reason]),
        }


def _scores(landmarks: pa.Table) -> np.ndarray | None:
    """The detector's scores (N, 52) of expression, where it gives them."""
    column = landmarks["blendshapes"]
    return None if column.null_count else np.array(column.to_pylist(), np.float32)


def _rows_without_gaps(times: np.ndarray) -> np.ndarray:
    """Numbers frames by their times in units of the usual interval, so that a lost frame shows as a step of two."""
    if len(times) < 2:
        return np.zeros(len(times), np.int64)
    usual = np.median(np.diff(times))
    return np.round((times - times[0]) / usual).astype(np.int64) if usual > 0 else np.arange(len(times))
