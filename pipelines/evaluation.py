"""Judging avatars: held-out frames (self-reenactment), and one subject's expressions on another's avatar.

An item is a subject, or a pair "target<driver". Beside the avatar's figures stand those of a baseline that needs no
training: the training frame whose head pose and expression are nearest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from avatar_models.alignment import align
from avatar_models.avatar import BACKGROUNDS, Avatar, load_avatar, render
from avatar_models.cameras import Camera, resized
from avatar_models.lpips import Lpips, load_lpips
from avatar_models.metrics import psnr_inside, ssim_inside
from pipelines.cache import Entry, EntryWriter
from pipelines.devices import best_device
from pipelines.fanout import Item, ItemRejected, Step, Work
from pipelines.frames import composite
from pipelines.lpips_asset import LpipsFiles, lpips_assets, lpips_files
from pipelines.params import Params
from pipelines.png import png_bytes
from pipelines.splits import spread
from pipelines.subject import Shots, clip_tracks, load_shots, read_tables, subject_clips
from pipelines.video import write_video

VERSION = 6
MAX_PSNR = 100.0  # dB: of equal pictures, a still video's
COMPARED = 400
"""Training frames among which the nearest is looked for."""
MODELS = Path("models/headgas")
SUBJECTS = Path("data/evaluation/subjects.json")
"""Each subject's figures; the metrics that DVC shows are their means."""
PAIR = "<"
VIDEO_SIDE = 256  # each panel of a video, pixels
ERROR_GAIN = 4.0

MEASURES = ("psnr", "ssim", "matte_psnr", "matte_ssim")
"""Of the whole picture over the background (dB), and inside the head's matte."""
FIGURES = (*MEASURES, *(f"aligned_{name}" for name in MEASURES), *(f"baseline_{name}" for name in MEASURES))
"""Of the avatar in the tracked poses, in poses that were moved to fit it, and of the nearest training frame."""
LPIPS = ("lpips", "aligned_lpips")
"""Of the whole picture over the background, in both kinds of poses; null where its weights are not there."""

METRICS_SCHEMA = pa.schema(
    [
        *(("subject_id", pa.string()), ("clip_id", pa.string()), ("frame", pa.int64())),
        *((name, pa.float32()) for name in (*FIGURES, *LPIPS)),
    ],
    metadata={"headwater.table": "evaluation", "headwater.version": "2"},
)


