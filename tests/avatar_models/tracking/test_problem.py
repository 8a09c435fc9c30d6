"""The fit's derivatives, cost and priors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar_models.heads.interface import Head
from avatar_models.heads.procedural import procedural_head
from avatar_models.tracking.landmark_head import landmark_head, view_terms
from avatar_models.tracking.problem import Problem
from avatar_models.tracking.smoothness import Smoothness
from avatar_models.tracking.start import first_state, no_guess
from avatar_models.tracking.state import State, seen_of
from tests.avatar_models.tracking.test_fit import SIZE, exact_landmarks, whole_picture


def with_all_terms() -> Head:
    """The procedural head with what FLAME and ICT have besides: correctives, joints that follow the expression."""
    head, g = procedural_head(), torch.Generator().manual_seed(0)
    rig = replace(
        head.rig,
        joint_expression_basis=1e-3 * torch.randn(head.num_expression, 5, 3, generator=g),
        pose_basis=1e-3 * torch.randn(36, len(head.rig.template), 3, generator=g),
    )
    return replace(head, rig=rig)


def moved_problem(head: Head, **options: object) -> tuple[Problem, State]:
    points, _, _, _ = exact_landmarks(seed=6, frames=4)
    seen = seen_of(points, whole_picture(4), (SIZE, SIZE))
    settings = {"sigma": 0.02, "first_log_focal": 6.9, "focal_sigma": 0.4, "one_sided": True, "smoothness": None, **options}
    problem = Problem(landmark_head(head), seen, **settings)  # type: ignore[arg-type]
    state = first_state(
        problem, 6.9, no_guess(problem.num_frames, len(problem.model.expression)), np.arange(problem.num_frames)
    )
    rng = np.random.default_rng(1)
    return problem, problem.moved(state, 0.03 * rng.random((4, problem.num_frame)), 0.05 * rng.normal(size=problem.num_shared))


@pytest.mark.parametrize("head", [procedural_head(), with_all_terms()], ids=["procedural", "all terms"])
def test_the_jacobian_is_the_derivative_of_the_residuals(head: Head) -> None:
    # Slides follow the pose, which the Jacobian leaves out on purpose.
    still = replace(head, embedding=replace(head.embedding, slides=0 * head.embedding.slides))
    problem, state = moved_problem(still)
    J, r = (part.astype(np.float64) for part in problem.weighted_jacobian(state, problem.seen, shared=True))
    residual = problem.residuals(state)
    scale = (r * residual).sum(-1) / (residual**2).sum(-1)  # what each point is weighted with
    assert np.allclose(r, scale[..., None] * residual, atol=1e-5) and (scale > 0).all()
    step = 1e-5
    for column in range(problem.num_frame + problem.num_shared):
        frames, shared = np.zeros((4, problem.num_frame)), np.zeros(problem.num_shared)
        if column < problem.num_frame:
            frames[:, column] = step
        else:
            shared[column - problem.num_frame] = step
        plus, minus = (problem.residuals(problem.moved(state, sign * frames, sign * shared)) for sign in (1, -1))
        wanted = scale[..., None] * (plus - minus) / (2 * step)
        eyes = problem.num_frame - 2 <= column < problem.num_frame  # axis-angle, turned as if at rest: right to first order
        tolerance = 5e-2 if eyes else 2e-4
        assert np.abs(J[..., column] - wanted).max() < tolerance * np.abs(wanted).max() + 2e-5, column


def test_a_step_of_the_normal_equations_is_downhill_and_halves_the_cost_at_first() -> None:
    from avatar_models.tracking.arrow import step

    problem, state = moved_problem(procedural_head(), smoothness=Smoothness())
    after = problem.moved(state, *step(problem.normal(state, shared=True), 1e-3))
    assert problem.cost(after) < 0.5 * problem.cost(state)


def test_the_landmark_model_is_the_heads_own_but_for_the_detectors_offsets() -> None:
    head = procedural_head()
    model = landmark_head(head)
    zero = [torch.zeros(1, n, dtype=torch.float64) for n in (head.num_identity, head.num_expression, 3, 3, 6)]
    places = head.landmarks(head.vertices(*zero))[0] + head.embedding.offsets
    assert np.allclose(model.template, places.numpy(), atol=1e-7)


def test_view_terms_are_those_of_the_direction_to_the_camera() -> None:
    R = np.diag([1.0, -1.0, -1.0])[None]  # the camera stands on the head's z axis
    assert np.allclose(view_terms(R, np.array([[0.0, 0.0, 0.9]])), 0.0)
    x, y, xx, yy, xy = view_terms(R, np.array([[-0.9, 0.0, 0.9]]))[0]
    assert np.allclose([x, y, xx, yy, xy], [0.5**0.5, 0, 0.5, 0, 0])


def test_smoothness_is_blind_to_steady_motion_and_to_gaps() -> None:
    points, _, _, _ = exact_landmarks(seed=6, frames=1)
    seen = seen_of(np.repeat(points, 5, 0), whole_picture(5), (SIZE, SIZE))
    settings = {"sigma": 0.02, "first_log_focal": 6.9, "focal_sigma": 0.4, "one_sided": True, "smoothness": Smoothness()}
    problem = Problem(landmark_head(procedural_head()), seen, **settings)  # type: ignore[arg-type]
    state = first_state(
        problem, 6.9, no_guess(problem.num_frames, len(problem.model.expression)), np.arange(problem.num_frames)
    )
    steady = replace(state, t=state.t + np.arange(5)[:, None] * 0.01)
    assert np.abs(problem.second_differences(steady)).max() < 1e-9
    jumps = replace(state, t=state.t + np.array([0, 0, 0, 1, 1])[:, None] * 0.01)
    follows = np.array([True, False, False])
    cut = Problem(landmark_head(procedural_head()), seen, **settings, follows=follows)  # type: ignore[arg-type]
    coupling, second = cut.coupling(jumps)
    assert coupling is not None and second is not None
    assert (coupling * second**2).sum() == 0 < (problem.second_differences(jumps) ** 2).sum()


@pytest.mark.parametrize("head", [procedural_head(), with_all_terms()], ids=["procedural", "all terms"])
def test_the_gradient_by_itself_is_that_of_the_normal_equations(head: Head) -> None:
    problem, state = moved_problem(head, smoothness=Smoothness())
    normal = problem.normal(state, shared=False)
    refreshed = problem.refreshed(replace(normal, a=0 * normal.a), state)
    assert np.allclose(refreshed.a, normal.a, atol=1e-5 * np.abs(normal.a).max())
