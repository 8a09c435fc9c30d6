"""Pairs of frames of one clip: a photo, and what it is to become. Read at random from the Arrow shards.

B pairs, S pixels, V vertices, E expression coefficients, I identity coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar_models.cameras import Camera, resized
from avatar_models.gagavatar.photo_colors import Photos
from avatar_models.heads.skinning import Rig, pose
from pipelines import tables
from pipelines.fanout import ItemRejected
from pipelines.frames import FrameReader, StoredFrame, composite, shrunk
from pipelines.subject import TRACKS_FOLDER, Tables, above_neck


@dataclass(frozen=True)
class Frames:
    """All frames that may be drawn, of all clips, as columns. N frames, in order of clip and frame."""

    clip_ids: list[str]
    clip: NDArray[np.int32]  # (N,) place in clip_ids
    row: NDArray[np.int32]  # (N,) place in the clip's shard
    frame: NDArray[np.int64]  # (N,) index in the source video
    first: NDArray[np.int64]  # (C + 1,) where each clip begins
    K: NDArray[np.float32]  # (N, 3, 3) pixels of the stored crop
    viewmat: NDArray[np.float32]  # (N, 4, 4)
    expression: NDArray[np.float32]  # (N, E)
    jaw: NDArray[np.float32]  # (N, 3)
    eyes: NDArray[np.float32]  # (N, 6)
    identity: NDArray[np.float32]  # (C, I)

    def __len__(self) -> int:
        return len(self.clip)

    def poses(self, indices: NDArray[np.int64]) -> Poses:
        return Poses(*(torch.from_numpy(values[indices]) for values in (self.expression, self.jaw, self.eyes)))

    def beside(self, index: int, place: float) -> int:
        """Another frame of the same clip: the one at a place in [0, 1) among all others."""
        first, end = self.first[self.clip[index] : self.clip[index] + 2]
        other = first + int(place * (end - first - 1))
        return int(other + (other >= index))


def frames_of(data: Tables, subjects: Sequence[str]) -> Frames:
    """All good frames of the subjects' segments that passed. Segments with fewer than two have no pairs and are left out.

    One pass over three columns: of a million frames the rest is read where it is kept. Raises SchemaError for values that are
    no numbers.
    """
    passed = data.segments.filter(pc.and_(data.segments["passed"], pc.is_in(data.segments["subject_id"], _strings(subjects))))
    wanted = set(passed["clip_id"].to_pylist())
    encoded = data.tracks["clip_id"].combine_chunks().dictionary_encode()
    names = np.array(encoded.dictionary.to_pylist(), object)
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(names)] = np.arange(len(names))
    names, clip = np.sort(names), rank[encoded.indices.to_numpy()]  # by name
    frame = data.tracks["frame"].to_numpy()
    order = np.lexsort((frame, clip))
    row = np.arange(len(order)) - np.searchsorted(clip[order], clip[order])  # place in the clip's shard
    of_wanted = np.array([name in wanted for name in names], bool)
    good = data.tracks["good"].to_numpy()[order] & of_wanted[clip[order]]
    enough = np.bincount(clip[order][good], minlength=len(names)) > 1
    kept = good & enough[clip[order]]
    rows = order[kept]  # of the table, in order of clip and frame
    used, clip = np.unique(clip[rows], return_inverse=True)
    identities = dict(zip(data.identities["clip_id"].to_pylist(), data.identities["identity"].to_pylist(), strict=True))

    place = np.full(len(order), -1)  # of a row of the table among those that are kept
    place[rows] = np.arange(len(rows))

    def column(name: str, *shape: int) -> NDArray[np.float32]:
        values, start = np.empty((len(rows), *shape), np.float32), 0
        for chunk in data.tracks[name].chunks:  # one by one: of 15,000 clips a column is more than a gigabyte
            own, start = place[start : start + len(chunk)], start + len(chunk)
            values[own[own >= 0]] = chunk.flatten().to_numpy().reshape(len(chunk), *shape)[own >= 0]
        return values

    found = Frames(
        names[used].tolist(),
        clip.astype(np.int32),
        row[kept].astype(np.int32),
        frame[rows],
        np.searchsorted(clip, np.arange(len(used) + 1)),
        column("K", 3, 3),
        column("viewmat", 4, 4),
        column("expression", len(data.tracks["expression"][0]) if len(data.tracks) else 0),
        column("jaw", 3),
        column("eyes", 6),
        np.array([identities[name] for name in names[used]], np.float32),
    )
    expect_finite(found)
    return found


def expect_finite(frames: Frames) -> None:
    """Raises SchemaError for a value of the tracks that is no number, with its clip: a training would end by it, far away."""
    for name in ("K", "viewmat", "expression", "jaw", "eyes"):
        values = getattr(frames, name)
        bad = ~np.isfinite(values).all(tuple(range(1, values.ndim)))
        if bad.any():
            clip = frames.clip_ids[frames.clip[bad.argmax()]]
            raise tables.SchemaError(
                f"{TRACKS_FOLDER / 'tracks.parquet'}: {name} of clip {clip} is not finite in {bad.sum()} good frames. "
                "`dvc repro --force preprocess` makes the tables again"
            )


def _strings(values: Sequence[str]) -> pa.Array:
    return pa.array(values, pa.string())


@dataclass(frozen=True)
class Poses:
    """How B heads are posed."""

    expression: Tensor  # (B, E)
    jaw: Tensor  # (B, 3) radians
    eyes: Tensor  # (B, 6) radians

    def to(self, device: str) -> Poses:
        return Poses(self.expression.to(device), self.jaw.to(device), self.eyes.to(device))

    def __getitem__(self, which: slice) -> Poses:
        return Poses(self.expression[which], self.jaw[which], self.eyes[which])

    def expand(self, count: int) -> Poses:
        """One pose, so many times."""
        return Poses(*(part.expand(count, -1) for part in (self.expression, self.jaw, self.eyes)))

    @classmethod
    def of(cls, conditions: Tensor) -> Poses:
        """What :attr:`conditions` gives."""
        return cls(*conditions.split([conditions.shape[1] - 9, 3, 6], 1))

    @property
    def conditions(self) -> Tensor:
        """(B, E + 9) as avatars take them."""
        return torch.cat([self.expression, self.jaw, self.eyes], 1)

    def vertices(self, rig: Rig, identity: Tensor) -> Tensor:
        """Heads (B, V, 3) in metres of identities (B, I)."""
        return pose(rig, identity, self.expression, torch.zeros_like(self.jaw), self.jaw, self.eyes)


@dataclass(frozen=True)
class Batch:
    """B pairs as the model takes them, on one device."""

    photos: Tensor  # (B, 3, S, S) in [0, 1] over black
    cameras: Camera  # of the photos
    targets: Tensor  # (B, 3, S, S) over black
    known: Tensor  # (B, 1, S, S) bool: what the targets' video shows
    boxes: Tensor  # (B, 4) left, top, right, bottom of the targets' heads in pixels; always on the CPU
    views: Camera  # of the targets
    identity: Tensor  # (B, I)
    shown: Poses  # of the photos
    wanted: Poses  # of the targets

    def __len__(self) -> int:
        return len(self.photos)

    def to(self, device: str) -> Batch:
        """On a device, but for the boxes: what is cut out is said by the CPU."""
        sent = [field.name for field in fields(self) if field.name != "boxes"]
        return replace(self, **{name: getattr(self, name).to(device) for name in sent})

    def photos_on(self, rig: Rig) -> Photos:
        """The photos, with heads of the rig's vertices."""
        return Photos(self.photos, self.cameras, self.shown.vertices(rig, self.identity))

    def vertices(self, rig: Rig) -> Tensor:
        """The targets' heads (B, V, 3) in metres."""
        return self.wanted.vertices(rig, self.identity)


