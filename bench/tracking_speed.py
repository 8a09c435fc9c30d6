"""How fast a head is fitted on one core, and how much faster than by Adam on the same energy.

    python -m bench.tracking_speed FILE [HEAD [HEAD_FILE]]

FILE is an npz of detections as `bench.tracking_real` keeps them. Adam is torch's, float32 with autograd, over the energy of the
fit's last round, from the fit's first state, unknowns in units of their usual size; of some learning rates the one that has
come lowest after TUNING_STEPS goes on, halved where the energy stalls, until it is within 1 % of the fit's or for LIMIT_S.
Seconds are the process's on one thread.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar_models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from avatar_models.tracking import fit as fitting
from avatar_models.tracking.problem import EXPRESSION_SIGMA, EYE_SIGMA, JAW_SIGMA, NEGATIVE_SIGMA, ROBUST_SCALE, Problem
from avatar_models.tracking.start import first_state, no_guess
from avatar_models.tracking.state import State
from pipelines.heads import load_head

RATES, TUNING_STEPS, LIMIT_S = (0.01, 0.03, 0.1), 150, 300.0
STALLED = 40  # steps without a new lowest energy
UNITS = {"turn": 0.1, "t": 0.02, "expression": 0.3, "jaw": 0.1, "eyes": 0.1, "identity": 1.0, "log_focal": 0.2}


def last_round(
    head: object, points: NDArray[np.float32], size: tuple[int, int], times: NDArray[np.float64]
) -> tuple[Problem, State, float]:
    """The fit's last problem, where it ended, and the seconds it took."""
    found: list[tuple[Problem, State]] = []
    original = fitting.result

    def result(problem: Problem, state: State) -> fitting.ClipFit:
        found.append((problem, state))
        return original(problem, state)

    fitting.result = result
    whole = np.tile(np.array([[0.0, 0.0, 1.0]], np.float32), (len(points), 1))
    for _ in range(3):  # the first one compiles
        wall, start = time.perf_counter(), time.process_time()
        fitting.fit_clip(head, points, whole, size, iterations=15, smoothness=1.0, times=times)  # type: ignore[arg-type]
        seconds, wall = time.process_time() - start, time.perf_counter() - wall
        print(f"fit: {seconds:.2f} s of the processor, {wall:.2f} s by the clock, {len(points) / seconds:.0f} frames/s")
    fitting.result = original
    return *found[-1], seconds


@dataclass
class Energy:
    """Problem.cost in torch, of unknowns that start at a state."""

    problem: Problem
    start: State

    def __post_init__(self) -> None:
        problem, model, seen = self.problem, self.problem.model, self.problem.seen
        t = lambda values: torch.tensor(np.asarray(values), dtype=torch.float32)  # noqa: E731
        self.template, self.slides, self.joints = t(model.template), t(model.slides), t(model.joints)
        self.identity, self.joint_identity = t(model.identity).flatten(1), t(model.joint_identity).flatten(1)
        self.expression = t(model.expression).flatten(1)
        self.joint_expression = None if model.joint_expression is None else t(model.joint_expression).flatten(1)
        self.correctives = None if model.correctives is None else t(model.correctives).flatten(1)
        self.weights, self.trust = t(model.weights), t(problem.weights)
        self.points, self.eyes = t(seen.points), t(seen.eye_distance)
        K = seen.K(0.0)
        self.focal, self.centre = t(K[:, [0, 1], [0, 1]]), t(K[:, :2, 2])
        self.R, self.t0, self.log_focal = t(self.start.R), t(self.start.t), self.start.log_focal
        self.stiffness, self.jump = t(problem.stiffness), t(problem.jump)
        self.shared_precision = t(problem.shared_prior(self.start)[1])

    def unknowns(self) -> dict[str, Tensor]:
        N, E, size = len(self.R), len(self.expression), len(self.identity)
        shapes = {
            "turn": (N, 3),
            "t": (N, 3),
            "expression": (N, E),
            "jaw": (N, 3),
            "eyes": (N, 2),
            "identity": (size,),
            "log_focal": (),
        }
        return {name: torch.zeros(shape, requires_grad=True) for name, shape in shapes.items()}

    def __call__(self, unknowns: dict[str, Tensor]) -> Tensor:
        x = {name: UNITS[name] * value for name, value in unknowns.items()}
        R, t, jaw = axis_angle_to_matrix(x["turn"]) @ self.R, self.t0 + x["t"], axis_angle_to_matrix(x["jaw"])
        N, P = self.points.shape[:2]
        gaze = axis_angle_to_matrix(torch.cat([x["eyes"], torch.zeros(N, 1)], 1))
        turned = torch.stack([jaw, gaze, gaze], 1)
        s = self.template + (x["identity"] @ self.identity).view(P, 3) + (x["expression"] @ self.expression).view(N, P, 3)
        joints = (self.joints + (x["identity"] @ self.joint_identity).view(5, 3)).expand(N, 5, 3)
        if self.joint_expression is not None:
            joints = joints + (x["expression"] @ self.joint_expression).view(N, 5, 3)
        if self.correctives is not None:
            s = s + ((turned - torch.eye(3)).reshape(N, 27) @ self.correctives).view(N, P, 3)
        towards = torch.nn.functional.normalize(-(R.transpose(1, 2) @ t[..., None])[..., 0], dim=1)
        a, b = towards[:, 0], towards[:, 1]
        views = torch.stack([a, b, a * a, b * b, a * b], 1)
        p = s + (views @ self.slides.flatten(1)).view(N, P, 3)
        for k, joint in enumerate((2, 3, 4)):
            arm = s - joints[:, None, joint]
            p = p + self.weights[:, joint, None] * (arm @ turned[:, k].transpose(1, 2) - arm)
        q = p @ R.transpose(1, 2) + t[:, None]
        scale = torch.exp(self.log_focal + x["log_focal"])
        r = (q[..., :2] / q[..., 2:] * (scale * self.focal[:, None]) + self.centre[:, None] - self.points) / self.eyes[
            :, None, None
        ]
        squared = (r * r).sum(-1) / self.problem.sigma**2
        total = (self.trust * squared / (1 + squared / ROBUST_SCALE**2)).sum()
        e = x["expression"]
        positive, negative = (EXPRESSION_SIGMA, NEGATIVE_SIGMA) if self.problem.one_sided else (1.0, 1.0)
        total = total + (e * e * torch.where(e < 0, 1 / negative**2, 1 / positive**2)).sum()
        total = (
            total
            + ((x["jaw"] / torch.tensor(JAW_SIGMA, dtype=torch.float32)) ** 2).sum()
            + ((x["eyes"] / EYE_SIGMA) ** 2).sum()
        )
        of_focal = self.log_focal - self.problem.first_log_focal + x["log_focal"]
        total = total + (self.shared_precision * torch.cat([x["identity"], of_focal[None]]) ** 2).sum()
        second = lambda v: v[:-2] - 2 * v[1:-1] + v[2:]  # noqa: E731
        differences = torch.cat([second_turn(R), second(t), second(e), second_turn(jaw), second(x["eyes"])], 1) ** 2
        return total + (self.stiffness * differences / (1 + differences / self.jump**2)).sum()