class JudgeAvatar:
    """Evaluates one subject or one pair per call."""

    def __init__(self, params: Mapping[str, Any], lpips_files: LpipsFiles | None = None) -> None:
        self.lpips_files = lpips_files
        self.test_fraction = float(params["test_fraction"])
        self.max_frames = int(params["max_frames"])
        self.size = int(params["resolution"])
        self.align_steps = int(params["align_steps"])
        self.level = BACKGROUNDS[params["background"]]
        self.data = read_tables()
        self.device = best_device()
        torch.set_num_threads(1)

    @cached_property
    def lpips(self) -> Lpips | None:
        """Read with the first subject; pairs need none."""
        return load_lpips(self.lpips_files.vgg16, self.lpips_files.linear).to(self.device) if self.lpips_files else None

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        target, _, driver = item.id.partition(PAIR)
        avatar, facts = load_avatar(MODELS / target, self.device)
        if driver:
            return self.cross(avatar, facts, driver, out)
        return self.own(avatar, target, out)

    def own(self, avatar: Avatar, subject: str, out: EntryWriter) -> dict[str, Any]:
        """Figures of each held-out frame, and a video: input, avatar, error."""
        clips = subject_clips(self.data, subject, self.test_fraction)
        held_out = load_some(self.data, first([(clip.clip_id, clip.held_out) for clip in clips], self.max_frames), self.size)
        if held_out is None:
            raise ItemRejected("no_held_out_frames", f"subject {subject}: none of its last frames passed the gates")
        known = load_some(self.data, evenly([(clip.clip_id, clip.train) for clip in clips], COMPARED), self.size)
        assert known is not None  # it was trained
        wanted = pictures(held_out, self.level)
        made = render_shots(avatar, held_out.camera, held_out.conditions, self.level, self.device)
        aligned = render_aligned(avatar, held_out, self.level, self.align_steps, self.device)
        nearest = nearest_frames(held_out, known)
        copied, both = pictures(known, self.level)[nearest], held_out.judged & known.judged[nearest]
        rows: dict[str, Any] = {
            "subject_id": [subject] * len(held_out),
            "clip_id": held_out.clip_ids,
            "frame": held_out.frames,
            **measured(made, wanted, held_out.mattes, held_out.judged),
            **prefixed("aligned", measured(aligned, wanted, held_out.mattes, held_out.judged)),
            **prefixed("baseline", measured(copied, wanted, held_out.mattes, both)),
            **dict.fromkeys(LPIPS, [None] * len(held_out)),
        }
        if self.lpips is not None:
            rows |= distances(self.lpips, {"lpips": made, "aligned_lpips": aligned}, wanted, held_out.judged)
        table = pa.table(
            {name: pa.array(values, METRICS_SCHEMA.field(name).type) for name, values in rows.items()},
            schema=METRICS_SCHEMA,
        )
        out.write_table("metrics", table)
        store_video(out, "video.mp4", compared(wanted, made), self.data.segments, held_out.clip_ids[0])
        out.write_bytes("still.png", still(wanted, made))
        shown = (*FIGURES, *(LPIPS if self.lpips is not None else ()))
        return {name: round(float(np.mean(rows[name])), 4) for name in shown}

    def cross(self, avatar: Avatar, facts: Mapping[str, Any], driver: str, out: EntryWriter) -> dict[str, Any]:
        """A video: the driver's input, and the target's avatar with the driver's expression and head rotation."""
        clips = subject_clips(self.data, driver, self.test_fraction)
        shots = load_some(self.data, first([(clip.clip_id, clip.held_out) for clip in clips], self.max_frames), self.size)
        if shots is None:
            raise ItemRejected("no_held_out_frames", f"driver {driver}: none of its last frames passed the gates")
        head = clip_tracks(self.data.tracks, clips[0].clip_id).head
        if head != facts["head"]:
            raise ItemRejected("other_head", f"driver {driver} was tracked with head {head}, the avatar with {facts['head']}")
        camera = driven_camera(facts["camera"], shots.camera, self.size)
        made = render_shots(avatar, camera, shots.conditions, self.level, self.device)
        panels = (np.concatenate([panel(w), panel(m)], 1) for w, m in zip(pictures(shots, self.level), made, strict=True))
        store_video(out, "video.mp4", panels, self.data.segments, shots.clip_ids[0])
        return {"frames": len(shots)}


def judging_step(name: str, worker: Callable[..., Work], params: Params) -> Step:
    """A step of a worker like JudgeAvatar. Where LPIPS's files lie stays out of the key; their content is in it."""
    options = {
        "test_fraction": params.catalog.test_fraction,
        "max_frames": params.evaluate.max_frames,
        "align_steps": params.evaluate.align_steps,
        "resolution": params.train_headgas.resolution,
        "background": params.train_headgas.background,
    }
    judge = partial(worker, lpips_files=lpips_files(params))
    return Step(name, VERSION, judge, options, params.compute.render, lpips_assets(params))


ClipRows = list[tuple[str, NDArray[np.int64]]]
"""Segments and which of their frames."""


def first(clips: ClipRows, most: int) -> ClipRows:
    """The first `most` frames: consecutive, for a video."""
    ends = np.cumsum([len(rows) for _, rows in clips])
    return [(clip_id, rows[: max(0, most - (end - len(rows)))]) for (clip_id, rows), end in zip(clips, ends, strict=True)]


def evenly(clips: ClipRows, most: int) -> ClipRows:
    """At most `most` frames, spread over all segments."""
    chosen = spread(np.arange(sum(len(rows) for _, rows in clips)), most)
    start, found = 0, []
    for clip_id, rows in clips:
        found.append((clip_id, rows[chosen[(chosen >= start) & (chosen < start + len(rows))] - start]))
        start += len(rows)
    return found


def load_some(data: Any, clips: ClipRows, size: int) -> Shots | None:
    """The frames; None where there is none."""
    wanted = [(clip_id, rows) for clip_id, rows in clips if len(rows)]
    return load_shots(data, wanted, size) if wanted else None


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
    fitting = align(avatar.each(conditions), camera, wanted, judged, background, steps)
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


def store_video(out: EntryWriter, name: str, frames: Iterator[NDArray[np.uint8]], segments: pa.Table, clip_id: str) -> None:
    """Writes a video at the rate of the segment that its first frame is from."""
    fps = next(row["fps"] for row in segments.to_pylist() if row["clip_id"] == clip_id)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_video(path, frames, fps)
        out.write_file(name, path)
