"""The item function of the track_nphm stage: all clips of a subject, with one identity.

A subject is an item, not a sequence: all of its frames are of one head, whose code is found from some of each. Cameras that saw
the same performance share its codes; the neural head's pose is what it differs from the linear head's by, so each clip's track
gives its cameras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from avatar_models.heads.nphm.clouds import Clouds
from avatar_models.heads.nphm.linearised import FrameOptions
from avatar_models.heads.nphm.pictures import PictureOptions, follow_pictures
from avatar_models.heads.nphm.poses import Poses
from avatar_models.heads.nphm.shared_identity import States
from avatar_models.heads.nphm.storage import read_nphm
from avatar_models.heads.nphm.tracking import Tracked, TrackingOptions, follow_marks, misfit_at, track
from avatar_models.model_folder import TENSORS
from avatar_models.tracking.landmark_head import view_terms
from avatar_models.tracking.quality import IRISES, reprojection_error
from pipelines import tables
from pipelines.atomic import sha256_file
from pipelines.cache import Entry, EntryWriter
from pipelines.fanout import Item, ItemRejected
from pipelines.keys import digest
from pipelines.nphm_tracks.files import CloudFiles
from pipelines.nphm_tracks.performances import Performance, performances_of
from pipelines.nphm_tracks.pixels import pixels_of
from pipelines.nphm_tracks.surfaces import SomeClouds, clouds_of, landmarks_of
from pipelines.nphm_tracks.views import clouds_of_views
from pipelines.subject import NPHM, ClipTracks, find_segment, read_tables
from pipelines.tracked import clip_landmarks

VERSION = 6
FOLLOWED = np.linspace(0, IRISES[0] - 1, 160).round().astype(int)
"""The detector's points on the linear head that the neural one follows; irises turn, and it has no gaze."""
MARKS = {"head": 1.0, "views": 0.1, "files": 0.1}
"""What marks cost beside points: they come of the linear head, and so do the points of `head` alone."""
LEAST_POINTS = 200
"""A step with fewer has no cloud: it gets the state of the nearest one that has, and is not read by training."""


Unexplained = dict[str, list[float]]
"""Of clips of one camera, the share of the colours' variance that is not explained, before and after; nothing of those of which
a frame shows no skin, which keep what they had."""


@dataclass(frozen=True)
class Solved:
    """A performance on the neural head. F steps."""

    codes: Codes  # of one identity
    poses: Poses  # of the neural head in the linear head's frame
    misfit: Tensor  # (F,) metres; infinite where there was no cloud
    landmarks: Tensor  # (F, 478, 3) the detector's points on it, in the linear head's frame
    marks: Tensor  # (F, 478, 3) the same on the linear head

    def at(self, steps: NDArray[np.int64]) -> Solved:
        """At some steps."""
        some = torch.from_numpy(steps)
        codes = Codes(self.codes.geometry, self.codes.appearance, self.codes.expression[some])
        return Solved(codes, self.poses[some], self.misfit[some], self.landmarks[some], self.marks[some])


