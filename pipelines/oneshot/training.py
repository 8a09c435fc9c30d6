"""Training GAGAvatar: one step, one checkpoint, a picture now and then. The same loop in one process and in many.

What a step sees follows from its number (:mod:`pipelines.oneshot.stream`); all else that it changes is in the checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from avatar_models.gagavatar import GAGAvatar
from avatar_models.gagavatar.losses import Weights, losses
from avatar_models.gagavatar.model import Person, Pictures
from avatar_models.heads.skinning import Rig
from avatar_models.perceptual import Vgg16Features
from pipelines.devices import expect_drawing, has_bfloat16
from pipelines.fanout import MachineUnfit
from pipelines.fleet.update import update
from pipelines.oneshot.pairs import Batch
from pipelines.params import TrainOneshot
from pipelines.training import gaussians_told

SLOW = ("decoder.style.", "to_code.")
"""Parameters that learn at a tenth of the rate: the style MLP and what feeds it."""
SECOND_BETA = 0.99
FINAL_RATE = 0.1
"""The learning rate falls along a line to this share of its start."""


Forward = Callable[..., tuple[Pictures, Person]]


class OneshotTraining:
    """The state of a run: the model, its moving average, the optimiser, the number of steps done, and what probes have seen."""

    def __init__(
        self, options: TrainOneshot, model: GAGAvatar, rig: Rig, device: str, features: Vgg16Features | None = None
    ) -> None:
        self.options, self.rig, self.device = options, rig.to(device), device
        self.model = model.to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions are faster so
        self.forward: Forward = self.model
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.model.in_bfloat16 = options.precision == "bfloat16"
        self.features = features
        self.weights = Weights(options.lambda_box, options.lambda_perceptual, options.lambda_lifting)
        groups = parameter_groups(self.model, options.learning_rate)
        self.optimizer = torch.optim.Adam(groups, betas=(options.momentum, SECOND_BETA))
        self.first_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.step = 0
        self.curve: list[dict[str, float]] = []
        self.shown: list[Tensor] = []
        """What probes have seen, a column each: photos, targets, and what was made of them each time; (rows S, S, 3) uint8."""

    def one_step(self, batch: Batch, share: float = 1.0) -> dict[str, float]:
        """One update. `share`: this process's part of the samples times the number of processes; one where all have as many.

        Raises TrainingDiverged.
        """
        options = self.options
        self.set_rates()
        self.model.train()
        vertices = batch.vertices(self.rig)
        with gaussians_told(self.step, "train_oneshot"):
            pictures, person = self.forward(batch.photos_on(self.rig), vertices, batch.views)
        pictures = pictures.changed(lambda made: torch.where(batch.known, made, batch.targets))
        terms = losses(pictures, person, batch.targets, batch.boxes, vertices, self.weights, self.features)
        found = update(
            self.optimizer, terms, list(self.model.parameters()), options.clip_norm, share, self.step, "train_oneshot"
        )
        self.step += 1
        self.update_average()
        return found

    def expect_machine(self) -> None:
        """Raises MachineUnfit where the device that trains would only imitate bfloat16, or cannot draw."""
        expect_drawing(self.device)
        if self.options.precision == "bfloat16" and not has_bfloat16(self.device):
            raise MachineUnfit("this processor has no bfloat16 (AVX-512): set train_oneshot.precision: float32")

    def distribute(self) -> None:
        """From now on gradients are averaged over all processes. Raises what :meth:`expect_machine` does."""
        self.expect_machine()
        self.forward = DistributedDataParallel(self.model, broadcast_buffers=False)

    def set_rates(self) -> None:
        factor = 1.0 - (1.0 - FINAL_RATE) * min(1.0, self.step / self.options.steps)
        for group, rate in zip(self.optimizer.param_groups, self.first_rates, strict=True):
            group["lr"] = rate * factor

    @torch.no_grad()
    def update_average(self) -> None:
        """Moves the average towards the weights, faster in the first steps."""
        decay = min(self.options.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1.0 - decay)

    @torch.no_grad()
    def rendered(self, batch: Batch) -> Tensor:
        """What the averaged weights make of a batch, (B, 3, S, S) in [0, 1]. Raises TrainingDiverged."""
        with gaussians_told(self.step, "train_oneshot"):
            pictures, _ = self.average(batch.photos_on(self.rig), batch.vertices(self.rig), batch.views)
        return torch.clamp(pictures.refined, 0, 1)

    def state(self) -> dict[str, Any]:
        """All that a later run goes on from."""
        return {
            "step": self.step,
            "curve": self.curve,
            "shown": self.shown,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.curve, self.shown = state["step"], state["curve"], [column.cpu() for column in state["shown"]]


def parameter_groups(model: GAGAvatar, rate: float) -> list[dict[str, Any]]:
    """The released code's groups: of the parameters that learn, the style's at a tenth of the rate."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    slow = [parameter for name, parameter in named if any(part in name for part in SLOW)]
    rest = [parameter for name, parameter in named if not any(part in name for part in SLOW)]
    groups = [{"params": rest, "lr": rate}, {"params": slow, "lr": rate * 0.1}]
    return [group for group in groups if group["params"]]
