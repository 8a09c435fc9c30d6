"""One segment as `observe` stored it, and its fit measured, judged and written: the same for one camera and for several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from avatar_models.heads.interface import Head
from avatar_models.tracking.fit import ClipFit
from avatar_models.tracking.quality import Limits, clip_verdict, coverage, good_frames, jitter
from pipelines import tables
from pipelines.cache import Entry, EntryWriter
from pipelines.frames import decode_frame
from pipelines.heads import HeadError, load_head
from pipelines.keys import digest


@dataclass(frozen=True)
class SeenSegment:
    """What `observe` found of one segment of a clip. N frames."""

    clip: Mapping[str, Any]  # clip_id, subject_id, camera_id, split of the catalog
    clip_id: str  # of the segment
    coverage: float  # share of its frames that show the face
    size: int  # side of the stored crops in pixels
    indices: NDArray[np.int64]  # (N,) in the video
    times: NDArray[np.float64]  # (N,) seconds
    crop: NDArray[np.float32]  # (N, 3)
    points: NDArray[np.float32]  # (N, 478, 3) crop pixels
    confidence: NDArray[np.float32]  # (N,) the detector's
    blendshapes: NDArray[np.float32] | None  # (N, 52) the detector's scores of expression, where it gives them
    digests: tuple[str, str]  # sha256 of the stored frames and landmarks


def read_segment(clip: Mapping[str, Any], observed: Entry, number: int) -> SeenSegment:
    """A segment of a clip from its `observe` entry; the pictures are left where they are. Raises DamagedEntry."""
    facts = observed.summary["segments"][number]
    frames, landmarks = observed.read_table(f"frames-{number}"), observed.read_table(f"landmarks-{number}")
    return SeenSegment(
        clip=clip,
        clip_id=facts["clip_id"],
        coverage=float(facts["coverage"]),
        size=len(decode_frame(frames.combine_chunks().to_batches()[0], 0).image),
        indices=np.array(frames["frame"]),
        times=np.array(frames["time"]),
        crop=np.array(frames["crop"].to_pylist(), np.float32),
        points=np.array(landmarks["points"].to_pylist(), np.float32).reshape(frames.num_rows, -1, 3),
        confidence=np.array(landmarks["confidence"]),
        blendshapes=_scores(landmarks),
        digests=(observed.files[f"frames-{number}"]["sha256"], observed.files[f"landmarks-{number}"]["sha256"]),
    )


def stored_pictures(observed: Entry, number: int) -> NDArray[np.uint8]:
    """The crops (N, H, W, 3) of a segment. Raises DamagedEntry."""
    frames = observed.read_table(f"frames-{number}")
    batch = frames.combine_chunks().to_batches()[0]
    return np.stack([decode_frame(batch, row).image for row in range(frames.num_rows)])


@dataclass(frozen=True)
class FitWriter:
    """Writes fits of one head, judged by one set of limits."""

    head: Head
    head_hash: str
    limits: Limits

    @classmethod
    def of(cls, params: Mapping[str, Any], head_file: str, head_hash: str) -> FitWriter:
        """Raises HeadError where this machine's head is not the one, of that hash, that the results are kept under."""
        head = load_head(params["head"], head_file)
        if head.hash() != head_hash:
            raise HeadError(f"preprocess.head_file {head_file}: holds another head here than where the run began")
        return cls(head, head_hash, Limits(**params["gates"]))

    def write(
        self, seen: SeenSegment, fit: ClipFit, errors: NDArray[np.floating], out: EntryWriter, name: str
    ) -> dict[str, Any]:
        """Writes tracks-{name} and identity-{name}; returns the segment's row. By the errors (N,) frames are found good."""
        count = len(seen.times)
        # The detector is sure of a face behind a hand, too: what the head does not agree with is no ground to train on.
        confidence = (seen.confidence * fit.inliers).astype(np.float32)
        shake = jitter(seen.points, _rows_without_gaps(seen.times))
        good = good_frames(errors, confidence, self.limits)
        tracks = {
            "clip_id": [seen.clip_id] * count,
            "frame": seen.indices,
            "time": seen.times,
            "K": fit.K.reshape(count, -1).tolist(),
            "viewmat": fit.viewmat.reshape(count, -1).tolist(),
            "neck": fit.neck.tolist(),
            "jaw": fit.jaw.tolist(),
            "eyes": fit.eyes.tolist(),
            "expression": fit.expression.tolist(),
            "reprojection": fit.reprojection.astype(np.float32),
            "jitter": shake.astype(np.float32),
            "coverage": coverage(seen.points, seen.size).astype(np.float32),
            "confidence": confidence,
            "good": good,
            "head": [self.head.name] * count,
            "head_hash": [self.head_hash] * count,
        }
        out.write_table(f"tracks-{name}", pa.table(tracks, schema=tables.TRACKS))
        identity = {
            "subject_id": [seen.clip["subject_id"]],
            "clip_id": [seen.clip_id],
            "head": [self.head.name],
            "head_hash": [self.head_hash],
            "identity": [fit.identity.tolist()],
        }
        out.write_table(f"identity-{name}", pa.table(identity, schema=tables.IDENTITIES))
        reason = clip_verdict(good, shake, seen.coverage, self.limits)
        made = [*seen.digests, out.files[f"tracks-{name}"]["sha256"], out.files[f"identity-{name}"]["sha256"]]
        return {
            "clip_id": seen.clip_id,
            "catalog_clip_id": seen.clip["clip_id"],
            "subject_id": seen.clip["subject_id"],
            "camera_id": seen.clip["camera_id"],
            "split": seen.clip["split"],
            "frame_start": int(seen.indices[0]),
            "frame_end": int(seen.indices[-1]) + 1,
            "fps": float((count - 1) / (seen.times[-1] - seen.times[0])) if count > 1 else 0.0,
            "num_frames": count,
            "num_good": int(good.sum()),
            "reprojection": float(np.median(fit.reprojection)),
            "jitter": float(np.median(shake)),
            "coverage": seen.coverage,
            "passed": not reason,
            "reason": reason,
            "refined": fit.refined,
            "fingerprint": digest([*made, seen.clip["split"], not reason]),
        }


def _scores(landmarks: pa.Table) -> NDArray[np.float32] | None:
    column = landmarks["blendshapes"]
    return None if column.null_count else np.array(column.to_pylist(), np.float32)


def _rows_without_gaps(times: np.ndarray) -> np.ndarray:
    """Numbers frames by their times in units of the usual interval, so that a lost frame shows as a step of two."""
    if len(times) < 2:
        return np.zeros(len(times), np.int64)
    usual = np.median(np.diff(times))
    return np.round((times - times[0]) / usual).astype(np.int64) if usual > 0 else np.arange(len(times))
