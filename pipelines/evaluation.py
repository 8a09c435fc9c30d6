"""What judging avatars is made of: which frames are looked at, where they are rendered, how pictures are compared and shown.

`judging.py` puts it together. Beside the avatar's figures stand those of a baseline that needs no training: the training frame
whose head pose and expression are nearest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from avatar_models.alignment import align
from avatar_models.avatar import Avatar, render
from avatar_models.cameras import Camera, resized
from avatar_models.lpips import Lpips
from avatar_models.metrics import psnr_inside, ssim_inside
from pipelines.cache import EntryWriter
from pipelines.frames import composite
from pipelines.png import png_bytes
from pipelines.splits import spread
from pipelines.subject import Shots, Tables, load_shots
from pipelines.video import write_video

MAX_PSNR = 100.0  # dB: of equal pictures, a still video's
PAIR = "<"
"""Between the names of a target and its driver."""
VIDEO_SIDE = 256  # each panel of a video, pixels
ERROR_GAIN = 4.0

MEASURES = ("psnr", "ssim", "matte_psnr", "matte_ssim")
"""Of the whole picture over the background (dB), and inside the head's matte."""
FIGURES = (*MEASURES, *(f"aligned_{name}" for name in MEASURES), *(f"baseline_{name}" for name in MEASURES))
"""Of the avatar in the tracked poses, in poses that were moved to fit it, and of the nearest training frame."""
LPIPS = ("lpips", "aligned_lpips")
"""Of the whole picture over the background, in both kinds of poses; null where its weights are not there."""

ClipRows = list[tuple[str, NDArray[np.int64]]]
"""Segments and which of their frames."""


