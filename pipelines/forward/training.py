"""Training the forward field: one step, and all that it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from avatar_models.heads.nphm.distillation import Weights, losses
from avatar_models.heads.nphm.forward import ForwardField, TriPlanes
from avatar_models.heads.nphm.model import Codes, Nphm
from pipelines.fleet.update import update
from pipelines.params import DistillForward
from pipelines.schedule import cosine

FINAL_RATE = 0.01
"""The learning rate falls along a cosine to this share of its start."""


@dataclass(frozen=True)
class Batch:
    """Points at rest, on whose head, and what it does."""

    points: Tensor  # (B, N, 3) metres
    people: Tensor  # (B,) int64
    geometry: Tensor  # (B, D)
    expression: Tensor  # (B, E)

    def to(self, device: str) -> Batch:
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def codes(self) -> Codes:
        return Codes(self.geometry, torch.zeros_like(self.geometry), self.expression)


class Distilled(nn.Module):
    """What is learned, and the prior that it is learned from."""

    def __init__(self, model: Nphm, field: ForwardField, planes: TriPlanes, weights: Weights) -> None:
        super().__init__()
        self.model, self.field, self.planes, self.weights = model.requires_grad_(False), field, planes, weights

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss."""
        return losses(self.model, self.field, self.planes, batch.points, batch.people, batch.codes, self.weights)


class ForwardTraining:
    """The state of a run: the field, the planes, the optimiser, and the number of steps done."""

    def __init__(self, options: DistillForward, distilled: Distilled, device: str) -> None:
        self.options, self.device = options, device
        self.distilled = distilled.to(device)
        self.forward: Callable[[Batch], dict[str, Tensor]] = self.distilled
        self.learned = [*distilled.field.parameters(), *distilled.planes.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(distilled.field.parameters()), "lr": options.learning_rate},
                {"params": list(distilled.planes.parameters()), "lr": options.plane_rate},
            ],
            weight_decay=0.0,
        )
        self.first_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.step = 0
        self.curve: list[dict[str, float]] = []

    def one_step(self, batch: Batch, share: float = 1.0) -> dict[str, float]:
        """One update; see :meth:`pipelines.fleet.loop.Steps.one_step`. Raises TrainingDiverged."""
        options = self.options
        done = min(1.0, self.step / options.steps)
        factor = cosine(done, FINAL_RATE)
        for group, rate in zip(self.optimizer.param_groups, self.first_rates, strict=True):
            group["lr"] = rate * factor
        found = update(
            self.optimizer, self.forward(batch), self.learned, options.clip_norm, share, self.step, "distill_forward"
        )
        self.step += 1
        return found

    def distribute(self) -> None:
        self.forward = DistributedDataParallel(self.distilled, broadcast_buffers=False)

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "curve": self.curve,
            "field": self.distilled.field.state_dict(),
            "planes": self.distilled.planes.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.distilled.field.load_state_dict(state["field"])
        self.distilled.planes.load_state_dict(state["planes"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.curve = state["step"], state["curve"]
