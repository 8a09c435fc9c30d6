"""Heads in pictures: rows of the Jacobian against differences of traced colours in float64, and states found again."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatar_models.heads.nphm import Codes, Nphm, pictures, rays
from avatar_models.heads.nphm.linearised import FrameOptions, Observed
from avatar_models.heads.nphm.look import Look, Texture
from avatar_models.heads.nphm.model import UNITS
from avatar_models.heads.nphm.pictures import PictureOptions, Pixels, Sight, codes_of, follow_pictures, in_camera
from avatar_models.heads.nphm.poses import Poses
from avatar_models.heads.nphm.rays import trace
from avatar_models.heads.nphm.shared_identity import States
from avatar_models.heads.nphm.tracking import Tracked, TrackingOptions, solve_frames
from avatar_models.rotations import axis_angle_to_matrix
from tests.avatar_models.heads.nphm.faceted import SIZES, faceted, stone_codes

OPTIONS = PictureOptions(
    frames=FrameOptions(widths=(1.0,) * 4, expression=0.0), marks=0.0, rounds=2, look_frames=8, look_steps=120
)
NO_MARKS = torch.zeros(1, 1, 3)


def painted(dtype: torch.dtype = torch.float32) -> Look:
    """Stripes and patches of centimetres, in a light from the camera's side."""

    class Paint(Texture):
        def forward(self, places: Tensor) -> Tensor:
            x, y, z = (UNITS * places / UNITS).unbind(-1)
            return torch.stack([0.5 + 0.3 * torch.sin(30 * x), 0.5 + 0.3 * torch.sin(25 * y + 9 * z), 0.4 + 0.5 * x * y], -1)

    light = torch.zeros(9, 3, dtype=dtype)
    light[0], light[3] = 1.0, -0.2
    return Look(Paint(), light)


def stones(frames: int) -> tuple[Nphm, Tensor, States]:
    model, given = faceted(), stone_codes(frames)
    g = torch.Generator().manual_seed(2)
    turn = 0.3 * torch.randn(frames, 3, generator=g)
    poses = Poses(axis_angle_to_matrix(turn), 0.01 * torch.randn(frames, 3, generator=g))
    return model, given.geometry[:1], States(0.5 * given.expression, poses)


def filmed(model: Nphm, geometry: Tensor, truth: States, look: Look, count: int, beside: int = 10) -> Pixels:
    """What a camera half a metre away sees of heads; some rays go along their outlines, or beside them."""
    frames, g = len(truth.expression), torch.Generator().manual_seed(3)
    origin = torch.tensor([[0.0, 0.0, 0.5]]).to(geometry).expand(frames, 3)
    targets = torch.cat([0.045 * (2 * torch.rand(frames, count, 2, generator=g) - 1), torch.zeros(frames, count, 1)], 2)
    around = normalize(torch.randn(frames, beside, 2, generator=g), dim=2)
    around = (0.075 + 0.05 * torch.rand(frames, beside, 1, generator=g)) * around
    inside, outside = (
        normalize(places.to(geometry) - origin[:, None], dim=2) for places in (targets, torch.nn.functional.pad(around, (0, 1)))
    )
    pixels = Pixels(origin, inside, inside.new_zeros(inside.shape), outside, torch.eye(3).to(geometry).expand(frames, 3, 3))
    seen, codes = pixels.to_head(truth, inside), codes_of(geometry, truth)
    met = trace(model, codes, seen)
    assert float(met.hit.float().mean()) > 0.99
    x = seen.at(met.t)
    with torch.no_grad():
        shade = look.shade(in_camera(model.normals(x, codes), truth, pixels))
        return replace(pixels, color=shade * look.texture(UNITS * model.at_rest(x, codes)[..., :3]))


def test_rows_are_what_colours_and_outlines_change_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rays, "ON", 1e-9)
    monkeypatch.setattr(rays, "STEPS", 200)
    monkeypatch.setattr(rays, "PLACES", 1001)
    model, geometry, states = stones(2)
    model, geometry = model.double(), geometry.double()
    states = States(states.expression.double(), Poses(states.poses.rotation.double(), states.poses.translation.double()))
    even = replace(painted(torch.float64), light=torch.eye(9, dtype=torch.float64)[:, :1].repeat(1, 3))
    pixels = filmed(model, geometry, states, even, 40, beside=24)
    nothing = Observed(*(torch.zeros(2, 1, 3).double(),) * 2, torch.zeros(1, 3).double())
    see = Sight(model, geometry, pixels, nothing, even, OPTIONS)
    colors, _, outline = see(states).parts
    assert float(colors.residuals.abs().max()) < 1e-6 and float(outline.residuals.max()) <= 0
    assert not outline.jacobian[outline.residuals == 0].any() and bool(outline.jacobian[outline.residuals < 0].any(1).all())
    step = 1e-5
    for value in range(SIZES.expression_code + 6):
        moved = torch.zeros(2, SIZES.expression_code + 6, dtype=torch.float64)
        moved[:, value] = step
        ahead, behind = see(states.stepped(moved)).parts, see(states.stepped(-moved)).parts
        expected = (ahead[0].residuals - behind[0].residuals) / (2 * step)
        counts = colors.cost > 0
        torch.testing.assert_close(colors.jacobian[..., value][counts], expected[counts], rtol=2e-3, atol=2e-3)
        expected = (ahead[2].residuals - behind[2].residuals) / (2 * step)
        deep = (outline.residuals < -1e-4) & (outline.residuals > -8e-3)  # further in there are edges
        assert int(deep.sum()) > 3
        near = torch.isclose(outline.jacobian[..., value][deep], expected[deep], rtol=2e-2, atol=3e-3)
        assert float(near.float().mean()) >= 0.7  # the others are deepest beside an edge


