"""The yardstick of trials: the same held-out frames for all of them, at the size and over the background of params.yaml."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.avatar import BACKGROUNDS, Avatar, render
from pipelines.evaluation import first, measured, pictures
from pipelines.fanout import ItemRejected
from pipelines.params import Params
from pipelines.splits import spread
from pipelines.subject import Shots, Tables, clip_tracks, load_shots, subject_clips


@dataclass(frozen=True)
class Judged:
    """Figures, and what they are of: pictures (T, 3, S, S) in [0, 1]."""

    figures: dict[str, float]
    wanted: torch.Tensor
    made: torch.Tensor


@dataclass(frozen=True)
class Yardstick:
    """What trials are judged on. `data` are the project's own tables, which say which frames are held out and good."""

    data: Tables
    params: Params

    def held_out(self, subject: str, data: Tables) -> Shots:
        """A subject's held-out frames as another trial's tables have them.

        Raises ItemRejected where one of them is missing there: a trial is not better for losing what is hard.
        """
        clips = subject_clips(self.data, subject, self.params.catalog.test_fraction)
        wanted = first([(clip.clip_id, clip.held_out) for clip in clips], self.params.evaluate.max_frames)
        wanted = [(clip_id, rows) for clip_id, rows in wanted if len(rows)]
        if not wanted:
            raise ItemRejected("no_held_out_frames", f"subject {subject}: none of its held-out frames passed the gates")
        if data is not self.data:
            wanted = [(clip_id, self._rows_elsewhere(clip_id, rows, data)) for clip_id, rows in wanted]
        return load_shots(data, wanted, self.params.train_headgas.resolution)

    def _rows_elsewhere(self, clip_id: str, rows: NDArray[np.int64], data: Tables) -> NDArray[np.int64]:
        frames = clip_tracks(self.data.tracks, clip_id).frames[rows]
        there = clip_tracks(data.tracks, clip_id).frames if clip_id in data.frames.clip_ids else np.zeros(0, np.int64)
        found = np.flatnonzero(np.isin(there, frames))
        if len(found) < len(frames):
            raise ItemRejected(
                "lost_frames", f"{clip_id}: {len(frames) - len(found)} of {len(frames)} held-out frames are lost"
            )
        return found

    @torch.no_grad()
    def judge(self, avatar: Avatar, shots: Shots, device: str) -> Judged:
        """Means of psnr (dB) and ssim over the frames, and render_fps: frames a second, one at a time."""
        level = BACKGROUNDS[self.params.train_headgas.background]
        camera, conditions = shots.camera.to(device), shots.conditions.to(device)
        background = torch.full((3,), level, device=device)
        made, seconds = [], []
        for index in range(len(shots)):
            start = time.perf_counter()
            made.append(render(avatar, camera[index : index + 1], conditions[index : index + 1], background))
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        images, wanted = torch.cat(made).cpu(), pictures(shots, level)
        found = measured(images, wanted, shots.mattes, shots.judged)
        figures = {
            "psnr": float(found["psnr"].mean()),
            "ssim": float(found["ssim"].mean()),
            "render_fps": 1.0 / float(np.median(seconds)),
        }
        return Judged(figures, wanted, images)


def some(shots: Shots, most: int) -> Shots:
    """At most so many of the frames, spread evenly."""
    chosen = spread(np.arange(len(shots)), most)
    at = torch.from_numpy(chosen)
    names = [shots.clip_ids[place] for place in chosen]
    return Shots(
        shots.images[chosen], shots.mattes[chosen], shots.known[chosen], shots.judged[chosen], shots.camera[at],
        shots.conditions[at], names, shots.frames[chosen],
    )  # fmt: skip
