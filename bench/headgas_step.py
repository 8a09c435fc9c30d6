"""One training step of HeadGaS on a CPU, and where its time goes.

python -m bench.headgas_step [GAUSSIANS [SIZE]]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

import torch

from avatar_models.blending import RankOneAdam
from avatar_models.headgas import HeadGas, HeadGasSizes, parameter_groups
from avatar_models.losses import photometric
from avatar_models.splatting import splat
from bench.splatting import head

CONDITION, FEATURES, STEPS = 52, 32, 160


def main() -> None:
    count, size = (int(a) for a in (*sys.argv[1:], "10000", "256")[:2])
    gaussians, camera = head(count, size, 3)
    g = torch.Generator().manual_seed(0)
    conditions = torch.rand(8, CONDITION, generator=g)
    model = HeadGas(HeadGasSizes(count, CONDITION, FEATURES))
    model.initialise(gaussians.means, gaussians.colors, conditions)
    model.log_scales.data.copy_(gaussians.scales.log())  # type: ignore[union-attr]
    optimizer = torch.optim.Adam(parameter_groups(model, 1e-3, 0.2), eps=1e-15, fused=True)
    basis = RankOneAdam(model.F, 1e-3)
    with torch.no_grad():
        target = splat(gaussians, camera).image
    times: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = call()
        times.setdefault(name, []).append(1e3 * (time.perf_counter() - start))
        return result

    # The backward pass is cut where the forward pass is, so that each part's gradient can be timed.
    for step in range(STEPS):
        start = time.perf_counter()
        made = timed("MLP", lambda step=step: model.gaussians(conditions[step % 8], basis.blend))
        cut = type(made)(
            *(t.detach().requires_grad_() for t in (made.means, made.quats, made.scales, made.opacities, made.colors))
        )
        image = timed("splat", lambda cut=cut: splat(cut, camera, torch.ones(3)).image)
        cut_image = image.detach().requires_grad_()
        loss = timed("L1 + SSIM with gradient", lambda cut_image=cut_image: photometric(cut_image, target, 0.8, 0.2)["loss"])
        optimizer.zero_grad(set_to_none=True)
        timed("L1 + SSIM with gradient ", loss.backward)
        timed("splat, gradient", lambda image=image, v=cut_image: image.backward(v.grad))
        outs = (made.means, made.quats, made.scales, made.opacities, made.colors)
        grads = tuple(t.grad for t in (cut.means, cut.quats, cut.scales, cut.opacities, cut.colors))
        timed("MLP, gradient", lambda outs=outs, grads=grads: torch.autograd.backward(outs, grads))
        timed("Adam", optimizer.step)
        ahead = model.weights(conditions[(step + 1) % 8])
        timed("Adam of the basis, blend", lambda ahead=ahead: basis.step(ahead))
        times.setdefault("step", []).append(1e3 * (time.perf_counter() - start))
    print(f"{count} Gaussians, {size} x {size}, basis {CONDITION} x {FEATURES}, {torch.get_num_threads()} threads")
    print(f"{'':26} median    best   ms")
    for name, found in times.items():
        print(f"{name:26} {median(found[10:]):6.2f}  {min(found[10:]):6.2f}")
    step = times["step"][10:]
    print(f"{1e3 / median(step):.1f} steps/s, at best {1e3 / min(step):.1f}")


if __name__ == "__main__":
    main()