def first(clips: ClipRows, most: int) -> ClipRows:
    """The first frames of each segment, consecutive for a video: at most `most` together, of all segments alike."""
    shares: dict[str, int] = {}
    for place, (clip_id, rows) in enumerate(sorted(clips, key=lambda clip: len(clip[1]))):  # short ones leave their rest
        shares[clip_id] = min(len(rows), (most - sum(shares.values())) // (len(clips) - place))
    return [(clip_id, rows[: shares[clip_id]]) for clip_id, rows in clips]


def evenly(clips: ClipRows, most: int) -> ClipRows:
    """At most `most` frames, spread over all segments."""
    chosen = spread(np.arange(sum(len(rows) for _, rows in clips)), most)
    start, found = 0, []
    for clip_id, rows in clips:
        found.append((clip_id, rows[chosen[(chosen >= start) & (chosen < start + len(rows))] - start]))
        start += len(rows)
    return found


def load_some(data: Tables, clips: ClipRows, size: int, neck_of: pa.Table | None = None) -> Shots | None:
    """The frames; None where there is none. `neck_of`: see :func:`pipelines.subject.load_shots`."""
    wanted = [(clip_id, rows) for clip_id, rows in clips if len(rows)]
    return load_shots(data, wanted, size, neck_of) if wanted else None


def pictures(shots: Shots, level: float) -> torch.Tensor:
    """Frames over the training background, (T, 3, S, S) in [0, 1]."""
    return torch.from_numpy(composite(shots.images, shots.mattes, level)).permute(0, 3, 1, 2).contiguous()


def measured(
    made: torch.Tensor, wanted: torch.Tensor, mattes: NDArray[np.uint8], judged: NDArray[np.bool_]
) -> dict[str, NDArray[np.float32]]:
    """MEASURES of pictures (T, 3, S, S), each (T,), over the pixels that are judged (T, S, S).

    Where none is, or no pixel of the matte (T, S, S), the next larger region counts: the judged one, the picture.
    """
    region = or_all(torch.from_numpy(judged)[:, None].float())
    made = torch.where(region > 0, made, wanted)  # SSIM's window looks beyond the region's border
    matte = or_all(region * torch.from_numpy(mattes)[:, None].float() / 255, region)
    found = [measure(made, wanted, where) for where in (region, matte) for measure in (psnr_inside, ssim_inside)]
    return {name: values.clamp_max(MAX_PSNR).numpy() for name, values in zip(MEASURES, found, strict=True)}


def prefixed(whose: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{whose}_{name}": values for name, values in figures.items()}


def or_all(weights: torch.Tensor, instead: torch.Tensor | None = None) -> torch.Tensor:
    """Weights of pixels (T, 1, S, S); ones, or others, for a picture without any."""
    empty = weights.amax((1, 2, 3), keepdim=True) == 0
    return torch.where(empty, torch.ones_like(weights) if instead is None else instead, weights)


def distances(
    lpips: Lpips, made: Mapping[str, torch.Tensor], wanted: torch.Tensor, judged: NDArray[np.bool_]
) -> dict[str, list[float]]:
    """LPIPS of each frame of renderings (T, 3, S, S); what is not judged is as wanted. A frame at a time, for VGG's memory."""
    region = torch.from_numpy(judged)[:, None]
    shown = [torch.where(region, images, wanted) for images in made.values()]
    found = [lpips(torch.stack([images[t] for images in shown]), wanted[t : t + 1]).tolist() for t in range(len(wanted))]
    return {name: [frame[k] for frame in found] for k, name in enumerate(made)}


@torch.no_grad()
def render_shots(avatar: Avatar, camera: Camera, conditions: torch.Tensor, level: float, device: str = "cpu") -> torch.Tensor:
    """Pictures (T, 3, S, S), on the CPU, of an avatar that lies on `device`."""
    background = torch.full((3,), level, device=device)
    return render(avatar, camera.to(device), conditions.to(device), background).cpu()


def render_aligned(avatar: Avatar, shots: Shots, level: float, steps: int, device: str = "cpu") -> torch.Tensor:
    """Like render_shots, in poses that so many steps have moved to fit the avatar."""
    camera, conditions, wanted = shots.camera.to(device), shots.conditions.to(device), pictures(shots, level).to(device)
    judged, background = torch.from_numpy(shots.judged).to(device), torch.full((3,), level, device=device)
    fitting = align(avatar.each(conditions), avatar.draw, camera, wanted, judged, background, steps)
    return render_shots(avatar, fitting, conditions, level, device)


def nearest_frames(wanted: Shots, known: Shots) -> NDArray[np.int64]:
    """For each wanted frame the known one whose camera and condition are nearest, both scaled by their spread."""

    def place(shots: Shots) -> NDArray[np.float64]:
        return np.concatenate([shots.camera.viewmat[:, :3].flatten(1).numpy(), shots.conditions.numpy()], 1).astype(np.float64)

    a, b = place(wanted), place(known)
    spread = b.std(0) + 1e-3
    return np.asarray(np.linalg.norm((a[:, None] - b[None]) / spread, axis=-1).argmin(1))


def driven_camera(facts: Mapping[str, Any], driver: Camera, size: int) -> Camera:
    """The target's own camera with the driver's head rotation: (T,) cameras of size x size."""
    K, viewmat = torch.tensor(facts["K"]), torch.tensor(facts["viewmat"])
    viewmats = viewmat.repeat(len(driver), 1, 1)
    viewmats[:, :3, :3] = driver.viewmat[:, :3, :3]
    return resized(Camera(K.repeat(len(driver), 1, 1), viewmats, facts["width"], facts["height"]), size, size)


def panel(image: torch.Tensor) -> NDArray[np.uint8]:
    """(3, S, S) in [0, 1] -> a video panel (side, side, 3) uint8."""
    picture = (image.permute(1, 2, 0).clamp(0, 1).numpy() * 255).round().astype(np.uint8)
    return cv2.resize(picture, (VIDEO_SIDE, VIDEO_SIDE), interpolation=cv2.INTER_CUBIC)


def error_panel(wanted: torch.Tensor, made: torch.Tensor) -> NDArray[np.uint8]:
    """Mean absolute error as a heat map, four times as bright."""
    error = ((wanted - made).abs().mean(0) * ERROR_GAIN).clamp(0, 1).numpy()
    heat = cv2.applyColorMap((error * 255).astype(np.uint8), cv2.COLORMAP_MAGMA)[..., ::-1]
    return cv2.resize(np.ascontiguousarray(heat), (VIDEO_SIDE, VIDEO_SIDE), interpolation=cv2.INTER_CUBIC)


def compared(wanted: torch.Tensor, made: torch.Tensor) -> Iterator[NDArray[np.uint8]]:
    """Frames (T, 3, S, S) in [0, 1] -> T pictures: the input, the avatar, the error."""
    return (np.concatenate([panel(w), panel(m), error_panel(w, m)], 1) for w, m in zip(wanted, made, strict=True))


def still(wanted: torch.Tensor, made: torch.Tensor) -> bytes:
    """A PNG of the middle frame, compared."""
    middle = len(wanted) // 2
    (picture,) = compared(wanted[middle : middle + 1], made[middle : middle + 1])
    return png_bytes(picture)


def store_video(
    out: EntryWriter, name: str, frames: Iterator[NDArray[np.uint8]], segments: pa.Table, clip_id: str, every: float = 1.0
) -> None:
    """Writes a video that plays as fast as the segment that its first frame is from, of whose frames it has one in `every`."""
    fps = next(row["fps"] for row in segments.to_pylist() if row["clip_id"] == clip_id)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_video(path, frames, fps / every)
        out.write_file(name, path)
