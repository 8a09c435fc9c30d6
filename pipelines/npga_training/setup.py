"""A subject's shots, and its avatar before the first step.

N points. Metres.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avatar_models.cameras import project
from avatar_models.heads.nphm import Nphm, surface_at_rest
from avatar_models.heads.nphm.distillation import FeatureOptions, fit_planes
from avatar_models.heads.nphm.forward import ForwardField, TriPlanes
from avatar_models.heads.nphm.forward_storage import StoredForward
from avatar_models.metrics import psnr_inside, ssim_map
from avatar_models.npga import VARIANTS, Npga, NpgaSizes
from pipelines.fanout import ItemRejected
from pipelines.first_points import evenly_on
from pipelines.fleet.loop import Place
from pipelines.frames import composite
from pipelines.npga_training.training import NpgaTraining, Shot
from pipelines.params import TrainNpga
from pipelines.png import png_bytes
from pipelines.schedule import frame_of_step
from pipelines.splits import ClipSplit, spread
from pipelines.subject import Shots, Tables, load_shots, subject_clips, subject_identity
from pipelines.training import PROGRESS, as_bytes, gaussians_told

SPACING_M = 0.002
COLOR_SHOTS = 8
"""Shots that the first colours are the medians of."""
PROBED = 8
"""Held-out shots that are rendered while training goes on."""


@dataclass(frozen=True)
class NpgaRun:
    """All that a training needs."""

    options: TrainNpga
    training: NpgaTraining
    probed: Shots | None

    def batches(self, steps: range, place: Place, threads: int) -> Iterator[Shot]:
        """The shot of each step."""
        count = len(self.training.shots)
        return (Shot(frame_of_step(step, count, self.options.seed)) for step in steps)

    def probe(self) -> dict[str, float]:
        """Mean PSNR in dB of some held-out shots, of the raw and of the refined picture."""
        if self.probed is None:
            return {}
        made = judged(self.training, self.probed)
        new = [made.refined] if self.training.shown else [made.targets, made.refined]
        self.training.shown.extend(as_bytes(pictures[0]) for pictures in new)
        return {"held_out_psnr": made.psnr(made.refined), "held_out_raw_psnr": made.psnr(made.raw)}

    def pictures(self) -> dict[str, bytes]:
        """A PNG: a held-out shot, and what was made of it at each probe."""
        shown = self.training.shown
        return {PROGRESS: png_bytes(torch.cat(shown, 1).numpy())} if shown else {}


@dataclass(frozen=True)
class Judged:
    """T shots with what an avatar makes of them, (T, 3, S, S) in [0, 1], and where they count (T, 1, S, S)."""

    targets: Tensor
    raw: Tensor
    refined: Tensor
    counts: Tensor

    def psnr(self, made: Tensor) -> float:
        return float(psnr_inside(made, self.targets, self.counts).mean())

    def ssim(self, made: Tensor) -> float:
        inside = torch.where(self.counts > 0, made, self.targets)
        return float(ssim_map(inside, self.targets).mean())


@torch.no_grad()
def judged(training: NpgaTraining, shots: Shots) -> Judged:
    """What the avatar makes of shots that it may never have seen. Raises TrainingDiverged."""
    model, background = training.model, training.background
    raw, refined, targets = [], [], []
    for shot in range(len(shots)):
        gaussians = model.gaussians(shots.conditions[shot].to(training.device))
        with gaussians_told(training.step, "train_npga"):
            image = model.splatted(gaussians, shots.camera[shot : shot + 1].to(training.device), background).image
        raw.append(image[0, :3].clamp(0, 1).cpu())
        refined.append(model.refined(image)[0].clamp(0, 1).cpu())
        picture = composite(shots.images[shot], shots.mattes[shot], background.cpu().numpy())
        targets.append(torch.from_numpy(picture).permute(2, 0, 1))
    counts = torch.from_numpy(shots.judged)[:, None].float()
    return Judged(torch.stack(targets), torch.stack(raw), torch.stack(refined), counts)


@dataclass(frozen=True)
class Parts:
    """A subject's shots to train on, and those that are held out."""

    train: Shots
    held_out: Shots | None
    geometry: Tensor  # (D,) the subject's code


