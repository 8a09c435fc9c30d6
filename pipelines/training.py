"""Training one subject's HeadGaS avatar: the item function of the train_headgas stage.

Resumable to the bit: which frame a step sees and its learning rate depend on the step's number alone, and all else that a
step changes is in the checkpoint.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar_models.avatar import BACKGROUNDS, avatar_files, condition_names
from avatar_models.blending import RankOneAdam
from avatar_models.cameras import Camera, project
from avatar_models.headgas import HeadGas, HeadGasSizes, parameter_groups
from avatar_models.heads.interface import Head
from avatar_models.losses import first_not_finite, photometric
from avatar_models.metrics import psnr
from avatar_models.splatting import splat
from pipelines.atomic import write_bytes_atomic
from pipelines.cache import Entry, EntryWriter
from pipelines.fanout import Item, ItemRejected
from pipelines.frames import composite
from pipelines.params import TrainHeadgas
from pipelines.subject import Shots, Tables, load_shots, read_tables, subject_clips, subject_identity

VERSION = 2
CURVE_EVERY = 25
HEAD_SHARE = 0.6
"""Share of the first points that lie on the fitted head; the others fill the matte's hull: hair, neck, shoulders."""
HULL_VIEWS = 24
FINAL_RATE = 0.05
"""Learning rates fall to this share of their start, along a cosine."""


class TrainingDiverged(RuntimeError):
    """A loss term became NaN or infinite; the message names the step and the term."""


class HeadGasTrainer:
    """Trains one subject per call. One per actor: the tables are read once."""

    def __init__(self, params: Mapping[str, Any], checkpoint_every: int = 500, root: Path = Path()) -> None:
        self.checkpoint_every = checkpoint_every
        self.test_fraction = float(params["test_fraction"])
        self.options = TrainHeadgas.model_validate(params["train_headgas"])
        self.data: Tables = read_tables(root)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        training = self.begin(item.id)
        training.run(out.scratch / "checkpoint.pt", self.checkpoint_every)
        return self.write(item.id, training, out)

    def begin(self, subject: str) -> Training:
        """A subject's training before its first step. Raises ItemRejected."""
        clips = subject_clips(self.data, subject, self.test_fraction)
        wanted = [(clip.clip_id, clip.train) for clip in clips if len(clip.train)]
        if not wanted:
            raise ItemRejected("no_training_frames", f"subject {subject}: all its good frames are held out for testing")
        shots = load_shots(self.data, wanted, self.options.resolution)
        identity = subject_identity(self.data, wanted[0][0])
        return Training(self.options, shots, self.data.head(), torch.tensor(identity["identity"]), self.device)

    def write(self, subject: str, training: Training, out: EntryWriter) -> dict[str, Any]:
        """Writes the avatar and the curve of a training that has ended; returns the entry's summary."""
        shots = training.shots
        identity = subject_identity(self.data, shots.clip_ids[0])
        middle = len(shots) // 2
        facts = {
            "subject_id": subject,
            "head": identity["head"],
            "head_hash": identity["head_hash"],
            "sizes": training.model.sizes_as_dict(),
            "condition_names": list(condition_names(self.data.head().expression_names)),
            "neutral": [round(value, 6) for value in training.model.neutral.tolist()],
            "camera": camera_as_dict(shots.camera[middle : middle + 1]),
            "background": self.options.background,
        }
        for name, data in avatar_files("headgas", training.model.tensors(), facts).items():
            out.write_bytes(name, data)
        out.write_bytes("curve.json", json.dumps(training.curve).encode())
        return {"frames": len(shots), "psnr": round(training.training_psnr(), 4), "steps": self.options.steps}


def camera_as_dict(camera: Camera) -> dict[str, Any]:
    """One camera as JSON values."""
    values = {"K": camera.K[0].tolist(), "viewmat": camera.viewmat[0].tolist()}
    return {**values, "width": camera.width, "height": camera.height}


