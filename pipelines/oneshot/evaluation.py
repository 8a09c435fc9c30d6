"""Judging the one-shot model on people that it has never seen: GAGAvatar's Table 1, beside methods that need no training.

An item is a test subject (self-reenactment: the first frame of its first clip is the photo, the others drive and are wanted) or
a pair "photo<driver" (cross-reenactment: nothing is wanted of the picture, but that it looks like the photo and moves like the
driver). All pictures are over black.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar_models.avatar import render
from avatar_models.baselines import copy_source, warp_by_landmarks
from avatar_models.face_embedding import FaceEmbedder
from avatar_models.gagavatar.avatar import avatar_of
from avatar_models.gagavatar.photo_colors import Photos
from avatar_models.gagavatar.storage import read_model
from avatar_models.lpips import Lpips, load_lpips
from avatar_models.reenactment import (
    Likeness,
    Points,
    Tracked,
    landmarks_of,
    likeness_to,
    reenactment_figures,
    track_known,
)
from pipelines.cache import Entry, EntryWriter
from pipelines.csim_asset import CsimFile
from pipelines.devices import reserved_device
from pipelines.evaluation import PAIR, distances, measured, panel, store_video
from pipelines.faces import FACE_COLUMNS, as_bytes, cross_columns, cross_means, face_columns, face_means, footage_of, rounded
from pipelines.fanout import Item, ItemRejected
from pipelines.lpips_asset import LpipsFiles
from pipelines.oneshot.pairs import Batch, Frames, Pairs, frames_of
from pipelines.params import ONESHOT_MODEL
from pipelines.png import png_bytes
from pipelines.splits import spread
from pipelines.subject import read_tables

VERSION = 3
METHODS = ("gagavatar", "copy", "warp")
"""The model; the photo itself; the photo pulled to the driver's landmarks, which are given to it."""
PICTURE_FIGURES = ("psnr", "ssim", "lpips")
STRIP = 6  # frames of the film strip

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("subject_id", "driver_id", "clip_id", "method")),
        ("frame", pa.int64()),
        *((name, pa.float32()) for name in (*PICTURE_FIGURES, *FACE_COLUMNS)),
    ],
    metadata={"headwater.table": "oneshot-evaluation", "headwater.version": "2"},
)
"""Of each frame that drives, for each method. Clip and frame are the driver's."""


@dataclass(frozen=True)
class Scene:
    """A photo, and frames that drive it. T frames."""

    subject: str
    driver: str
    frames: Frames  # of the driver
    batch: Batch  # T pairs: the photo, and the driver's frames
    identity: Tensor  # (I,) of the photo's person
    rows: NDArray[np.int64]  # (T,) of the driver's frames

    @property
    def own(self) -> bool:
        return self.subject == self.driver

    @property
    def clip_id(self) -> str:
        """The clip that all driving frames are from."""
        return self.frames.clip_ids[self.frames.clip[self.rows[0]]]

    @property
    def every(self) -> float:
        """Frames of the clip from one driving frame to the next, in the mean."""
        places = self.frames.row[self.rows]
        return float(places[-1] - places[0]) / (len(places) - 1) if len(places) > 1 else 1.0


@dataclass(frozen=True)
class Seen:
    """What is seen of a scene's photo and driving frames, once for all methods."""

    photo: Points  # (478, 3) pixels, NaN where no face is found
    meant: Tracked
    likeness: Likeness | None  # None where CSIM is off