def parts_of(data: Tables, subject: str, options: TrainNpga, test_fraction: float) -> Parts:
    """A subject's frames for training and for judging. Raises ItemRejected."""
    clips = subject_clips(data, subject, test_fraction)
    train = [(clip.clip_id, clip.train) for clip in clips if len(clip.train)]
    if not train:
        raise ItemRejected("no_training_frames", f"subject {subject}: all its good frames are held out")
    held = held_out_rows(clips, options.max_judged)
    shots = load_shots(data, train, options.resolution)
    held_out = load_shots(data, held, options.resolution) if held else None
    identity = torch.tensor(subject_identity(data, train[0][0])["identity"], dtype=torch.float32)
    return Parts(shots, held_out, identity)


def held_out_rows(clips: list[ClipSplit], most: int) -> list[tuple[str, np.ndarray]]:
    """(clip, rows) of at most so many held-out frames, evenly spread."""
    rows = [(clip.clip_id, clip.held_out) for clip in clips if len(clip.held_out)]
    share = max(1, most // max(len(rows), 1))
    return [(clip, spread(own, share)) for clip, own in rows]


def prepare(options: TrainNpga, parts: Parts, model: Nphm, forward: StoredForward, subject: str, device: str) -> NpgaRun:
    """The avatar before its first step: Gaussians on the subject's surface at rest, moved by the distilled field."""
    torch.manual_seed(options.seed)
    expressions = parts.train.conditions[:, : model.sizes.expression_code]
    mesh = surface_at_rest(model, parts.geometry, SPACING_M)
    points = evenly_on(mesh.vertices[mesh.faces], options.num_gaussians, np.random.default_rng(options.seed))
    planes = planes_of(forward, model, mesh.vertices, parts.geometry, expressions, subject, options.seed)
    with torch.no_grad():
        features = planes(points[None], torch.zeros(1, dtype=torch.int64))[0]
    sizes = NpgaSizes(
        len(points), forward.field.sizes, options.hidden, latent_dim=options.latent_dim, screen_width=options.screen_width
    )
    avatar = Npga(VARIANTS[options.variant](sizes))
    avatar.initialise(points, first_colors(points, forward.field, features, parts.train), features, forward.field)
    probed = None if parts.held_out is None else some_of(parts.held_out, PROBED)
    return NpgaRun(options, NpgaTraining(options, avatar, parts.train, device), probed)


def planes_of(
    forward: StoredForward, model: Nphm, surface: Tensor, geometry: Tensor, expressions: Tensor, subject: str, seed: int
) -> TriPlanes:
    """The subject's planes: those of the distillation where it was among its people, else found for the field as it is."""
    if subject in forward.people:
        planes = TriPlanes(forward.field.sizes, 1)
        planes.load_state_dict({"planes": forward.planes.planes[forward.people.index(subject)][None]})
        return planes
    return fit_planes(model, forward.field, surface, geometry, expressions, FeatureOptions(), seed)


@torch.no_grad()
def first_colors(points: Tensor, forward: ForwardField, features: Tensor, shots: Shots) -> Tensor:
    """Colours (N, 3): the medians over some shots of what they show where a point is."""
    seen = []
    size = shots.images.shape[1]
    for shot in spread(np.arange(len(shots)), COLOR_SHOTS).tolist():
        expression = shots.conditions[shot : shot + 1, : forward.sizes.expression_code]
        posed = points[None] + forward(points[None], features[None], expression)
        pixels = project(posed, shots.camera[shot : shot + 1])[0].long().clamp(0, size - 1)
        seen.append(torch.from_numpy(shots.images[shot])[pixels[:, 1], pixels[:, 0]].float() / 255)
    return torch.stack(seen).median(0).values


def some_of(shots: Shots, count: int) -> Shots:
    """At most so many shots, evenly spread."""
    rows = spread(np.arange(len(shots)), count)
    place = torch.from_numpy(rows)
    return Shots(
        shots.images[rows], shots.mattes[rows], shots.known[rows], shots.judged[rows], shots.camera[place],
        shots.conditions[place], [shots.clip_ids[row] for row in rows], shots.frames[rows],
    )  # fmt: skip