class Training:
    """The state of one avatar's training."""

    def __init__(self, options: TrainHeadgas, shots: Shots, head: Head, identity: torch.Tensor, device: str) -> None:
        torch.manual_seed(options.seed)
        self.options, self.shots, self.device = options, shots, device
        self.level = BACKGROUNDS[options.background]
        points, colors = first_points(options, shots, head, identity, self.level)
        sizes = HeadGasSizes(
            len(points), shots.conditions.shape[1], options.feature_dim, options.hidden_dim, options.sh_degree,
            options.position_frequencies,
        )  # fmt: skip
        self.model = HeadGas(sizes)
        self.model.initialise(points, colors, shots.conditions)
        self.model.to(device)
        groups = parameter_groups(self.model, options.learning_rate, float(self.model.extent))
        self.optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)
        self.basis = RankOneAdam(self.model.F, options.learning_rate)
        self.first_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.step = 0
        self.curve: list[dict[str, float]] = []
        self.camera = shots.camera.to(device)
        self.conditions = shots.conditions.to(device)
        self.background = torch.full((3,), self.level, device=device)

    def run(self, checkpoint: Path, checkpoint_every: int, until: int | None = None) -> None:
        """Trains to the end or to step `until`, a multiple of CURVE_EVERY; at first from the checkpoint where there is one."""
        if self.step == 0 and checkpoint.exists():
            self.load(checkpoint)
        recent: list[dict[str, float]] = []
        while self.step < (self.options.steps if until is None else until):
            recent.append(self.one_step())
            if self.step % CURVE_EVERY == 0 or self.step == self.options.steps:
                self.curve.append(
                    {"step": self.step, **{name: float(np.mean([r[name] for r in recent])) for name in recent[0]}}
                )
                recent = []
            if self.step % checkpoint_every == 0 and self.step % CURVE_EVERY == 0:
                self.save(checkpoint)

    def one_step(self) -> dict[str, float]:
        """One frame, one update. Raises TrainingDiverged."""
        options = self.options
        index = frame_of_step(self.step, len(self.shots), options.seed)
        share = 0.5 * (1 + np.cos(np.pi * self.step / options.steps))
        decay = FINAL_RATE + (1 - FINAL_RATE) * share
        for group, rate in zip(self.optimizer.param_groups, self.first_rates, strict=True):
            group["lr"] = rate * decay
        self.basis.rate = options.learning_rate * decay
        gaussians = self.model.gaussians(self.conditions[index], self.basis.blend)
        image = splat(gaussians, self.camera[index : index + 1], self.background).image
        terms = photometric(image, self.target(index), options.lambda_l1, options.lambda_ssim)
        bad = first_not_finite(terms)
        if bad is not None:
            raise TrainingDiverged(f"step {self.step}: {bad} is not finite; lower train_headgas.learning_rate")
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        self.optimizer.step()
        self.step += 1
        self.basis.step(ahead=self.model.weights(self.conditions[frame_of_step(self.step, len(self.shots), options.seed)]))
        return {name: float(value.detach()) for name, value in terms.items()}

    def target(self, index: int) -> torch.Tensor:
        """The frame over the training background, (1, 3, S, S)."""
        picture = composite(self.shots.images[index], self.shots.mattes[index], self.level)
        return torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous().to(self.device)

    @torch.no_grad()
    def training_psnr(self, frames: int = 16) -> float:
        """Mean PSNR in dB over some training frames."""
        found = []
        for index in np.unique(np.linspace(0, len(self.shots) - 1, frames).astype(int)).tolist():
            gaussians = self.model.gaussians(self.conditions[index])
            image = splat(gaussians, self.camera[index : index + 1], self.background).image.clamp(0, 1)
            found.append(float(psnr(image, self.target(index))))
        return float(np.mean(found))

    def save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "curve": self.curve,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "basis": self.basis.state_dict(),
        }
        data = io.BytesIO()  # torch's own writer loses what the system says of a full disk
        torch.save(state, data)
        write_bytes_atomic(path, data.getvalue())

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint; one that cannot be read (a power cut) is passed over."""
        try:
            state = torch.load(path, weights_only=True, map_location=self.device)
        except Exception as error:  # torch's reader raises whatever the damage leads it to
            print(f"{path}: the checkpoint cannot be read ({type(error).__name__}); training starts over", flush=True)
            return
        self.step, self.curve = state["step"], state["curve"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.basis.load_state_dict(state["basis"])


def frame_of_step(step: int, num_frames: int, seed: int) -> int:
    """The frame that a step sees: every epoch goes through all frames in an order of its own."""
    epoch, place = divmod(step, num_frames)
    return int(np.random.default_rng((seed, epoch)).permutation(num_frames)[place])


def first_points(
    options: TrainHeadgas, shots: Shots, head: Head, identity: torch.Tensor, level: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the Gaussians start (N, 3), in the head's frame, and their colours (N, 3) in [0, 1].

    On the fitted head's surface, and inside the hull of the mattes where the head model has nothing.
    """
    rng = np.random.default_rng(options.seed)
    views = np.unique(np.linspace(0, len(shots) - 1, HULL_VIEWS).astype(int))
    camera = shots.camera[torch.from_numpy(views)]
    on_head = surface_points(head, identity, round(options.num_gaussians * HEAD_SHARE), rng)
    hull = hull_points(shots, camera, views, options.num_gaussians - len(on_head), on_head, rng)
    points = torch.cat([on_head, hull])
    colors, _ = sampled_colors(shots, camera, views, points, level)
    return points, colors


