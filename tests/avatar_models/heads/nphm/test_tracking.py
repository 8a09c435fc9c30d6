"""Tracking of clouds of points: rows of the Jacobian in float64, and heads found again whose state is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from avatar_models.heads.nphm import Codes, Nphm
from avatar_models.heads.nphm.carried import carried
from avatar_models.heads.nphm.chains import chain_solve
from avatar_models.heads.nphm.clouds import Clouds
from avatar_models.heads.nphm.fit import FitOptions
from avatar_models.heads.nphm.inversion import posed
from avatar_models.heads.nphm.linearised import FrameOptions, Observed, linearised
from avatar_models.heads.nphm.poses import Poses
from avatar_models.heads.nphm.shared_identity import IdentityOptions, States
from avatar_models.heads.nphm.tracking import (
    Tracked,
    TrackingOptions,
    follow_marks,
    key_frames,
    misfit_of,
    seeing,
    smoothed,
    solve_frames,
    track,
    track_frames,
)  # fmt: skip
from avatar_models.rotations import axis_angle_to_matrix
from tests.avatar_models.heads.nphm.faceted import faceted, on_surface, stone_codes
from tests.avatar_models.heads.nphm.tiny import TINY, codes, points, tiny

FREE = FrameOptions(points=300, clamp=0.01, widths=(2.0,) * 4 + (1.0,) * 14, expression=0.0)
"""Nothing pulls codes to zero: what made the points is the best there is."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def poses(count: int, angle: float, move: float, seed: int, dtype: torch.dtype = torch.float32) -> Poses:
    """Turned by so many degrees and moved by so many metres each, anywhere."""
    axes = torch.nn.functional.normalize(torch.randn(2, count, 3, generator=generator(seed), dtype=dtype), dim=2)
    return Poses(axis_angle_to_matrix(math.radians(angle) * axes[0]), move * axes[1])


