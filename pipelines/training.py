"""Training one subject's HeadGaS avatar: the item function of the train_headgas stage.

Resumable to the bit: what a step sees (frame, background, noise, learning rate) depends on the step's number alone, and
all else that a step changes is in the checkpoint, the set of Gaussians included.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar_models.alignment import PoseCorrections
from avatar_models.avatar import BACKGROUNDS, avatar_files, condition_names
from avatar_models.blending import RankOneAdam
from avatar_models.cameras import Camera
from avatar_models.densify import Edit
from avatar_models.density_control import DensityControl
from avatar_models.gaussians import UnusableGaussians
from avatar_models.headgas import HeadGas, HeadGasSizes, parameter_groups
from avatar_models.headgas.density import HeadGasSet
from avatar_models.headgas.motion import surface_motion
from avatar_models.heads.interface import Head
from avatar_models.losses import first_not_finite, numbers_of, photometric
from avatar_models.memory import is_out_of_memory
from avatar_models.metrics import psnr_inside
from avatar_models.perceptual import Vgg16Features, load_vgg16, matte_box, perceptual
from avatar_models.splatting import splat
from pipelines.atomic import write_bytes_atomic
from pipelines.cache import Entry, EntryWriter
from pipelines.devices import reserved_device
from pipelines.fanout import Item, ItemRejected
from pipelines.first_points import first_points
from pipelines.frames import composite
from pipelines.news import News
from pipelines.params import TrainHeadgas
from pipelines.png import png_bytes
from pipelines.schedule import density_rules, frame_of_step, is_on_plateau, probe_steps, rate_factors, rng_of_step, sh_degree
from pipelines.splits import spread
from pipelines.subject import Shots, Tables, load_shots, read_tables, subject_clips, subject_identity

VERSION = 5
PROGRESS = "progress.png"
CURVE_EVERY = 25
POSE_START = 0.05
"""Share of the steps before poses are corrected: at first there is no avatar to correct them by."""
PROBE_FRAMES = 8
"""Held-out frames that are rendered now and then while training goes on."""


class TrainingDiverged(RuntimeError):
    """A loss term became NaN or infinite; the message names the step and the term."""


class OutOfMemory(RuntimeError):
    """The avatar does not fit into memory; the message says what to lower."""


class HeadGasTrainer:
    """Trains one subject per call. One per actor: the tables are read once."""

    def __init__(
        self, params: Mapping[str, Any], checkpoint_every: int = 500, perceptual_weights: str = "", root: Path = Path()
    ) -> None:
        self.test_fraction = float(params["test_fraction"])
        self.checkpoint_every = checkpoint_every
        self.options = TrainHeadgas.model_validate(params["train_headgas"])
        self.data: Tables = read_tables(root)
        self.device = reserved_device()
        self.features = load_vgg16(Path(perceptual_weights)).to(self.device) if perceptual_weights else None
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        subject = str(item.payload.get("subject", item.id))
        training = self.begin(subject)
        training.run(out.scratch / "checkpoint.pt", self.checkpoint_every, tell=teller(training, out.news))
        return self.write(subject, training, out)

    def begin(self, subject: str) -> Training:
        """A subject's training before its first step. Raises ItemRejected."""
        clips = subject_clips(self.data, subject, self.test_fraction)
        wanted = [(clip.clip_id, clip.train) for clip in clips if len(clip.train)]
        if not wanted:
            raise ItemRejected("no_training_frames", f"subject {subject}: all its good frames are held out for testing")
        shots = load_shots(self.data, wanted, self.options.resolution)
        identity = subject_identity(self.data, wanted[0][0])
        probed = [(clip.clip_id, spread(clip.held_out, PROBE_FRAMES)) for clip in clips[:1] if len(clip.held_out)]
        held_out = load_shots(self.data, probed, self.options.resolution) if probed else None
        return Training(
            self.options, shots, self.data.head(), torch.tensor(identity["identity"]), self.device, held_out, self.features
        )  # fmt: skip

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
            "perceptual_loss": training.features is not None,
        }
        for name, data in avatar_files("headgas", training.model.tensors(), facts).items():
            out.write_bytes(name, data)
        out.write_bytes("curve.json", json.dumps(training.curve).encode())
        out.write_bytes(PROGRESS, training.progress_picture())
        figures = {"frames": len(shots), "psnr": round(training.training_psnr(), 4), "steps": training.step}
        return {**figures, "gaussians": len(training.model.mu), "perceptual_loss": training.features is not None}