def surface_points(head: Head, identity: torch.Tensor, count: int, rng: np.random.Generator) -> torch.Tensor:
    """Points (count, 3) spread evenly over the neutral head's surface."""
    zero = torch.zeros(1, head.num_expression), torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 6)
    corners = head.vertices(identity[None].float(), *zero)[0][head.faces]  # (F, 3, 3)
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1).double().numpy()
    face = torch.from_numpy(rng.choice(len(area), size=count, p=area / area.sum()))
    u, v = rng.random((2, count)).astype(np.float32)
    inside = u + v > 1
    u, v = torch.from_numpy(np.where(inside, 1 - u, u)), torch.from_numpy(np.where(inside, 1 - v, v))
    a, b, c = corners[face].unbind(1)
    return a + u[:, None] * (b - a) + v[:, None] * (c - a)


def hull_points(
    shots: Shots, camera: Camera, views: np.ndarray, count: int, around: torch.Tensor, rng: np.random.Generator
) -> torch.Tensor:
    """Points (count, 3) near the head that lie in the matte of nearly every view: hair, neck, shoulders."""
    low, high = around.amin(0), around.amax(0)
    margin = (high - low) * 0.5
    found: list[torch.Tensor] = []
    total = 0
    for _ in range(50):
        trial = torch.from_numpy(rng.random((4096, 3)).astype(np.float32)) * (high - low + 2 * margin) + low - margin
        _, matte = sampled_colors(shots, camera, views, trial, 0.0)
        kept = trial[matte > 0.85]
        found.append(kept)
        total += len(kept)
        if total >= count:
            return torch.cat(found)[:count]
    # An empty matte: the head itself is all there is to start from.
    return torch.cat([*found, around[: count - total]])[:count]


def sampled_colors(
    shots: Shots, camera: Camera, views: np.ndarray, points: torch.Tensor, level: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean colour (N, 3) in [0, 1] and mean matte (N,) of points (N, 3) over the views; outside of a picture nothing."""
    pixels = project(points[None], camera).floor().long()  # (V, N, 2)
    inside = ((pixels >= 0) & (pixels < camera.width)).all(-1)
    x, y = pixels.clamp(0, camera.width - 1).unbind(-1)
    rows = torch.arange(len(views))[:, None]
    images, mattes = torch.from_numpy(shots.images[views]), torch.from_numpy(shots.mattes[views])
    alpha = mattes[rows, y, x].float() / 255 * inside
    colour = images[rows, y, x].float() / 255
    weight = alpha.sum(0)[:, None]
    mean = (colour * alpha[..., None]).sum(0) / weight.clamp_min(1e-6)
    return torch.where(weight > 1e-3, mean, torch.full_like(mean, level)), alpha.sum(0) / inside.sum(0).clamp_min(1)