def off(truth: States, geometry: Tensor) -> Tracked:
    """A head's states that are wrong by some degrees, millimetres, and a fifth of their expressions."""
    g = torch.Generator().manual_seed(6)
    frames = len(truth.expression)
    axes = normalize(torch.randn(2, frames, 3, generator=g), dim=2)
    step = torch.cat([-0.2 * truth.expression, math.radians(2.5) * axes[0], 0.002 * axes[1]], 1)
    wrong = truth.stepped(step)
    return Tracked(Codes(geometry, torch.zeros(1, SIZES.identity_code), wrong.expression), wrong.poses, torch.zeros(frames))


def test_with_a_known_look_the_poses_are_found_again() -> None:
    model, geometry, truth = stones(6)
    pixels = filmed(model, geometry, truth, painted(), 400)
    nothing = Observed(NO_MARKS.expand(6, 1, 3), NO_MARKS.expand(6, 1, 3), NO_MARKS[0])
    start = off(truth, geometry)
    see = Sight(model, geometry, pixels, nothing, painted(), OPTIONS)
    patient = replace(OPTIONS.frames, widths=(3.0,) * 4 + (1.0,) * 8)
    found, _ = solve_frames(see, States(start.codes.expression, start.poses), patient)
    turns = found.poses.apart(truth.poses)[0], start.poses.apart(truth.poses)[0]
    assert turns[0].mean() < 0.4 * turns[1].mean()


def test_what_the_pictures_leave_unexplained_falls_with_the_states() -> None:
    model, geometry, truth = stones(6)
    pixels = filmed(model, geometry, truth, painted(), 120)
    start = off(truth, geometry)
    marks = NO_MARKS.expand(6, 1, 3)
    found = follow_pictures(model, pixels, marks, start, OPTIONS, TrackingOptions(), seed=0)
    assert found.kept and found.unexplained[1] < 0.5 * found.unexplained[0]
    again = follow_pictures(model, pixels, marks, start, OPTIONS, TrackingOptions(), seed=0)
    assert torch.equal(found.tracked.codes.expression, again.tracked.codes.expression)


def test_pictures_of_something_else_change_nothing() -> None:
    model, geometry, truth = stones(4)
    pixels = filmed(model, geometry, truth, painted(), 60)
    noise = replace(pixels, color=torch.rand(pixels.color.shape, generator=torch.Generator().manual_seed(0)))
    start = off(truth, geometry)
    short = replace(OPTIONS, rounds=1, look_steps=20)
    found = follow_pictures(model, noise, NO_MARKS.expand(4, 1, 3), start, short, TrackingOptions(), seed=0)
    assert found.tracked is start and not found.kept and found.unexplained[1] > 0.5


def test_heads_that_no_ray_meets_are_left_where_they_are() -> None:
    model, geometry, truth = stones(4)
    pixels = filmed(model, geometry, truth, painted(), 60)
    start = off(truth, geometry)
    away = replace(start.poses, translation=start.poses.translation + 0.4)
    start = replace(start, poses=away)
    found = follow_pictures(model, pixels, NO_MARKS.expand(4, 1, 3), start, OPTIONS, TrackingOptions(), seed=0)
    assert found.tracked is start and not found.kept
    assert pictures.unexplained(painted(), model, geometry, States(start.codes.expression, away), pixels) == 1.0


def test_smoothing_that_loses_the_pictures_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, geometry, truth = stones(6)
    pixels = filmed(model, geometry, truth, painted(), 120)
    start = off(truth, geometry)
    marks = NO_MARKS.expand(6, 1, 3)
    plain = follow_pictures(model, pixels, marks, start, OPTIONS, TrackingOptions(), seed=0)

    def lost(see: Any, states: States, *rest: Any) -> tuple[States, None]:
        return replace(states, poses=replace(states.poses, translation=states.poses.translation + 0.4)), None

    monkeypatch.setattr(pictures, "smoothed", lost)
    found = follow_pictures(model, pixels, marks, start, OPTIONS, TrackingOptions(smoothness=1.0), seed=0)
    assert found.kept and found.unexplained == plain.unexplained
    assert torch.equal(found.tracked.poses.translation, plain.tracked.poses.translation)


@torch.no_grad()
def test_a_head_that_loses_its_rays_pays_for_them() -> None:
    """The truth costs least, and out of sight is worse than close by."""
    model, geometry, truth = stones(2)
    pixels = filmed(model, geometry, truth, painted(), 200, beside=40)
    nothing = Observed(NO_MARKS.expand(2, 1, 3), NO_MARKS.expand(2, 1, 3), NO_MARKS[0])
    see = Sight(model, geometry, pixels, nothing, painted(), OPTIONS)
    there, close, gone = (
        see(replace(truth, poses=replace(truth.poses, translation=truth.poses.translation + by))).energy()
        for by in (0.0, 0.003, 0.4)
    )
    assert (there < close).all() and (close < gone).all()


def test_smoothness_draws_neighbours_together() -> None:
    model, geometry, truth = stones(6)
    pixels = filmed(model, geometry, truth, painted(), 80)
    start = off(truth, geometry)
    short = replace(OPTIONS, rounds=1)
    apart = []
    for weight in (0.0, 1e-1):
        wanted = TrackingOptions(smoothness=weight)
        found = follow_pictures(model, pixels, NO_MARKS.expand(6, 1, 3), start, short, wanted, seed=0)
        apart.append(float(found.tracked.codes.expression.diff(dim=0).norm()))
    assert apart[1] < 0.3 * apart[0]


def test_options_that_solve_nothing_are_named() -> None:
    with pytest.raises(ValueError, match="at least one round"):
        PictureOptions(rounds=0)