def teller(training: Training, news: News) -> Callable[[], None]:
    """Tells what is new of a training: points of its curve, and the picture where a held-out frame was rendered.

    The first time that is all: of a training that goes on from a checkpoint, what was before it too.
    """
    points, probes = 0, 0

    def tell() -> None:
        nonlocal points, probes
        now = training.curve[-1]
        files = {PROGRESS: training.progress_picture()} if len(training.probes) > probes else {}
        said = f"step {training.step} of {training.options.steps}, loss {now['loss']:.3g}"
        news.tell(said, [dict(point) for point in training.curve[points:]], files)
        points, probes = len(training.curve), len(training.probes)

    return tell


def camera_as_dict(camera: Camera) -> dict[str, Any]:
    """One camera as JSON values."""
    values = {"K": camera.K[0].tolist(), "viewmat": camera.viewmat[0].tolist()}
    return {**values, "width": camera.width, "height": camera.height}


class Training:
    """The state of one avatar's training."""

    def __init__(
        self,
        options: TrainHeadgas,
        shots: Shots,
        head: Head,
        identity: torch.Tensor,
        device: str,
        held_out: Shots | None = None,
        features: Vgg16Features | None = None,
    ) -> None:
        torch.manual_seed(options.seed)
        self.options, self.shots, self.device, self.held_out = options, shots, device, held_out
        self.features = features if options.lambda_perceptual > 0 else None
        self.level = BACKGROUNDS[options.background]
        points, colors = first_points(options, shots, head, identity, self.level)
        sizes = HeadGasSizes(
            len(points), shots.conditions.shape[1], options.feature_dim, options.hidden_dim, options.sh_degree,
            options.position_frequencies, options.variant,
        )  # fmt: skip
        self.model = HeadGas(sizes)
        self.model.initialise(points, colors, shots.conditions)
        if self.model.rides:
            self.model.ride_on(surface_motion(head, identity, points))
        self.model.to(device)
        groups = parameter_groups(self.model, options.learning_rate, float(self.model.extent))
        self.optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)
        self.basis = RankOneAdam(self.model.F, options.learning_rate, decay=options.basis_decay)
        self.first_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.density = DensityControl(density_rules(options.density, options.steps), self.model.mu, options.seed)
        self.step = 0
        self.curve: list[dict[str, float]] = []
        self.probes: list[torch.Tensor] = []  # (S, S, 3) uint8 pictures of a held-out frame
        self.poses = PoseCorrections(shots.camera.to(device), self.model.centre)
        self.conditions = shots.conditions.to(device)

    @property
    def gaussians(self) -> HeadGasSet:
        """What density control edits."""
        return HeadGasSet(self.model, self.optimizer, self.basis)

    def run(
        self, checkpoint: Path, checkpoint_every: int, until: int | None = None, tell: Callable[[], None] | None = None
    ) -> None:
        """Trains to the end or to step `until`, a multiple of CURVE_EVERY; at first from the checkpoint where there is one.

        `tell` is called after each point of the curve. Raises TrainingDiverged, OutOfMemory.
        """
        if self.step == 0 and checkpoint.exists():
            self.load(checkpoint)
        probed = probe_steps(self.options.probes, self.options.steps, CURVE_EVERY) if self.held_out is not None else set()
        recent: list[dict[str, float]] = []
        last = self.options.steps if until is None else until
        while self.step < last and not is_on_plateau(self.curve, self.options.plateau_steps):
            recent.append(self.one_step_or_advice())
            if self.step % CURVE_EVERY == 0 or self.step == self.options.steps:
                point = {"step": float(self.step), **means_of(recent)}
                if self.step in probed:
                    point["held_out_psnr"] = self.probe()
                self.curve.append({**point, "gaussians": float(len(self.model.mu))})
                recent = []
                if tell is not None:
                    tell()
            if self.step % checkpoint_every == 0 and self.step % CURVE_EVERY == 0:
                self.save(checkpoint)

    def one_step_or_advice(self) -> dict[str, float]:
        try:
            return self.one_step()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            advice = "lower train_headgas.density.max_gaussians or train_headgas.resolution"
            size = f"{len(self.model.mu)} Gaussians at {self.options.resolution} pixels"
            raise OutOfMemory(f"step {self.step}: out of memory with {size}; {advice}") from error

    def one_step(self) -> dict[str, float]:
        """One frame, one update. Raises TrainingDiverged."""
        options, step = self.options, self.step
        index = frame_of_step(step, len(self.shots), options.seed)
        self.set_rates()
        background = self.background_of_step(step)
        gaussians = self.model.gaussians(self.condition_of_step(step), self.basis.blend)
        twist, camera = self.poses.camera_to_learn(index, options.pose_rate > 0 and step >= POSE_START * options.steps)
        with gaussians_told(step, "train_headgas"):
            splats = splat(gaussians, camera, background.to(self.device))
        target = self.target(index, background, splats.image.detach())
        terms = photometric(splats.image, target, options.lambda_l1, options.lambda_ssim)
        if self.features is not None and step >= options.perceptual_start * options.steps:
            self.add_perceptual(terms, splats.image, target, index)
        watching = self.density.rules.is_watching(step)
        if watching:
            splats.means2d.retain_grad()
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        found = finite_numbers(terms, step, "train_headgas")
        self.optimizer.step()
        if twist.grad is not None:
            self.poses.step(index, twist.grad, options.pose_rate * rate_factors(options.rates, step / options.steps)[1])
        self.step += 1
        self.basis.step(ahead=self.model.weights(self.condition_of_step(self.step)))
        if watching:
            self.density.watch(splats, gaussians.opacities, camera.width, camera.height)
            self.density.edit(self.step, self.gaussians)
        return found

    def set_rates(self) -> None:
        """Learning rates and the degree of the harmonics at this step."""
        of_means, of_rest = rate_factors(self.options.rates, self.step / self.options.steps)
        for group, rate in zip(self.optimizer.param_groups, self.first_rates, strict=True):
            group["lr"] = rate * (of_means if group["name"] == "mu" else of_rest)
        self.basis.rate = self.options.learning_rate * of_rest
        self.model.sh_shown = sh_degree(self.options, self.step)

    def condition_of_step(self, step: int) -> torch.Tensor:
        """The condition (E,) that a step trains on: its frame's, with noise where that is asked for."""
        condition = self.conditions[frame_of_step(step, len(self.shots), self.options.seed)]
        if self.options.condition_noise == 0:
            return condition
        noise = rng_of_step(self.options.seed, step, "condition").standard_normal(len(condition), np.float32)
        return condition + self.options.condition_noise * self.model.spread * torch.from_numpy(noise).to(self.device)

    def background_of_step(self, step: int) -> torch.Tensor:
        """The colour (3,) behind the head, on the CPU."""
        if self.options.background != "random":
            return torch.full((3,), self.level)
        return torch.from_numpy(rng_of_step(self.options.seed, step, "background").random(3, np.float32))

    def target(self, index: int, background: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        """The frame over a background (3,), as (1, 3, S, S); where the video shows nothing, what was made is right."""
        picture = composite(self.shots.images[index], self.shots.mattes[index], background.numpy())
        wanted = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous().to(self.device)
        known = self.shots.known[index]
        return wanted if known.all() else torch.where(torch.from_numpy(known).to(self.device), wanted, made)

    def add_perceptual(self, terms: dict[str, torch.Tensor], image: torch.Tensor, target: torch.Tensor, index: int) -> None:
        """The perceptual term, inside the box around the head's matte."""
        box = matte_box(torch.from_numpy(self.shots.mattes[index]) / 255)
        if box is None or self.features is None:
            return
        value = perceptual(self.features, image, target, box)
        terms["loss"] = terms["loss"] + self.options.lambda_perceptual * value
        terms["perceptual"] = value.detach()

    @torch.no_grad()
    def training_psnr(self, frames: int = 16) -> float:
        """Mean PSNR in dB over some training frames."""
        chosen = spread(np.arange(len(self.shots)), frames)
        camera = self.poses.camera(torch.from_numpy(chosen))
        return float(np.mean([self.psnr_of(self.shots, k, camera[at : at + 1]) for at, k in enumerate(chosen.tolist())]))

    @torch.no_grad()
    def probe(self) -> float:
        """Mean PSNR in dB over some held-out frames; the middle one's picture is kept."""
        assert self.held_out is not None
        middle = len(self.held_out) // 2
        camera = self.held_out.camera.to(self.device)
        self.probes.append(as_bytes(self.rendered(self.held_out.conditions[middle], camera[middle : middle + 1])[0]))
        return float(np.mean([self.psnr_of(self.held_out, k, camera[k : k + 1]) for k in range(len(self.held_out))]))

    def rendered(self, condition: torch.Tensor, camera: Camera) -> torch.Tensor:
        """A picture of the avatar (1, 3, S, S). Raises TrainingDiverged."""
        gaussians = self.model.gaussians(condition.to(self.device))
        with gaussians_told(self.step, "train_headgas"):
            return splat(gaussians, camera, torch.full((3,), self.level, device=self.device)).image.clamp(0, 1)

    def psnr_of(self, shots: Shots, index: int, camera: Camera) -> float:
        wanted = torch.from_numpy(composite(shots.images[index], shots.mattes[index], self.level)).permute(2, 0, 1)[None]
        judged = torch.from_numpy(shots.judged[index : index + 1])[:, None].float()
        return float(psnr_inside(self.rendered(shots.conditions[index], camera).cpu(), wanted, judged))

    def progress_picture(self) -> bytes:
        """A PNG: a held-out frame, and what the avatar made of it at each probe; of training where nothing is held out."""
        shots = self.shots if self.held_out is None else self.held_out
        middle = len(shots) // 2
        wanted = composite(shots.images[middle], shots.mattes[middle], self.level)
        panels = [torch.from_numpy((wanted * 255).round().astype(np.uint8)), *self.probes]
        return png_bytes(torch.cat(panels, 1).numpy())

    def save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "curve": self.curve,
            "probes": self.probes,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "basis": self.basis.state_dict(),
            "density": self.density.state_dict(),
            "poses": self.poses.state_dict(),
        }
        data = io.BytesIO()  # torch's own writer loses what the system says of a full disk
        torch.save(state, data)
        write_bytes_atomic(path, data.getvalue())

    def resize(self, count: int) -> None:
        """Makes room for another number of Gaussians, whose values are about to be loaded."""
        place = torch.zeros(count, dtype=torch.int64, device=self.device)
        self.gaussians.apply(Edit(place, place == 0))

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint; one that cannot be read (a power cut) is passed over."""
        try:
            state = torch.load(path, weights_only=True, map_location=self.device)
        except Exception as error:  # torch's reader raises whatever the damage leads it to
            print(f"{path}: the checkpoint cannot be read ({type(error).__name__}); training starts over", flush=True)
            return
        self.step, self.curve, self.probes = state["step"], state["curve"], [probe.cpu() for probe in state["probes"]]
        self.resize(len(state["model"]["mu"]))
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.basis.load_state_dict(state["basis"])
        self.density.load_state_dict(state["density"])
        self.poses.load_state_dict(state["poses"])


def as_bytes(image: torch.Tensor) -> torch.Tensor:
    """(3, S, S) in [0, 1] -> (S, S, 3) uint8."""
    return (image.permute(1, 2, 0) * 255).round().to(torch.uint8).cpu()


def means_of(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each term's mean over the steps that have it: the perceptual one begins late, and frames without a head have none."""
    names = dict.fromkeys(name for terms in found for name in terms)
    return {name: float(np.mean([terms[name] for terms in found if name in terms])) for name in names}


def finite_numbers(terms: Mapping[str, torch.Tensor], step: int, block: str) -> dict[str, float]:
    """What a step has found. Raises TrainingDiverged for what is not finite, with the block whose rate may be too high."""
    found = numbers_of(terms)
    bad = first_not_finite(found)
    if bad is not None:
        raise TrainingDiverged(f"step {step}: {bad} is not finite; lower {block}.learning_rate")
    return found


@contextmanager
def gaussians_told(step: int, block: str) -> Iterator[None]:
    """On a CPU the splatting looks at Gaussians, and says which one it cannot draw: training has diverged."""
    try:
        yield
    except UnusableGaussians as error:
        raise TrainingDiverged(f"step {step}: {error}; lower {block}.learning_rate") from None