def second_turn(R: Tensor) -> Tensor:
    back = R[1:-1].transpose(1, 2)
    return matrix_to_axis_angle(R[:-2] @ back) + matrix_to_axis_angle(R[2:] @ back)


def adam(energy: Energy, rate: float, wanted: float, steps: int, limit_s: float) -> tuple[float, float, int]:
    """Lowest energy, seconds and steps until `wanted` is reached, or as many as are allowed."""
    unknowns = energy.unknowns()
    optimizer = torch.optim.Adam(unknowns.values(), lr=rate)
    start, best, stalled = time.process_time(), np.inf, 0
    step = 0
    while step < steps:
        step += 1
        optimizer.zero_grad()
        value = energy(unknowns)
        value.backward()
        best, stalled = (value.item(), 0) if value.item() < best else (best, stalled + 1)
        if stalled >= STALLED:
            stalled = 0
            for group in optimizer.param_groups:
                group["lr"] /= 2
        seconds = time.process_time() - start
        if best <= wanted or seconds > limit_s:
            break
        optimizer.step()
    return best, seconds, step


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("python -m bench.tracking_speed FILE [HEAD [HEAD_FILE]]: FILE is an npz that bench.tracking_real keeps")
    torch.set_num_threads(1)
    stored = np.load(sys.argv[1])
    head = load_head(*(sys.argv[2:4] if len(sys.argv) > 3 else [sys.argv[2] if len(sys.argv) > 2 else "procedural", ""]))
    points, size = stored["points"], tuple(stored["size"].tolist())
    problem, state, seconds = last_round(head, points, size, stored["times"])
    cost = problem.cost(state)
    print(f"energy at the end of the fit: {cost:.0f}, of {len(points)} frames")
    energy = Energy(problem, state)
    print(f"the same in torch: {float(energy(energy_at(energy, state)).detach()):.0f}")
    neutral = first_state(
        problem, problem.first_log_focal, no_guess(problem.num_frames, problem.num_expression), np.arange(problem.num_frames)
    )
    energy = Energy(problem, neutral)
    tuned = {rate: adam(energy, rate, 0.0, TUNING_STEPS, LIMIT_S)[0] for rate in RATES}
    print(
        "Adam's energy after", TUNING_STEPS, "steps:", "  ".join(f"rate {rate:g}: {value:.0f}" for rate, value in tuned.items())
    )
    rate = min(tuned, key=lambda key: tuned[key])
    best, took, steps = adam(energy, rate, 1.01 * cost, 10**9, LIMIT_S)
    ratio = took / seconds
    word = "reached" if best <= 1.01 * cost else "not reached, energy"
    print(f"Adam, rate {rate:g}: {word} {best:.0f} after {took:.1f} s and {steps} steps: {ratio:.0f} times the fit's time")


def energy_at(energy: Energy, state: State) -> dict[str, Tensor]:
    """Unknowns whose energy is that of the state that it starts at."""
    unknowns = energy.unknowns()
    jaw = matrix_to_axis_angle(torch.tensor(state.R_jaw)).float()
    values = {"expression": state.expression, "eyes": state.eyes, "identity": state.identity, "jaw": jaw}
    for name, value in values.items():
        unknowns[name] = torch.as_tensor(np.asarray(value), dtype=torch.float32) / UNITS[name]
    return unknowns


if __name__ == "__main__":
    main()
