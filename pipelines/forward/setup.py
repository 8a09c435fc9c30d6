"""A run of the distillation before its first step: the same params and prior give the same people and points in any process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatar_models.heads.nphm import surface_at_rest
from avatar_models.heads.nphm.distillation import Weights, cycle_error
from avatar_models.heads.nphm.forward import ForwardField, ForwardSizes, TriPlanes
from avatar_models.heads.nphm.model import Codes
from avatar_models.heads.nphm.storage import read_nphm
from pipelines.fleet.loader import read_ahead
from pipelines.fleet.loop import Place
from pipelines.forward.people import People, people_of_training
from pipelines.forward.training import Batch, Distilled, ForwardTraining
from pipelines.params import DistillForward
from pipelines.splits import spread

SPACING_M = 0.004
"""Of the grid that a surface is found on."""
NEAR_M = 0.003
"""Standard deviation of points about a surface."""
HELD_OUT, DRAWS, JUDGED = range(3)
"""What a seed is used for."""
JUDGED_POINTS = 2000
"""Of each surface."""


@dataclass(frozen=True)
class ForwardRun:
    """All that a process needs to take part."""

    options: DistillForward
    people: People
    held_out: People  # the same people with other expressions
    surfaces: list[Tensor]  # (M, 3) metres: of each person at rest
    training: ForwardTraining

    def batches(self, steps: range, place: Place, threads: int) -> Iterator[Batch]:
        """This process's heads of each step."""
        wanted = (place.samples(step, self.options.batch) for step in steps)
        return read_ahead(self.read, wanted, threads)

    def read(self, samples: range) -> Batch:
        """The heads at places in the stream of samples: a person, something between two of the person's expressions, and points
        near the surface at rest."""
        points, people, expressions = [], [], []
        for sample in samples:
            random = np.random.default_rng((self.options.seed, DRAWS, sample))
            person = int(random.integers(len(self.people)))
            surface, codes = self.surfaces[person], self.people.expressions[person]
            a, b = random.integers(len(codes), size=2).tolist()
            chosen = torch.from_numpy(random.integers(len(surface), size=self.options.points))
            moved = torch.from_numpy(random.normal(0, NEAR_M, (self.options.points, 3)).astype(np.float32))
            points.append(surface[chosen] + moved)
            people.append(person)
            expressions.append(torch.lerp(codes[a], codes[b], float(random.random())))
        return Batch(torch.stack(points), torch.tensor(people), self.people.geometry[people], torch.stack(expressions))

    def probe(self) -> dict[str, float]:
        """Mean cycle error in mm of held-out expressions."""
        return {"held_out_mm": 1e3 * self.error(self.held_out)}

    @torch.no_grad()
    def error(self, people: People) -> float:
        """Mean cycle error in metres on the surfaces, over all expressions of people that are planes' owners in order."""
        distilled, device = self.training.distilled, self.training.device
        found = []
        for person, expressions in enumerate(people.expressions):
            surface = self.surfaces[person]
            points = surface[torch.from_numpy(spread(np.arange(len(surface)), JUDGED_POINTS))].to(device)
            features = distilled.planes(points[None], torch.tensor([person], device=device))
            for expression in expressions.to(device):
                geometry = people.geometry[person : person + 1].to(device)
                codes = Codes(geometry, torch.zeros_like(geometry), expression[None])
                found.append(cycle_error(distilled.model, distilled.field, features, points[None], codes).mean())
        return float(torch.stack(found).mean())

    def pictures(self) -> dict[str, bytes]:
        """None."""
        return {}


@dataclass(frozen=True)
class Recipe:
    """What a run is made of; plain values, so that it can be sent to other processes."""

    distill_forward: Mapping[str, Any]
    prior: str  # its folder

    def prepare(self, device: str) -> ForwardRun:
        """Raises ModelError for a prior that cannot be read, SurfaceError where a head has no surface."""
        options = DistillForward.model_validate(dict(self.distill_forward))
        stored = read_nphm(Path(self.prior))
        everyone = people_of_training(stored)
        people = everyone.take(range(min(options.people, len(everyone))))
        known, held_out = people.parted(options.held_out, np.random.default_rng((options.seed, HELD_OUT)))
        model = stored.model.eval()
        surfaces = [surface_at_rest(model, geometry, SPACING_M).vertices for geometry in people.geometry]
        sizes = ForwardSizes(model.sizes.expression_code, hidden=options.hidden)
        torch.manual_seed(options.seed)
        weights = Weights(options.lambda_offset, options.lambda_variation)
        field = ForwardField(sizes, spread_of(people))
        distilled = Distilled(model, field, TriPlanes(sizes, len(people)), weights)
        return ForwardRun(options, known, held_out, surfaces, ForwardTraining(options, distilled, device))


def spread_of(people: People) -> Tensor:
    """Standard deviations (E,) of their expressions' codes."""
    return torch.cat(people.expressions).std(0).clamp_min(1e-6)
