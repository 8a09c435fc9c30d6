"""Training the prior: an auto-decoder. One step, and all that it changes.

A person has a code, and so has an expression, whoever makes it: what registered scans of one model share is told to the prior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from avatar_models.heads.nphm.losses import Scans, Weights, losses
from avatar_models.heads.nphm.model import Codes, Nphm
from avatar_models.heads.nphm.storage import Codebooks
from pipelines.fleet.update import update
from pipelines.params import TrainNphm
from pipelines.schedule import cosine

FINAL_RATE = 0.02
"""The learning rate falls along a cosine to this share of its start."""
FIRST_CODES = 0.01  # standard deviation


@dataclass(frozen=True)
class Batch:
    """Points of scans, and whose they are."""

    scans: Scans
    people: Tensor  # (B,) int64
    expressions: Tensor  # (B,) int64

    def to(self, device: str) -> Batch:
        scans = replace(self.scans, **{field.name: getattr(self.scans, field.name).to(device) for field in fields(Scans)})
        return Batch(scans, self.people.to(device), self.expressions.to(device))


class Prior(nn.Module):
    """A neural head and the codes of all that it is trained on."""

    def __init__(self, model: Nphm, people: int, expressions: int) -> None:
        super().__init__()
        self.model = model
        self.geometry = nn.Embedding(people, model.sizes.identity_code)
        self.expression = nn.Embedding(expressions, model.sizes.expression_code)
        for codes in (self.geometry, self.expression):
            nn.init.normal_(codes.weight, std=FIRST_CODES)
        # Scans of linear heads have no colours to learn.
        model.canonical.color.requires_grad_(False)
        model.canonical.link.requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss."""
        geometry = self.geometry(batch.people)
        codes = Codes(geometry, torch.zeros_like(geometry), self.expression(batch.expressions))
        return losses(self.model, codes, batch.scans, Weights())

    def codes(self) -> Codebooks:
        geometry = self.geometry.weight.detach()
        return Codebooks(geometry, torch.zeros_like(geometry), self.expression.weight.detach())


class PriorTraining:
    """The state of a run: the prior, the optimiser, and the number of steps done."""

    def __init__(self, options: TrainNphm, prior: Prior, device: str) -> None:
        self.options, self.device = options, device
        self.prior = prior.to(device)
        self.forward: Callable[[Batch], dict[str, Tensor]] = self.prior
        networks = [weight for weight in prior.model.parameters() if weight.requires_grad]
        codes = [prior.geometry.weight, prior.expression.weight]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": networks, "lr": options.learning_rate, "weight_decay": options.weight_decay},
                {"params": codes, "lr": options.code_rate, "weight_decay": 0.0},
            ]
        )
        self.first_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.networks = networks
        self.step = 0
        self.curve: list[dict[str, float]] = []

    def one_step(self, batch: Batch, share: float = 1.0) -> dict[str, float]:
        """One update; see :meth:`pipelines.fleet.loop.Steps.one_step`. Raises TrainingDiverged."""
        self.set_rates()
        found = update(
            self.optimizer, self.forward(batch), self.networks, self.options.clip_norm, share, self.step, "train_nphm"
        )
        self.step += 1
        return found

    def distribute(self) -> None:
        self.forward = DistributedDataParallel(self.prior, broadcast_buffers=False)

    def set_rates(self) -> None:
        done = min(1.0, self.step / self.options.steps)
        factor = cosine(done, FINAL_RATE)
        for group, rate in zip(self.optimizer.param_groups, self.first_rates, strict=True):
            group["lr"] = rate * factor

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "curve": self.curve,
            "prior": self.prior.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.prior.load_state_dict(state["prior"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.curve = state["step"], state["curve"]
