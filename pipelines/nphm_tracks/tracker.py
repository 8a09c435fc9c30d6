"""The item function of the track_nphm stage: all clips of a subject, with one identity.

A clip's own fit of a linear head gives the surface that is fitted, and the cameras; the neural head's pose is what it differs
from that head's by. Cameras that saw the same performance share its codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar_models.cameras import Camera, project
from avatar_models.heads.embedding import LandmarkEmbedding
from avatar_models.heads.nphm import Codes
from avatar_models.heads.nphm.carried import carried, places_at_rest
from avatar_models.heads.nphm.poses import Poses
from avatar_models.heads.nphm.storage import read_nphm
from avatar_models.heads.nphm.tracking import TrackingOptions, track
from avatar_models.model_folder import TENSORS
from avatar_models.tracking.landmark_head import view_terms
from avatar_models.tracking.quality import reprojection_error
from pipelines import tables
from pipelines.atomic import sha256_file
from pipelines.cache import Entry, EntryWriter
from pipelines.fanout import Item
from pipelines.keys import digest
from pipelines.nphm_tracks.surfaces import Performance, clouds_of, joined, landmarks_of
from pipelines.subject import Tables, clip_tracks, read_tables
from pipelines.tracked import clip_landmarks

VERSION = 1
HEAD = "nphm"


@dataclass(frozen=True)
class Solved:
    """A performance on the neural head. F frames."""

    codes: Codes  # of one identity
    poses: Poses  # of the neural head in the linear head's frame
    misfit: Tensor  # (F,) metres
    landmarks: Tensor  # (F, 478, 3) the detector's points on it, in the linear head's frame


class NphmTracker:
    """Tracks one subject per call, with the prior of a folder. Raises ModelError for a prior that cannot be read."""

    def __init__(self, params: Mapping[str, Any], prior: str, root: Path = Path()) -> None:
        self.options = TrackingOptions(key_frames=params["key_frames"], smoothness=params["smoothness"])
        self.max_misfit, self.min_frames, self.seed = params["max_misfit"], params["min_frames"], params["seed"]
        self.root, self.prior = root, Path(prior)
        self.stored = read_nphm(self.prior)
        self.stored.model.eval()
        self.prior_hash = sha256_file(self.prior / TENSORS)
        self.data = read_tables(root)
        self.head = self.data.head()

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        clips = clips_of(self.data, item.id)
        of_clip = {clip: self.performance(clip) for clip in clips}
        solved = self.solved(list({one.key: one for one in of_clip.values()}.values()))
        segments = [self.write(clip, solved[of_clip[clip].key], out) for clip in clips]
        misfit = torch.cat([one.misfit for one in solved.values()])
        return {"segments": segments, "misfit_mm": round(1e3 * float(misfit.mean()), 3)}

    def performance(self, clip: str) -> Performance:
        rows = self.data.identities.filter(pc.equal(self.data.identities["clip_id"], clip))
        identity = torch.tensor(rows["identity"][0].as_py(), dtype=torch.float32)
        return Performance.of(clip_tracks(self.data.tracks, clip), identity)

    def solved(self, performances: list[Performance]) -> dict[bytes, Solved]:
        """All performances with one identity, by their keys."""
        model = self.stored.model
        clouds = joined([clouds_of(self.head, one, self.seed + number) for number, one in enumerate(performances)])
        tracked = track(model, clouds, Poses.still(len(clouds)), self.options, self.seed)
        points = torch.cat([landmarks_of(self.head, one) for one in performances])
        at_rest = places_at_rest(model, tracked.codes, tracked.poses, points)
        places = carried(model, tracked.codes, tracked.poses, at_rest)
        found, first = {}, 0
        for one in performances:
            frames = slice(first, first + len(one))
            codes = Codes(tracked.codes.geometry, tracked.codes.appearance, tracked.codes.expression[frames])
            found[one.key] = Solved(codes, tracked.poses[frames], tracked.misfit[frames], places[frames])
            first += len(one)
        return found

    def write(self, clip: str, solved: Solved, out: EntryWriter) -> dict[str, Any]:
        """Writes tracks-CLIP and identity-CLIP; returns the segment's row."""
        rows = self.data.tracks.filter(pc.equal(self.data.tracks["clip_id"], clip)).sort_by("frame")
        viewmat = np.array(rows["viewmat"].to_pylist(), np.float32).reshape(-1, 4, 4)
        camera = Camera(
            torch.tensor(rows["K"].to_pylist()).reshape(-1, 3, 3), torch.from_numpy(viewmat), 1, 1
        )  # pixels of the crop, whatever its size
        reprojection = self.reprojection(clip, camera, solved.landmarks)
        good = np.array(rows["good"].to_pylist()) & (solved.misfit.numpy() <= self.max_misfit)
        count = len(good)
        changed = {
            "viewmat": moved(viewmat, solved.poses).reshape(count, 16).tolist(),
            "neck": [[0.0] * 3] * count,
            "jaw": [[0.0] * 3] * count,
            "eyes": [[0.0] * 6] * count,
            "expression": solved.codes.expression.tolist(),
            "reprojection": reprojection.astype(np.float32),
            "good": good,
            "head": [HEAD] * count,
            "head_hash": [self.prior_hash] * count,
        }
        tracks = pa.table({**{name: rows[name] for name in rows.column_names}, **changed}, schema=tables.TRACKS)
        out.write_table(f"tracks-{clip}", tracks)
        (segment,) = self.data.segments.filter(pc.equal(self.data.segments["clip_id"], clip)).to_pylist()
        identity = {
            "subject_id": [segment["subject_id"]],
            "clip_id": [clip],
            "head": [HEAD],
            "head_hash": [self.prior_hash],
            "identity": [solved.codes.geometry[0].tolist()],
        }
        out.write_table(f"identity-{clip}", pa.table(identity, schema=tables.IDENTITIES))
        reason = "" if good.sum() >= self.min_frames else f"frames: {good.sum()} good frames, {self.min_frames} are wanted"
        made = [segment["fingerprint"], *(out.files[f"{name}-{clip}"]["sha256"] for name in ("tracks", "identity"))]
        return {
            **segment,
            "num_good": int(good.sum()),
            "reprojection": float(np.median(reprojection)),
            "passed": not reason,
            "reason": reason,
            "fingerprint": digest([*made, not reason]),
        }

    def reprojection(self, clip: str, camera: Camera, landmarks: Tensor) -> NDArray[np.float64]:
        """Median distance (F,) of the head's landmarks to the detected ones, as preprocess measures it."""
        detected = clip_landmarks(self.root, [clip]).sort_by("frame")
        points = np.array(detected["points"].to_pylist(), np.float64).reshape(len(landmarks), -1, 3)
        shown = landmarks + shown_beside(self.head.embedding, camera.viewmat)
        return reprojection_error(project(shown, camera).double().numpy(), points)


def clips_of(data: Tables, subject: str) -> list[str]:
    """A subject's segments that passed, in order."""
    rows = data.segments.filter(pc.and_(pc.equal(data.segments["subject_id"], subject), data.segments["passed"]))
    return sorted(rows["clip_id"].to_pylist())


def shown_beside(embedding: LandmarkEmbedding, viewmat: Tensor) -> Tensor:
    """How far from their places (F, 478, 3) on the surface the detector shows landmarks to cameras (F, 4, 4), metres."""
    view = viewmat.double().numpy()
    terms = torch.from_numpy(view_terms(view[:, :3, :3], view[:, :3, 3])).float()
    return embedding.offsets + torch.einsum("ft,tlk->flk", terms, embedding.slides)


def moved(viewmat: NDArray[np.float32], poses: Poses) -> NDArray[np.float32]:
    """Cameras (F, 4, 4) of a head whose poses are given in the frame that `viewmat` is of."""
    pose = np.tile(np.eye(4, dtype=np.float32), (len(viewmat), 1, 1))
    pose[:, :3, :3], pose[:, :3, 3] = poses.rotation.numpy(), poses.translation.numpy()
    return viewmat @ pose
