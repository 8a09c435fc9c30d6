"""A tracked clip as all layouts see it, taken from the project's tables, and turned so that one camera fits all frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from avatar_models.cameras import Camera
from avatar_models.heads.interface import Head
from pipelines.formats.fields import FormatError
from pipelines.frames import StoredFrame, whole_frame
from pipelines.png import png_bytes
from pipelines.splits import split_rows
from pipelines.subject import HEAD_FILE, Tables, above_neck, find_segment, subject_identity

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrackedClip:
    """Camera, pose and expression of N frames of one clip. Conventions as in the tables: OpenCV, metres, radians."""

    clip_id: str
    head: str
    width: int  # pixels
    height: int
    frames: NDArray[np.int64]  # (N,) index in the source video
    held_out: NDArray[np.bool_]  # (N,) judged on, not trained on
    K: Array  # (N, 3, 3) pixels
    viewmat: Array  # (N, 4, 4) head's world to camera
    expression: Array  # (N, E)
    neck: Array  # (N, 3) axis-angle
    jaw: Array  # (N, 3)
    eyes: Array  # (N, 6) left, right
    identity: Array  # (I,)
    expression_names: tuple[str, ...] = ()  # empty where nobody says
    identity_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def camera(self) -> Camera:
        """The N cameras, float64."""
        return Camera(torch.from_numpy(self.K), torch.from_numpy(self.viewmat), self.width, self.height)


def tracked_clip(data: Tables, clip_id: str, test_fraction: float) -> tuple[TrackedClip, Head, Iterator[StoredFrame]]:
    """A segment's frames that passed the gates, in order, its head, and the pictures, decoded one at a time.

    As in training, the last `test_fraction` of the segment is held out. Raises UnknownSegment, and FormatError for a segment
    that did not pass, or whose head is not here.
    """
    segment = find_segment(data, clip_id)
    if not segment["passed"]:
        raise FormatError(f"{clip_id}: did not pass ({segment['reason']}); preprocess.gates in params.yaml says what passes")
    good = _rows(data, clip_id)["good"].to_numpy(zero_copy_only=False)
    train, held_out = split_rows(good, test_fraction, segment["split"])
    kept = np.sort(np.concatenate([train, held_out]))
    if not len(kept):
        raise FormatError(f"{clip_id}: no frame of it passed the gates; preprocess.gates in params.yaml says what passes")
    clip, head = tracked_rows(data, clip_id, kept, held_out)
    return clip, head, (data.frames.decode(clip_id, row) for row in kept.tolist())


def tracked_rows(data: Tables, clip_id: str, kept: NDArray[np.int64], held_out: NDArray[np.int64]) -> tuple[TrackedClip, Head]:
    """Some rows of a segment that is there, whatever the gates say of them. Raises FormatError where its head is not here."""
    rows = _rows(data, clip_id)
    identity = np.asarray(subject_identity(data, clip_id)["identity"], np.float64)
    head = _head_of(data, clip_id, rows["head"][0].as_py(), len(identity), len(rows["expression"][0]))

    def array(name: str, *shape: int) -> Array:
        return np.array(rows[name].to_pylist(), np.float64)[kept].reshape(-1, *shape)

    side = len(data.frames.decode(clip_id, int(kept[0])).image)
    clip = TrackedClip(
        clip_id,
        head.name,
        side,
        side,
        rows["frame"].to_numpy()[kept],
        np.isin(kept, held_out),
        array("K", 3, 3),
        array("viewmat", 4, 4),
        array("expression", head.num_expression),
        array("neck", 3),
        array("jaw", 3),
        array("eyes", 6),
        identity,
        head.expression_names,
        head.identity_names,
    )
    return clip, head


def _rows(data: Tables, clip_id: str) -> pa.Table:
    return data.tracks.filter(pc.equal(data.tracks["clip_id"], clip_id)).sort_by("frame")


def _head_of(data: Tables, clip_id: str, name: str, num_identity: int, num_expression: int) -> Head:
    head = data.head()
    if head.name != name:
        raise FormatError(f"{clip_id}: was tracked with the head {name!r}, {HEAD_FILE} is {head.name!r}; run `dvc repro`")
    _expect_sizes(head, clip_id, name, (num_identity, num_expression))
    return head


def centred(clip: TrackedClip, pictures: Iterable[StoredFrame]) -> tuple[TrackedClip, Iterator[StoredFrame]]:
    """The clip as one camera with one K, its axis through the picture's middle, would have seen it.

    A stored crop moves over the source picture, and its principal point with it; other projects' loaders know one focal
    length, and take the middle of the picture for the principal point. Turning a camera about its centre moves each pixel
    x to K' R K^-1 x whatever its depth, so this is exact but for resampling the picture once. What the turned camera sees
    outside of the stored crop repeats its border, with no person in the matte.
    """
    focal = float(np.mean(clip.K[:, [0, 1], [0, 1]]))
    K = np.array([[focal, 0, clip.width / 2], [0, focal, clip.height / 2], [0, 0, 1.0]])
    turns = np.stack([_towards(np.linalg.solve(own, K[:, 2])) for own in clip.K])
    viewmat = clip.viewmat.copy()
    viewmat[:, :3] = turns @ clip.viewmat[:, :3]
    size = (clip.width, clip.height)
    to_pixel = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])  # OpenCV's pictures have pixel centres at whole numbers

    def turned() -> Iterator[StoredFrame]:
        for own, turn, picture in zip(clip.K, turns, pictures, strict=True):
            move = np.linalg.inv(to_pixel) @ K @ turn @ np.linalg.inv(own) @ to_pixel
            image = cv2.warpPerspective(picture.image, move, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            yield whole_frame(image, cv2.warpPerspective(picture.matte, move, size, flags=cv2.INTER_LINEAR))

    return replace(clip, K=np.tile(K, (len(clip), 1, 1)), viewmat=viewmat), turned()


def _towards(direction: Array) -> Array:
    """The smallest turn (3, 3) that takes a direction to the z axis."""
    direction = direction / np.linalg.norm(direction)
    axis = np.cross(direction, [0, 0, 1.0])
    sine = np.linalg.norm(axis)
    angle = np.arctan2(sine, direction[2])
    return np.asarray(cv2.Rodrigues(axis / sine * angle)[0] if sine > 1e-12 else np.eye(3), np.float64)


def head_only(clip: TrackedClip, pictures: Iterable[StoredFrame]) -> Iterator[StoredFrame]:
    """The pictures with mattes that end at the neck, as training sees them."""
    for row, picture in enumerate(pictures):
        camera = clip.camera[row : row + 1].to(dtype=torch.float32)
        yield replace(picture, matte=(picture.matte * above_neck(camera)[0]).round().astype(np.uint8))


def over(picture: StoredFrame, level: int) -> NDArray[np.uint8]:
    """The person over a gray level 0 to 255, (H, W, 3)."""
    alpha = picture.matte[..., None] / 255.0
    return np.round(picture.image * alpha + level * (1.0 - alpha)).astype(np.uint8)


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes a picture (H, W) or (H, W, 3 or 4), RGB or RGBA. Raises OSError; OpenCV's own writer is silent of a full disk."""
    path.write_bytes(png_bytes(image))