@dataclass(frozen=True)
class View:
    """One frame as the model sees it."""

    image: NDArray[np.float32]  # (S, S, 3) over black
    known: NDArray[np.bool_]  # (S, S)
    box: NDArray[np.float32]  # (4,) around the matte


@dataclass(frozen=True)
class ColorJitter:
    """Other colours for each pair, so that few people look like more: photo and target are changed alike."""

    strength: float = 0.0
    """Colours are multiplied by up to one more or less this share: all together, and each channel again by half of it."""
    seed: int = 0

    def gains(self, pair: tuple[int, int]) -> NDArray[np.float32]:
        """Factors (3, 1, 1) of a pair's colours; they follow from the pair."""
        random = np.random.default_rng((self.seed, *pair))
        of_all, of_each = random.uniform(-1, 1, 1), random.uniform(-1, 1, 3)
        return ((1 + self.strength * of_all) * (1 + 0.5 * self.strength * of_each)).astype(np.float32)[:, None, None]


class Pairs:
    """Batches of pairs (photo, target), both places in `frames`, at size x size. Raises ItemRejected where less is stored."""

    def __init__(self, frames: Frames, reader: FrameReader, size: int, jitter: ColorJitter = ColorJitter()) -> None:
        self.frames, self.reader, self.size, self.jitter = frames, reader, size, jitter
        self.stored = len(reader.decode(frames.clip_ids[0], int(frames.row[0])).image)  # pixels of all stored crops
        if size > self.stored:
            raise ItemRejected(
                "small_crops",
                f"the model makes pictures of {size} pixels, and the stored crops have {self.stored}: "
                f"set preprocess.crop.side: {size}",
            )

    def batch(self, pairs: Sequence[tuple[int, int]]) -> Batch:
        """Decodes pairs, and their cameras and parameters."""
        photos, targets = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
        frames = self.frames
        photo_cameras, views = self.cameras(photos), self.cameras(targets)
        seen = [self.view(index, views[place : place + 1]) for place, index in enumerate(targets)]
        shown = [self.view(index, photo_cameras[place : place + 1]).image for place, index in enumerate(photos)]
        gains = torch.from_numpy(np.stack([self.jitter.gains(pair) for pair in pairs]))
        return Batch(
            (gains * images_of(shown)).clamp_max(1),
            photo_cameras,
            (gains * images_of([view.image for view in seen])).clamp_max(1),
            torch.from_numpy(np.stack([view.known for view in seen])[:, None]),
            torch.from_numpy(np.stack([view.box for view in seen])),
            views,
            torch.from_numpy(frames.identity[frames.clip[targets]]),
            frames.poses(photos),
            frames.poses(targets),
        )

    def cameras(self, indices: NDArray[np.int64]) -> Camera:
        """Cameras for size x size."""
        frames = self.frames
        K, viewmat = torch.from_numpy(frames.K[indices]), torch.from_numpy(frames.viewmat[indices])
        camera = Camera(K, viewmat, self.stored, self.stored)
        return resized(camera, self.size, self.size)

    def view(self, index: int, camera: Camera) -> View:
        """A frame as one camera of the model's size sees it."""
        frames = self.frames
        return view_of(self.reader.decode(frames.clip_ids[frames.clip[index]], int(frames.row[index])), camera)


def view_of(frame: StoredFrame, camera: Camera) -> View:
    """A stored frame at the size of its camera (1), over black, without what lies below the neck."""
    frame = shrunk(frame, camera.width)
    matte = (frame.matte * above_neck(camera)[0]).round().astype(np.uint8)
    return View(composite(frame.image, matte, 0.0), frame.known, head_box(matte))


def head_box(matte: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Left, top, right, bottom (4,) in pixels of what a matte (S, S) shows; of an empty one the whole picture."""
    rows, columns = (np.flatnonzero((matte > 127).any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.array([0, 0, len(matte), len(matte)], np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def images_of(pictures: Sequence[NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