def test_rows_of_the_jacobian_are_autograds() -> None:
    model, given = tiny().double(), codes(2)
    geometry, z = given.geometry[:1].double(), given.expression.double()
    at = poses(2, 30, 0.1, seed=0, dtype=torch.float64)
    world = at.to_world(points(2, 7).double())
    states = States(z, at)

    def distances(step: Tensor) -> Tensor:
        there = states.stepped(step)
        same = geometry.expand(2, -1)
        return model.sdf(there.poses.to_head(world), Codes(same, same, there.expression))

    places = points(1, 3)[0].double()

    def offsets(step: Tensor) -> Tensor:
        there = states.stepped(step)
        same = geometry.expand(2, -1)
        at_rest = model.at_rest(there.poses.to_head(world[:, :3]), Codes(same, same, there.expression))
        return (at_rest[..., :3] - places).flatten(1)

    still = torch.zeros(2, TINY.expression_code + 6, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(distances, still)  # (F, N, F, S)
    of_points, of_marks = linearised(model, geometry, states, Observed(world, world[:, :3], places), FREE).parts
    torch.testing.assert_close(of_points.residuals, distances(still), rtol=1e-12, atol=1e-14)
    for frame in range(2):
        torch.testing.assert_close(of_points.jacobian[frame], expected[frame, :, frame], rtol=1e-9, atol=1e-11)
        assert not expected[frame, :, 1 - frame].any()

    expected = torch.autograd.functional.jacobian(offsets, still)
    torch.testing.assert_close(of_marks.residuals, offsets(still), rtol=1e-12, atol=1e-14)
    for frame in range(2):
        torch.testing.assert_close(of_marks.jacobian[frame], expected[frame, :, frame], rtol=1e-9, atol=1e-11)


def test_the_normal_equations_slope_is_the_energys() -> None:
    model, given = tiny().double(), codes(2)
    geometry, z, x = given.geometry[:1].double(), given.expression.double(), points(2, 9).double()
    states = States(z, Poses(torch.eye(3).double().repeat(2, 1, 1), torch.zeros(2, 3).double()))

    def energies(step: Tensor) -> Tensor:
        there = states.stepped(step)
        at = there.poses.to_head(x)
        same = geometry.expand(2, -1)
        own = Codes(same, same, there.expression)
        offsets = (model.at_rest(at[:, :4], own)[..., :3] - observed.at_rest).flatten(1)
        squares = model.sdf(at, own).square()
        of_points = (squares / (1 + squares / 0.01**2)).mean(1)
        return (of_points + 0.7 * offsets.square().sum(1) / 4 + 1e-3 * there.expression.square().sum(1)).sum()

    options = FrameOptions(clamp=0.01, expression=1e-3, marks=0.7)
    observed = Observed(x, x[:, :4], points(1, 4)[0].double())
    linear = linearised(model, geometry, states, observed, options)
    still = torch.zeros(2, TINY.expression_code + 6).double()
    torch.testing.assert_close(linear.energy().sum(), energies(still), rtol=1e-12, atol=1e-16)
    slope = torch.autograd.functional.jacobian(energies, still)
    H, b = linear.normal_equations()
    torch.testing.assert_close(2 * b, slope, rtol=1e-9, atol=1e-12)
    assert bool((torch.linalg.eigvalsh(H) > 0).all())


def known(frames: int) -> tuple[Nphm, Tensor, States, Tensor]:
    """A head, its states, and 300 points of its surface in the world."""
    model, given = faceted(), stone_codes(frames)
    truth = States(0.5 * given.expression, poses(frames, 25, 0.2, seed=1))
    return model, given.geometry[:1], truth, truth.poses.to_world(on_surface(model, given.geometry[:1], truth.expression, 300))


def near(truth: States) -> States:
    """Expressions that are not known, and poses that are wrong by 3 degrees and 4 mm."""
    frames = len(truth.expression)
    off = poses(frames, 3, 0.004, seed=2)
    return States(
        torch.zeros_like(truth.expression),
        Poses(truth.poses.rotation @ off.rotation, truth.poses.translation + off.translation),
    )


def test_frames_are_found_again() -> None:
    model, geometry, truth, world = known(3)
    found, at = solve_frames(seeing(model, geometry, Observed.of_points(world), FREE), near(truth), FREE)
    misfit = misfit_of(at)
    turn, move = found.poses.apart(truth.poses)
    assert misfit.max() < 1e-6
    assert turn.max() < math.radians(0.01) and move.max() < 2e-5
    assert (found.expression - truth.expression).abs().max() < 2e-3


def test_outliers_do_not_move_the_head() -> None:
    model, geometry, truth, world = known(3)
    world[:, ::10] += 0.05 * torch.randn(3, 30, 3, generator=generator(6))
    closer = (0.03, 0.01, 0.002, 0.0005)
    options = replace(FREE, clamp=1.0, widths=tuple(clamp for clamp in closer for _ in range(6)))
    found, _ = solve_frames(seeing(model, geometry, Observed.of_points(world), options), near(truth), options)
    turn, move = found.poses.apart(truth.poses)
    assert turn.max() < math.radians(0.05) and move.max() < 2e-5
    assert (found.expression - truth.expression).abs().max() < 1e-2


def test_a_frame_that_shows_nothing_near_the_head_stays_where_it_was() -> None:
    model, geometry, truth, world = known(2)
    world[1] += 5.0
    found, at = solve_frames(seeing(model, geometry, Observed.of_points(world), FREE), truth, FREE)
    misfit = misfit_of(at)
    move = found.poses.apart(truth.poses)[1]
    assert move[0] < 1e-5 and bool(found.expression.isfinite().all()) and float(misfit[1]) > 100 * float(misfit[0])


def marked(model: Nphm, geometry: Tensor, truth: States, count: int) -> tuple[Tensor, Tensor]:
    """Places at rest (L, 3) that every expression can reach, and where they are in the world (F, L, 3)."""
    at_rest = 0.09 * torch.nn.functional.normalize(torch.randn(count, 3, generator=generator(3)), dim=1)
    same = geometry.expand(len(truth.expression), -1)
    own = Codes(same, same, truth.expression)
    reached = posed(model, at_rest.expand(len(same), -1, -1), own).converged().all(0)
    assert int(reached.sum()) > count // 2
    return at_rest[reached], carried(model, Codes(geometry, geometry, truth.expression), truth.poses, at_rest[reached])


def test_marks_tell_what_few_points_do_not() -> None:
    model, geometry, truth, world = known(3)
    at_rest, marks = marked(model, geometry, truth, 12)
    few = Observed.of_points(world[:, :4])
    start = States(torch.zeros_like(truth.expression), truth.poses)
    patient = replace(FREE, clamp=0.1, widths=(1.0,) * 30)
    unknown, _ = solve_frames(seeing(model, geometry, few, patient), start, patient)
    marked_too = seeing(model, geometry, replace(few, marks=marks, at_rest=at_rest), patient)
    found, _ = solve_frames(marked_too, start, patient)
    assert (unknown.expression - truth.expression).abs().max() > 0.05
    assert found.poses.apart(truth.poses)[1].max() < 2e-5
    assert (found.expression - truth.expression).abs().max() < 2e-3


def test_where_marks_lie_at_rest_is_found_with_the_frames() -> None:
    model, geometry, truth, clouds = sequence(5)
    _, marks = marked(model, geometry, truth, 40)
    shaken = near(truth).poses
    off = Poses(truth.poses.rotation, truth.poses.translation + 0.1 * (shaken.translation - truth.poses.translation))
    start = Tracked(Codes(geometry, geometry, 0.8 * truth.expression), off, torch.zeros(5))

    def spread(found: Tracked) -> float:
        own = Codes(geometry.expand(5, -1), geometry.expand(5, -1), found.codes.expression)
        inside = model.at_rest(found.poses.to_head(marks), own)[..., :3]
        return float((inside - inside.median(0).values).norm(dim=2).mean())

    found = follow_marks(model, clouds, marks, start, replace(SHORT, mark_steps=(3, 3)))
    assert spread(found) < 0.4 * spread(start) and found.misfit.max() < 1.5e-3


def sequence(frames: int) -> tuple[Nphm, Tensor, States, Clouds]:
    """A head that turns by 8 degrees and moves by 1 cm from frame to frame while its expression changes."""
    model, given = faceted(), stone_codes(2)
    share = torch.linspace(0, 0.5, frames)[:, None]
    expression = (1 - share) * given.expression[:1] + share * given.expression[1:]
    turn = torch.tensor([0.3, 1.0, 0.2]) * math.radians(8) * torch.arange(frames)[:, None]
    truth = States(
        0.5 * expression, Poses(axis_angle_to_matrix(turn), torch.tensor([0.01, 0.0, 0.0]) * torch.arange(frames)[:, None])
    )
    world = truth.poses.to_world(on_surface(model, given.geometry[:1], truth.expression, 400))
    return model, given.geometry[:1], truth, Clouds(list(world))


def test_frames_follow_from_the_key_frames_both_ways() -> None:
    model, geometry, truth, clouds = sequence(9)
    keys = torch.tensor([4])  # 32 degrees away from both ends: too far for them to start there
    options = replace(FREE, clamp=0.02, widths=(1.0,) * 6)
    found, misfit = track_frames(model, geometry, clouds, keys, truth[keys], options)
    turn, move = found.poses.apart(truth.poses)
    assert turn.max() < math.radians(0.1) and move.max() < 2e-4 and misfit.max() < 1e-4


def test_key_frames_stand_in_the_middle_of_their_shares() -> None:
    assert key_frames(20, 5).tolist() == [2, 6, 10, 14, 18]
    assert key_frames(3, 5).tolist() == [0, 1, 2]


SHORT = TrackingOptions(
    key_frames=2,
    identity=IdentityOptions(FitOptions(steps=40, points=100, identity=0.0, symmetry=0.0)),
    frames=FrameOptions(points=200),
)


def test_the_same_seed_gives_the_same_and_another_one_not() -> None:
    model, _, truth, clouds = sequence(4)
    shorter = replace(SHORT, smoothness=1e-6, identity=IdentityOptions(FitOptions(steps=6, points=100)))
    once, again, other = (track(model, clouds, truth.poses, shorter, seed) for seed in (1, 1, 2))
    for a, b, c in zip(flat(once), flat(again), flat(other), strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)


def flat(tracked: Tracked) -> list[Tensor]:
    return [tracked.codes.expression, tracked.poses.rotation, tracked.poses.translation, tracked.misfit]


def test_from_rough_poses_the_sequence_is_found() -> None:
    model, geometry, truth, clouds = sequence(4)
    rough = near(truth).poses
    in_head = truth.poses.to_head(torch.stack([*clouds.points]))
    same = geometry.expand(4, -1)
    normals = model.normals(in_head, Codes(same, same, truth.expression)).detach() @ truth.poses.rotation.mT
    for seen in (clouds, Clouds(clouds.points, list(normals))):
        found = track(model, seen, rough, SHORT)
        turn, move = found.poses.apart(truth.poses)  # 3 degrees and 4 mm before
        assert turn.max() < math.radians(1) and move.max() < 2.5e-3 and found.misfit.max() < 1.5e-3


def test_smoothing_pulls_neighbours_together_and_weight_by_weight() -> None:
    model, geometry, truth, clouds = sequence(5)
    shaken = truth.stepped(
        0.05 * torch.cat([torch.randn(truth.expression.shape, generator=generator(1)), torch.zeros(5, 6)], 1)
    )
    frames = replace(FREE, clamp=0.02)
    steps = []
    for weight in (1e-9, 1e-5, 1e-3, 1.0):
        see = seeing(model, geometry, Observed.of_points(torch.stack([*clouds.points])), frames)
        found, _ = smoothed(see, shaken, clouds.follows, replace(SHORT, smoothness=weight, smoothing_steps=4))
        steps.append(float(found.expression.diff(dim=0).norm()))
    true = float(truth.expression.diff(dim=0).norm())
    assert abs(steps[0] - true) < 0.05 * true
    assert steps[0] > steps[1] > steps[2] > steps[3] and steps[3] < 1e-2 * true


def test_a_chain_is_solved_as_one_system_would_be() -> None:
    g, frames, size = generator(0), 5, 4
    root = torch.randn(frames, size, size, generator=g, dtype=torch.float64)
    H, b = root @ root.mT + torch.eye(size).double(), torch.randn(frames, size, generator=g, dtype=torch.float64)
    pull = torch.tensor([2.0, 1.0, 0.5, 0.0]).double() * torch.tensor([[1.0], [0.0], [3.0], [1.0]]).double()  # two chains
    x = torch.randn(frames, 3, generator=g, dtype=torch.float64)

    def cost(step: Tensor) -> Tensor:
        step = step.view(frames, size)
        apart = torch.nn.functional.pad(x, (0, 1)).diff(dim=0) + step.diff(dim=0)
        own = (step[:, None] @ H @ step[..., None]).sum() / 2 + (b * step).sum()
        return own + (pull * apart.square()).sum() / 2

    still = torch.zeros(frames * size).double()
    slope, whole = torch.autograd.functional.jacobian(cost, still), torch.autograd.functional.hessian(cost, still)
    expected = torch.linalg.solve(whole, -slope).view(frames, size)
    torch.testing.assert_close(chain_solve(H, b, pull, x), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        chain_solve(H[:1], b[:1], pull[:0], x[:1]), -torch.linalg.solve(H[:1], b[:1]), rtol=1e-10, atol=1e-12
    )


def test_bad_clouds_and_options_are_named() -> None:
    some, nan = torch.zeros(4, 3), torch.full((4, 3), math.nan)
    for frames, normals, message in (
        ([], None, "no frames"),
        ([some, some[:0]], None, "frame 1 .* leave out empty frames"),
        ([some, nan], None, "frame 1 .* not finite"),
        ([some], [some[:3]], "normals are not one for each point"),
    ):
        with pytest.raises(ValueError, match=message):
            Clouds(frames, normals)
    with pytest.raises(ValueError, match="key_frames = 0"):
        TrackingOptions(key_frames=0)
    with pytest.raises(ValueError, match="clamps are above zero"):
        FrameOptions(widths=())
    with pytest.raises(ValueError, match="2 rough poses for 1 frames"):
        track(tiny(), Clouds([some]), Poses.still(2), SHORT)


def test_a_frames_points_are_drawn_without_repeats_where_it_has_enough() -> None:
    clouds = Clouds([torch.arange(30.0).view(10, 3), torch.arange(6.0).view(2, 3)])
    drawn, normals = clouds.draw([0, 1], 8, generator(0))
    assert normals is None and drawn.shape == (2, 8, 3)
    assert len(drawn[0].unique(dim=0)) == 8 and len(drawn[1].unique(dim=0)) == 2


def test_frames_follow_within_their_sequence_alone() -> None:
    some = [torch.zeros(4, 3)] * 4
    assert Clouds(some).follows.tolist() == [True, True, True]
    assert Clouds(some, sequences=[0, 0, 1, 1]).follows.tolist() == [True, False, True]
    with pytest.raises(ValueError, match="3 frames are said to be of a sequence, there are 4"):
        Clouds(some, sequences=[0, 0, 1])
