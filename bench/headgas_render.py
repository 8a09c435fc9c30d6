"""Frames a second of a HeadGaS avatar on a CPU, and where a frame's time goes.

python -m bench.headgas_render [GAUSSIANS [SH_DEGREE [SECONDS]]]

A new expression in every frame: through the module, through the frozen avatar as in live driving (one frame at a time), and as
in a video (frames known ahead). Last, one expression from many cameras. The ways take turns, since the machine's speed changes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor

from avatar_models.avatar import Avatar, render
from avatar_models.blending import blend
from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.headgas import FrozenHeadGas, HeadGas, HeadGasSizes
from avatar_models.headgas.inference import TOGETHER, InKernel, InTorch, fold
from avatar_models.kernels import harmonics
from avatar_models.kernels import headgas as fused
from avatar_models.kernels.threads import run
from avatar_models.splatting import splat
from bench.splatting import head

CONDITION = 53 + 9  # ICT-FaceKit's expressions, jaw and eyes
SIZES = (256, 512)
FRAMES = 2 * TOGETHER


@dataclass
class Way:
    """Something that makes `frames` frames a call, and the milliseconds of a frame in each call."""

    name: str
    call: Callable[[], object]
    frames: int = 1
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def time(self) -> None:
        start, spent = time.perf_counter(), time.process_time()
        self.call()
        self.cpu.append(1e3 * (time.process_time() - spent) / self.frames)
        self.wall.append(1e3 * (time.perf_counter() - start) / self.frames)

    def __str__(self) -> str:
        middle, least = median(self.wall), min(self.wall)
        rate = f"{1e3 / middle:7.0f} {1e3 / least:7.0f}"
        return f"{self.name:44} {middle:7.2f} {least:7.2f} {median(self.cpu):7.2f} {min(self.cpu):7.2f}   {rate}"


def like_a_trained_one(count: int, degree: int) -> HeadGas:
    """The bench's head of Gaussians, whose colours and opacities an expression changes by some hundredths."""
    gaussians, _ = head(count, SIZES[0], 3)
    assert gaussians.quats is not None
    assert gaussians.scales is not None
    model = HeadGas(HeadGasSizes(count, CONDITION, sh_degree=degree))
    g = torch.Generator().manual_seed(0)
    model.initialise(gaussians.means, gaussians.colors, torch.rand(8, CONDITION, generator=g))
    model.log_scales.copy_(gaussians.scales.log())
    model.quats.copy_(gaussians.quats)
    model.base[:, -1] = torch.logit(gaussians.opacities)
    model.F.normal_(0, 0.05, generator=g)
    for parameter in model.phi[2:].parameters():
        parameter.normal_(0, 0.03, generator=g)
    return model.eval()


def next_of(items: Tensor) -> Callable[[], Tensor]:
    """Another row at each call, (1, ...)."""
    place = [0]

    def following() -> Tensor:
        place[0] = (place[0] + 1) % len(items)
        return items[place[0]][None]

    return following


def frames(avatar: Avatar, camera: Camera, conditions: Tensor) -> Callable[[], Tensor]:
    """One picture a call, of another condition each time."""
    condition, white = next_of(conditions), torch.ones(3)
    return lambda: render(avatar, camera, condition(), white)


def several(camera: Camera, count: int) -> Camera:
    """Cameras in a row, a centimetre apart."""
    viewmat = camera.viewmat.repeat(count, 1, 1)
    viewmat[:, 0, 3] += 0.01 * (torch.arange(count) - count / 2)
    return Camera(camera.K.repeat(count, 1, 1), viewmat, camera.width, camera.height)


def pictures(model: HeadGas, conditions: Tensor, size: int) -> list[Way]:
    """Whole frames."""
    frozen, ahead, still, white = *(FrozenHeadGas(model) for _ in range(3)), torch.ones(3)
    _, camera = head(1, size, 3)
    many, same = several(camera, FRAMES), conditions[:1].expand(FRAMES, -1)
    return [
        Way(f"{size}: the module", frames(model, camera, conditions)),
        Way(f"{size}: frozen, frame by frame", frames(frozen, camera, conditions)),
        Way(f"{size}: frozen, {FRAMES} frames known ahead", lambda: render(ahead, many, conditions, white), FRAMES),
        Way(f"{size}: frozen, one expression, {FRAMES} cameras", lambda: render(still, many, same, white), FRAMES),
    ]


def parts(model: HeadGas, conditions: Tensor) -> list[Way]:
    """What a frame is made of."""
    weights = model.weights(conditions)
    e, layers = next_of(weights), fold(model)
    kernel, torch_calls = InKernel(layers), InTorch(layers)
    empty = InKernel(type(layers)(layers.F[:0], layers.before, layers.W1, layers.base, layers.W2))
    made = model.gaussians(conditions[0])
    _, camera = head(1, SIZES[0], 3)
    colors, means, centre = (torch.empty(len(made), 3), made.means.numpy(), camera.viewmat[0, :3, 3].neg().numpy())
    finite = torch.empty(-(-len(made) // harmonics.CHUNK)).numpy()
    coefficients = made.colors.contiguous().numpy()
    shading: tuple[Any, ...] = (means, centre, coefficients, colors.numpy(), finite)
    condition = next_of(conditions)
    found = [
        Way("module: blend", lambda: blend(e()[0], model.F)),
        Way("module: blend and MLP", lambda: model.gaussians(condition()[0])),
        Way("folded, calls of torch: blend and MLP", lambda: torch_calls(e())),
        Way("folded, one kernel: blend and MLP", lambda: kernel(e())),
        Way(f"folded, one kernel, {TOGETHER} expressions: each", lambda: kernel(weights[:TOGETHER]), TOGETHER),
        Way("folded, one kernel: the MLP alone", lambda: empty(weights[:1, :0])),
        Way("harmonics", lambda: run(harmonics.forward, len(finite), torch.get_num_threads(), *shading)),
    ]
    for size in SIZES:
        _, view = head(1, size, 3)
        plain = Gaussians(made.means, made.quats, made.scales, made.opacities, torch.rand(len(made), 3))
        found.append(Way(f"splat of plain colours, {size}", lambda plain=plain, view=view: splat(plain, view)))  # type: ignore[misc]
    return found


def limits(model: HeadGas, degree: int) -> str:
    """What a frame's blend and MLP ask for."""
    n, d, h, o = len(model.mu), model.sizes.feature_dim, model.sizes.hidden_dim, 3 * (degree + 1) ** 2 + 1
    layers = 2e-6 * n * (d * h + h * fused.padded(o))
    return (
        f"a frame blends {4e-6 * model.F.numel():.0f} MB of basis with {2e-6 * model.F.numel():.0f} MFLOP, "
        f"its MLP is {layers:.0f} MFLOP (with what fills the last vector)"
    )


@torch.no_grad()
def main() -> None:
    count, degree, seconds = (int(a) for a in (*sys.argv[1:], *("10000", "3", "12")[len(sys.argv) - 1 :]))
    model = like_a_trained_one(count, degree)
    conditions = torch.rand(FRAMES, CONDITION, generator=torch.Generator().manual_seed(1))
    print(f"{count} Gaussians, {CONDITION} expression values, harmonics of degree {degree}; {limits(model, degree)}")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        ways = [way for size in SIZES for way in pictures(model, conditions, size)] + parts(model, conditions)
        for way in ways:
            way.call()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for way in ways:
                way.time()
        print(f"\n{threads} threads, {len(ways[0].wall)} rounds. A frame in ms: median, best, CPU time likewise; frames/s")
        print(*ways, sep="\n")


if __name__ == "__main__":
    main()
