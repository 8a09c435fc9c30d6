"""Training an NPGA: one step, and all that it changes. What a step sees follows from its number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from avatar_models.avatar import BACKGROUNDS
from avatar_models.densify import Edit
from avatar_models.density_control import DensityControl
from avatar_models.npga import Npga
from avatar_models.npga.density import NpgaSet
from avatar_models.npga.losses import Weights, losses, nearest
from pipelines.fleet.update import update
from pipelines.frames import composite
from pipelines.params import TrainNpga
from pipelines.schedule import density_rules, rate_factors
from pipelines.subject import Shots
from pipelines.training import gaussians_told

POSITION_RATE = 1.6e-4
"""Of the means, metres a step: 3DGS's, of a head of a metre."""


@dataclass(frozen=True)
class Shot:
    """Which of the shots a step sees. They are all in memory."""

    number: int

    def to(self, device: str) -> Shot:
        """What is read of the shot goes there in the step."""
        return self


class NpgaTraining:
    """The state of a run: the avatar, its optimisers, and the number of steps done."""

    def __init__(self, options: TrainNpga, model: Npga, shots: Shots, device: str) -> None:
        self.options, self.shots, self.device = options, shots, device
        self.model = model.to(device)
        self.neighbours = nearest(model.mu, options.neighbours)
        means = model.mu.detach()
        self.extent = float((means - means.mean(0)).abs().max() * 2)
        self.weights = Weights(
            options.lambda_l1, options.lambda_ssim, options.lambda_laplacian, options.lambda_coarse, options.lambda_detail
        )
        rate = options.learning_rate
        gaussians = [
            {"params": [model.mu], "lr": POSITION_RATE, "name": "mu"},
            {"params": [model.log_scales, model.colors, model.latents], "lr": rate, "name": "looks"},
            {"params": [model.logits], "lr": 5 * rate, "name": "opacities"},
            {"params": [model.quats, model.features], "lr": rate / 2, "name": "rest"},
        ]
        networks = [
            {"params": list(model.F.parameters()), "lr": options.coarse_rate, "name": "F"},
            {"params": list(model.G.parameters()), "lr": options.detail_rate, "name": "G"},
        ]
        if model.screen is not None:
            networks.append({"params": list(model.screen.parameters()), "lr": options.detail_rate, "name": "screen"})
        self.adam = torch.optim.Adam(gaussians, eps=1e-15)
        self.adamw = torch.optim.AdamW([group for group in networks if group["params"]], weight_decay=options.weight_decay)
        self.first_rates = [[group["lr"] for group in own.param_groups] for own in (self.adam, self.adamw)]
        self.density = DensityControl(
            density_rules(options.density, options.steps, options.gradient_power), model.mu, options.seed
        )
        self.conditions = shots.conditions.to(device)
        self.step = 0
        self.curve: list[dict[str, float]] = []
        self.shown: list[Tensor] = []
        """The first probed shot, and what was made of it at each probe, (S, S, 3) uint8 each."""

    def one_step(self, batch: Shot, share: float = 1.0) -> dict[str, float]:
        """One update; see :meth:`pipelines.fleet.loop.Steps.one_step`. Raises TrainingDiverged."""
        self.set_rates()
        shot = batch.number
        background = self.background
        moved = self.model.moved(self.conditions[shot][: self.model.sizes.field.expression_code])
        camera = self.shots.camera[shot : shot + 1].to(self.device)
        with gaussians_told(self.step, "train_npga"):
            splats = self.model.splatted(moved.gaussians, camera, background)
        target = self.target(shot, splats.image.detach())
        terms = losses(self.model, moved, splats.image, target, self.neighbours, self.weights)
        watching = self.density.rules.is_watching(self.step)
        if watching:
            splats.means2d.retain_grad()
        self.adamw.zero_grad(set_to_none=True)
        learned = [parameter for group in self.adamw.param_groups for parameter in group["params"]]
        found = update(self.adam, terms, learned, self.options.clip_norm, share, self.step, "train_npga")
        self.adamw.step()
        self.step += 1
        if watching:
            self.density.watch(splats, moved.gaussians.opacities, camera.width, camera.height)
            if self.density.edit(self.step, self.gaussians):
                self.neighbours = nearest(self.model.mu, self.options.neighbours)
        return {**found, "gaussians": float(len(self.model.mu))}

    @property
    def gaussians(self) -> NpgaSet:
        """What density control edits."""
        return NpgaSet(self.model, self.adam, self.extent)

    @property
    def background(self) -> Tensor:
        """The colour (3,) behind the head."""
        return torch.full((3,), BACKGROUNDS[self.options.background], device=self.device)

    def target(self, shot: int, made: Tensor) -> Tensor:
        """The shot over the background, (1, 3, S, S); where the video shows nothing, what was made is right."""
        picture = composite(self.shots.images[shot], self.shots.mattes[shot], BACKGROUNDS[self.options.background])
        wanted = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous().to(self.device)
        known = torch.from_numpy(self.shots.known[shot]).to(self.device)
        return torch.where(known, wanted, made[:, :3])

    def set_rates(self) -> None:
        """Rates fall as HeadGaS's do; F is still for the first share of the steps."""
        done = self.step / self.options.steps
        of_means, of_rest = rate_factors("cosine", done)
        for optimizer, rates in zip((self.adam, self.adamw), self.first_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                still = group["name"] == "F" and done < self.options.coarse_still
                group["lr"] = 0.0 if still else rate * (of_means if group["name"] == "mu" else of_rest)

    def distribute(self) -> None:
        raise AssertionError("an avatar is trained by one process")

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "curve": self.curve,
            "shown": self.shown,
            "model": self.model.state_dict(),
            "adam": self.adam.state_dict(),
            "adamw": self.adamw.state_dict(),
            "density": self.density.state_dict(),
            "neighbours": self.neighbours,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        place = torch.zeros(len(state["model"]["mu"]), dtype=torch.int64, device=self.device)
        self.gaussians.apply(Edit(place, place == 0))  # room for as many Gaussians as there were
        self.model.load_state_dict(state["model"])
        self.adam.load_state_dict(state["adam"])
        self.adamw.load_state_dict(state["adamw"])
        self.density.load_state_dict(state["density"])
        self.neighbours = state["neighbours"]
        self.step, self.curve, self.shown = state["step"], state["curve"], [column.cpu() for column in state["shown"]]