class JudgeOneshot:
    """Judges one test subject or one pair per call."""

    def __init__(
        self,
        params: Mapping[str, Any],
        lpips_files: LpipsFiles | None = None,
        csim_file: CsimFile | None = None,
        model: Path = ONESHOT_MODEL,
    ) -> None:
        self.lpips_files, self.csim_file = lpips_files, csim_file
        self.max_frames = int(params["max_frames"])
        self.device = reserved_device()
        self.data = read_tables(subjects=())  # an item reads its own tracks
        self.head = self.data.head()
        stored = read_model(model, self.device)
        self.model = stored.model.eval()
        self.rig = self.head.rig.take(stored.vertices).to(self.device)

    @cached_property
    def lpips(self) -> Lpips | None:
        return load_lpips(self.lpips_files.vgg16, self.lpips_files.linear).to(self.device) if self.lpips_files else None

    @cached_property
    def embedder(self) -> FaceEmbedder | None:
        return self.csim_file.load() if self.csim_file else None

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        subject, _, driver = item.id.partition(PAIR)
        scene = self.scene(subject, driver or subject)
        tables, means = [], {}
        seen = self.seen(scene)
        made = self.made(scene, seen)
        for method, pictures in made.items():
            rows, mean = self.judged(scene, method, pictures, seen)
            tables.append(rows)
            means[method] = mean
        out.write_table("metrics", pa.concat_tables(tables))
        out.write_bytes("strip.png", film_strip(scene, made))
        panels = (
            np.concatenate([panel(photo), panel(wanted), panel(shown)], 1)
            for photo, wanted, shown in zip(scene.batch.photos, scene.batch.targets, made["gagavatar"], strict=True)
        )
        store_video(out, "video.mp4", panels, self.data.segments, scene.clip_id, scene.every)
        return means

    def figures(self, subject: str) -> dict[str, float | None]:
        """The model's means in self-reenactment. Raises ItemRejected for a subject without two good frames in a clip."""
        scene = self.scene(subject, subject)
        _, means = self.judged(scene, "gagavatar", self.rendered(scene), self.seen(scene))
        return means

    def scene(self, subject: str, driver: str) -> Scene:
        """Raises ItemRejected for a subject without two good frames in a clip."""
        own = self.frames(subject)
        other = own if driver == subject else self.frames(driver)
        photo = 0
        rows = np.arange(1, other.first[1]) if subject == driver else np.arange(other.first[1])
        rows = spread(rows, self.max_frames)
        size = self.model.sizes.image_size
        driving = Pairs(other, self.data.frames, size).batch([(0, int(row)) for row in rows])
        seen = Pairs(own, self.data.frames, size).batch([(photo, photo)])
        count = len(rows)
        batch = replace(
            driving,
            photos=seen.photos.expand(count, -1, -1, -1),
            shown=seen.shown.expand(count),
            cameras=replace(
                seen.cameras, K=seen.cameras.K.expand(count, -1, -1), viewmat=seen.cameras.viewmat.expand(count, -1, -1)
            ),
        )
        return Scene(subject, driver, other, batch, seen.identity[0], rows)

    def frames(self, subject: str) -> Frames:
        found = frames_of(read_tables(subjects=[subject]), [subject])
        if not len(found):
            raise ItemRejected("no_pairs", f"subject {subject}: no clip of it has two good frames")
        return found

    def made(self, scene: Scene, seen: Seen) -> dict[str, Tensor]:
        """Pictures (T, 3, S, S) in [0, 1] of each method, on the CPU."""
        count = len(scene.batch)
        source = as_bytes(scene.batch.photos[:1])[0]
        points, others = seen.photo[:, :2], seen.meant.points[..., :2]
        # Without a face there is nothing to pull the photo to.
        warped = [
            warp_by_landmarks(source, points, other) if np.isfinite(points).all() and np.isfinite(other).all() else source
            for other in others
        ]
        return {
            "gagavatar": self.rendered(scene),
            "copy": as_images(copy_source(source, count)),
            "warp": as_images(np.stack(warped)),
        }

    @torch.no_grad()
    def rendered(self, scene: Scene) -> Tensor:
        """What the model makes: the photo's person once, and of each frame what moves."""
        batch, identity = scene.batch.to(self.device), scene.identity.to(self.device)
        photo = Photos(batch.photos[:1], batch.cameras[:1], batch.shown[:1].vertices(self.rig, identity[None]))
        avatar = avatar_of(self.model, self.model.person(photo), self.rig, identity)
        return render(avatar, batch.views, batch.wanted.conditions, torch.zeros(3, device=self.device)).cpu()

    def seen(self, scene: Scene) -> Seen:
        """Looks at the photo and at the driving frames."""
        photo = as_bytes(scene.batch.photos[:1])
        points = landmarks_of(photo)
        driving = footage_of(scene.batch.targets, scene.batch.views, scene.batch.identity[0].numpy())
        meant = track_known(driving, self.head)
        if self.embedder is None:
            return Seen(points[0], meant, None)
        whom = (driving.pictures, meant.points) if scene.own else (photo, points)
        return Seen(points[0], meant, likeness_to(self.embedder, *whom))

    def judged(self, scene: Scene, method: str, pictures: Tensor, seen: Seen) -> tuple[pa.Table, dict[str, float | None]]:
        """A row for each frame, and the means."""
        batch, count = scene.batch, len(scene.batch)
        known = batch.known[:, 0].numpy()
        made = torch.where(batch.known, pictures, batch.targets)  # what the video does not show is not judged
        columns: dict[str, Any] = dict.fromkeys(PICTURE_FIGURES, [None] * count)
        if scene.own:
            whole = np.full(known.shape, 255, np.uint8)
            columns |= {name: values for name, values in measured(made, batch.targets, whole, known).items() if name in columns}
            if self.lpips is not None:
                columns |= distances(self.lpips, {"lpips": made}, batch.targets, known)
        footage = footage_of(made, batch.views, scene.identity.numpy())
        faces = reenactment_figures(footage, seen.meant, self.head, seen.likeness)
        columns |= face_columns(faces) if scene.own else cross_columns(faces)
        there = [name for name in PICTURE_FIGURES if columns[name][0] is not None]
        means = {name: rounded(float(np.mean(columns[name]))) for name in there}
        means |= face_means(faces) if scene.own else cross_means(faces)
        columns |= {"subject_id": [scene.subject] * count, "driver_id": [scene.driver] * count, "method": [method] * count}
        columns |= {"clip_id": [scene.clip_id] * count, "frame": scene.frames.frame[scene.rows]}
        table = pa.table({field.name: pa.array(columns[field.name], field.type, from_pandas=True) for field in SCHEMA}, SCHEMA)
        return table, means


def as_images(pictures: NDArray[np.uint8]) -> Tensor:
    """(T, S, S, 3) uint8 -> (T, 3, S, S) in [0, 1]."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 255


def film_strip(scene: Scene, made: Mapping[str, Tensor]) -> bytes:
    """A PNG: the photo, and below each of some driving frames what each method makes of it."""
    chosen = spread(np.arange(len(scene.batch)), STRIP)
    rows: Sequence[Tensor] = [scene.batch.targets, *made.values()]
    left = torch.cat([scene.batch.photos[0], torch.zeros_like(scene.batch.photos[0]).repeat(1, len(made), 1)], 1)
    columns = [torch.cat([row[k] for row in rows], 1) for k in chosen]
    strip = as_bytes(torch.cat([left, *columns], 2)[None].clamp(0, 1))[0]
    return png_bytes(strip)