def joints(head: Head, clip: TrackedClip) -> Array:
    """Places of the head's joints (N, 5, 3) in its own frame at rest, metres: identity and expression move them."""
    expect_sizes(head, clip)
    rig = head.rig.to(dtype=torch.float64)
    identity, expression = torch.from_numpy(clip.identity), torch.from_numpy(clip.expression)
    found = (rig.joints + torch.einsum("i,ijk->jk", identity, rig.joint_identity_basis)).expand(len(clip), -1, -1)
    if rig.joint_expression_basis is not None:
        found = found + torch.einsum("be,ejk->bjk", expression, rig.joint_expression_basis)
    return found.numpy()


def expect_sizes(head: Head, clip: TrackedClip) -> None:
    """Raises FormatError where the clip's coefficients are not the head's."""
    _expect_sizes(head, clip.clip_id, clip.head, (clip.identity.shape[-1], clip.expression.shape[-1]))


def _expect_sizes(head: Head, clip_id: str, tracked_with: str, sizes: tuple[int, int]) -> None:
    own = (head.num_identity, head.num_expression)
    if sizes != own:
        raise FormatError(
            f"{clip_id}: has {sizes[0]} identity and {sizes[1]} expression coefficients, the head {head.name} here has "
            f"{own[0]} and {own[1]}; it needs the head that it was tracked with ({tracked_with or 'not named'})"
        )


def surface(head: Head, clip: TrackedClip, row: int) -> Array:
    """The head's posed surface (V, 3) in one frame, in its own frame, metres."""
    expect_sizes(head, clip)
    arguments = (clip.identity, clip.expression[row], clip.neck[row], clip.jaw[row], clip.eyes[row])
    return head.vertices(*(torch.from_numpy(np.asarray(a, np.float32))[None] for a in arguments))[0].double().numpy()