class NphmTracker:
    """Tracks one subject per call, with the prior of a folder. Raises ModelError for a prior that cannot be read."""

    def __init__(self, params: Mapping[str, Any], prior: str, root: Path = Path(), cloud_files: str = "") -> None:
        frames = FrameOptions(marks=MARKS[params["clouds"]])
        self.options = TrackingOptions(key_frames=params["key_frames"], frames=frames, smoothness=params["smoothness"])
        self.max_misfit, self.seed = params["max_misfit"], params["seed"]
        self.root, self.prior = root, Path(prior)
        self.stored = read_nphm(self.prior)
        self.stored.model.eval()
        self.prior_hash = sha256_file(self.prior / TENSORS)
        self.data = read_tables(root)
        self.head = self.data.head()
        self.clouds, self.photometric = params["clouds"], params["photometric"]
        self.files = CloudFiles(Path(cloud_files), self.data, root) if self.clouds == "files" else None

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        performances = performances_of(self.data, item.id)
        solved, pictures = self.solved(performances, [self.clouds_of(item.id, n, one) for n, one in enumerate(performances)])
        rows = {
            clip: self.write(clip, tracks, own.at(performance.steps[clip]), out)
            for performance, own in zip(performances, solved, strict=True)
            for clip, tracks in performance.clips.items()
        }
        misfit = torch.cat([one.misfit for one in solved])
        known = misfit.isfinite()
        return {
            "segments": [rows[clip] for clip in sorted(rows)],
            "steps": len(misfit),
            "without_cloud": int((~known).sum()),
            "alone": [next(iter(one.clips)) for one in performances if self.clouds == "views" and len(one.clips) == 1],
            "misfit_mm": round(1e3 * float(misfit[known].mean()), 3),
            "unexplained": pictures,
        }

    def clouds_of(self, subject: str, number: int, performance: Performance) -> SomeClouds:
        """One performance's clouds. Where views are wanted, what one camera saw has the linear head's surface."""
        if self.files is not None:
            return self.files.clouds(subject, performance)
        if self.clouds == "views" and len(performance.clips) > 1:
            held_out = {clip for clip in performance.clips if find_segment(self.data, clip)["split"] == "test"}
            return clouds_of_views(self.head, performance, self.data.frames, held_out)
        return clouds_of(self.head, performance, self.seed + number)

    def solved(self, performances: list[Performance], clouds: list[SomeClouds]) -> tuple[list[Solved], Unexplained]:
        """All performances with one identity. Raises ItemRejected where there is no cloud at all."""
        points = [one for some, _ in clouds for one in some]
        normals = [one for _, some in clouds for one in some or []] if all(some is not None for _, some in clouds) else None
        seen = torch.tensor([len(one) >= LEAST_POINTS for one in points])
        rows = seen.nonzero()[:, 0].tolist()
        if not rows:
            raise ItemRejected("no_clouds", f"none of {len(points)} time steps has a cloud of {LEAST_POINTS} points")
        performance = np.repeat(np.arange(len(performances)), [len(one) for one in performances])[rows]
        known = Clouds(
            [points[row] for row in rows], None if normals is None else [normals[row] for row in rows], performance.tolist()
        )
        model = self.stored.model
        landmarks = torch.cat([landmarks_of(self.head, one) for one in performances])
        by_points = track(model, known, Poses.still(len(known)), replace(self.options, smoothness=0.0), self.seed)
        marks = landmarks[rows][:, FOLLOWED]
        found = filled(follow_marks(model, known, marks, by_points, self.options, self.seed), seen)
        found, pictures = self.with_pictures(performances, found, landmarks)
        if pictures:
            steps = torch.tensor(rows)
            misfit = misfit_at(model, known, found[steps], self.options, self.seed)
            found = replace(found, misfit=found.misfit.index_copy(0, steps, misfit))
        at_rest = places_at_rest(model, found.codes, found.poses, landmarks)
        places = carried(model, found.codes, found.poses, at_rest)
        whole = Solved(found.codes, found.poses, found.misfit, places, landmarks)
        ends = np.cumsum([len(one) for one in performances])
        return [whole.at(np.arange(end - len(one), end)) for one, end in zip(performances, ends, strict=True)], pictures

    def with_pictures(self, performances: list[Performance], found: Tracked, landmarks: Tensor) -> tuple[Tracked, Unexplained]:
        """What was found, with what pictures say of those whom one camera saw."""
        parts, left, start = [], Unexplained(), 0
        for performance in performances:
            some = slice(start, start + len(performance))
            start = some.stop
            own = found[some]
            if self.photometric and len(performance.clips) == 1:
                ((clip, tracks),) = performance.clips.items()
                pixels = pixels_of(self.data.frames, clip, tracks, self.detected(clip)[..., :2], self.seed)
                left[clip] = []
                if pixels is not None:
                    followed = follow_pictures(
                        self.stored.model, pixels, landmarks[some][:, FOLLOWED], own, PictureOptions(), self.options, self.seed
                    )
                    own = followed.tracked
                    left[clip] = [round(share, 4) for share in followed.unexplained] if followed.kept else []
            parts.append(own)
        return joined_tracks(parts), left

    def write(self, clip: str, tracks: ClipTracks, solved: Solved, out: EntryWriter) -> dict[str, Any]:
        """Writes tracks-CLIP and identity-CLIP; returns the segment's row."""
        rows = self.data.tracks.filter(pc.equal(self.data.tracks["clip_id"], clip)).sort_by("frame")
        # pixels of the crop, whatever its size
        camera = Camera(torch.from_numpy(tracks.K), torch.from_numpy(tracks.viewmat), 1, 1)
        reprojection = self.reprojection(clip, camera, solved.landmarks)
        good = np.array(rows["good"].to_pylist()) & (solved.misfit.numpy() <= self.max_misfit)
        count = len(good)
        changed = {
            "viewmat": moved(tracks.viewmat, solved.poses).reshape(count, 16).tolist(),
            "neck": [[0.0] * 3] * count,
            "jaw": [[0.0] * 3] * count,
            "eyes": [[0.0] * 6] * count,
            "expression": solved.codes.expression.tolist(),
            "reprojection": reprojection.astype(np.float32),
            "good": good,
            "head": [NPHM] * count,
            "head_hash": [self.prior_hash] * count,
        }
        table = pa.table({**{name: rows[name] for name in rows.column_names}, **changed}, schema=tables.TRACKS)
        out.write_table(f"tracks-{clip}", table)
        segment = find_segment(self.data, clip)
        identity = {
            "subject_id": [segment["subject_id"]],
            "clip_id": [clip],
            "head": [NPHM],
            "head_hash": [self.prior_hash],
            "identity": [solved.codes.geometry[0].tolist()],
        }
        out.write_table(f"identity-{clip}", pa.table(identity, schema=tables.IDENTITIES))
        made = [segment["fingerprint"], *(out.files[f"{name}-{clip}"]["sha256"] for name in ("tracks", "identity"))]
        return {
            **segment,
            "num_good": int(good.sum()),
            "reprojection": float(np.median(reprojection)),
            "fit_reprojection": float(np.median(self.reprojection(clip, camera, solved.marks))),
            "fingerprint": digest(made),
        }

    def reprojection(self, clip: str, camera: Camera, landmarks: Tensor) -> NDArray[np.float64]:
        """Median distance (F,) of the head's landmarks to the detected ones, as preprocess measures it."""
        shown = landmarks + shown_beside(self.head.embedding, camera.viewmat)
        return reprojection_error(project(shown, camera).double().numpy(), self.detected(clip))

    def detected(self, clip: str) -> NDArray[np.float64]:
        """The detector's landmarks (F, 478, 3) in a clip's stored pictures."""
        rows = clip_landmarks(self.root, [clip]).sort_by("frame")
        return np.array(rows["points"].to_pylist(), np.float64).reshape(len(rows), -1, 3)


def joined_tracks(parts: Sequence[Tracked]) -> Tracked:
    """Of one identity, frames after frames."""
    first = parts[0].codes
    states = States.joined([States(part.codes.expression, part.poses) for part in parts])
    codes = Codes(first.geometry, first.appearance, states.expression)
    return Tracked(codes, states.poses, torch.cat([part.misfit for part in parts]))


def filled(found: Tracked, seen: Tensor) -> Tracked:
    """What was found of the steps that were seen (F,), for all: the others have the state of the nearest one."""
    rows = seen.nonzero()[:, 0]
    nearest = (torch.arange(len(seen))[:, None] - rows).abs().argmin(1)
    everywhere = found[nearest]
    return replace(everywhere, misfit=torch.where(seen, everywhere.misfit, torch.inf))


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
