"""How well and how fast a distilled forward field poses points, beside searching for roots of the backward one.

    python -m bench.nphm_forward PROJECT [POINTS]

PROJECT is a folder in which `dvc repro distill_forward` has run on a prior of a linear head's people. Prints the mean cycle
error on the surface for expressions that the distillation has held out, of the people that it knew and of two that it did not,
whose planes are found; and the time for POINTS points of one expression, one thread, of the field, of Newton's method, and of
Broyden's as MonoNPHM uses it (50 steps at most, to 1e-5 of its units): from where the point is alone, and from 32 places around
it, of which the best solution counts.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from torch import Tensor

from avatar_models.heads.nphm import Codes, Nphm, surface_at_rest
from avatar_models.heads.nphm.distillation import FeatureOptions, cycle_error, fit_planes
from avatar_models.heads.nphm.forward_storage import read_forward
from avatar_models.heads.nphm.inversion import posed
from avatar_models.heads.nphm.model import UNITS
from avatar_models.heads.nphm.storage import read_nphm
from bench.timing import median_s
from pipelines.forward.people import people_of_training
from pipelines.forward.setup import HELD_OUT, SPACING_M

NEW_PEOPLE, EXPRESSIONS, TIMED = 2, 10, 5
BROYDEN_STEPS, BROYDEN_UNITS, STARTS, AROUND_UNITS = 50, 1e-5, 32, 2e-3


@torch.no_grad()
def broyden_often(model: Nphm, at_rest: Tensor, codes: Codes) -> Tensor:
    """The best of several starts for each of points (1, N, 3), all at once."""
    wanted = at_rest.repeat(1, STARTS, 1)
    found = broyden(model, wanted, codes, wanted[0] + AROUND_UNITS / UNITS * torch.randn(wanted.shape[1:]))
    left = (model.at_rest(found[None], codes)[0, :, :3] - wanted[0]).norm(dim=1).view(STARTS, -1)
    return found.view(STARTS, -1, 3)[left.argmin(0), torch.arange(left.shape[1])]


@torch.no_grad()
def broyden(model: Nphm, at_rest: Tensor, codes: Codes, start: Tensor) -> Tensor:
    """Broyden's good method on each point alone, from the inverse Jacobian of no deformation; points (1, N, 3)."""
    x = start.clone()
    inverse = torch.eye(3).repeat(len(x), 1, 1)
    g = model.at_rest(x[None], codes)[0, :, :3] - at_rest[0]
    for _ in range(BROYDEN_STEPS):
        if bool((g.norm(dim=1) < BROYDEN_UNITS / UNITS).all()):
            break
        step = -(inverse @ g[..., None])[..., 0]
        x = x + step
        then = model.at_rest(x[None], codes)[0, :, :3] - at_rest[0]
        change = then - g
        moved = (inverse @ change[..., None])[..., 0]
        scale = (step * moved).sum(1).clamp(min=1e-12)
        row = (step[:, None] @ inverse)[:, 0]
        inverse = inverse + ((step - moved) / scale[:, None])[..., None] @ row[:, None]
        g = then
    return x


def main() -> None:
    os.chdir(Path(sys.argv[1]))
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10000
    torch.set_num_threads(1)
    stored, forward = read_nphm(Path("models/nphm")), read_forward(Path("models/nphm_forward"))
    model, field = stored.model.eval(), forward.field
    options = forward.facts["options"]
    everyone = people_of_training(stored)
    random = np.random.default_rng((options["seed"], HELD_OUT))
    known, held = everyone.take(range(len(forward.people))).parted(options["held_out"], random)
    errors = []
    for person in range(len(known)):
        geometry = known.geometry[person][None]
        surface = surface_at_rest(model, geometry[0], SPACING_M).vertices[::5]
        features = forward.planes(surface[None], torch.tensor([person])).detach()
        for z in held.expressions[person][:EXPRESSIONS]:
            codes = Codes(geometry, torch.zeros_like(geometry), z[None])
            still = (model.at_rest(surface[None], codes)[..., :3] - surface[None]).norm(dim=2).mean().detach()
            errors.append((float(cycle_error(model, field, features, surface[None], codes).mean()), float(still)))
    print("known people, held-out expressions: {:.3f} mm (without a field {:.3f} mm)".format(*(1e3 * np.mean(errors, 0))))

    errors = []
    for person in range(len(known), len(known) + NEW_PEOPLE):
        geometry = everyone.geometry[person]
        surface = surface_at_rest(model, geometry, SPACING_M).vertices[::5]
        planes = fit_planes(model, field, surface, geometry, known.expressions[0], FeatureOptions(), 0)
        features = planes(surface[None], torch.zeros(1, dtype=torch.int64)).detach()
        for z in held.expressions[0][:EXPRESSIONS]:
            codes = Codes(geometry[None], torch.zeros_like(geometry)[None], z[None])
            errors.append(float(cycle_error(model, field, features, surface[None], codes).mean()))
    print(f"{NEW_PEOPLE} new people, held-out expressions: {1e3 * np.mean(errors):.3f} mm")

    surface = surface_at_rest(model, known.geometry[0], SPACING_M).vertices
    x = surface[torch.arange(count) % len(surface)][None]
    codes = Codes(known.geometry[:1], torch.zeros_like(known.geometry[:1]), held.expressions[0][:1])
    with torch.no_grad():
        features = forward.planes(x, torch.zeros(1, dtype=torch.int64))
        times = {
            "field": median_s(lambda: field(x, features, codes.expression), TIMED),
            "Newton": median_s(lambda: posed(model, x, codes), TIMED),
            "Broyden": median_s(lambda: broyden(model, x, codes, x[0]), TIMED),
            "32 starts": median_s(lambda: broyden_often(model, x, codes), 1),
        }
    apart = (posed(model, x, codes).points.detach()[0] - broyden(model, x, codes, x[0])).norm(dim=1)
    median = f"{1e3 * float(apart.median()):.4f} mm"
    print(f"{count:,} points, {field.sizes.hidden} hidden units; Newton's and Broyden's solutions are {median} apart (median)")
    for name, took in times.items():
        print(f"{name:10} {1e3 * took:8.1f} ms, {took / times['field']:6.1f} times the field's")


if __name__ == "__main__":
    main()
