"""Our CPU splatting beside OpenSplat's CPU backend and plain torch, in turns within one run.

    python -m bench.splatting_peers [OPENSPLAT_CHECKOUT]

A checkout of github.com/WebODM/OpenSplat is compiled outside this repository; without one, only torch is compared.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from avatar_models.gaussians import Gaussians
from avatar_models.splatting import splat
from bench.peers.torch_pairs import splat_pairs
from bench.splatting import head

SCENES = ((2_500, 128, 3), (10_000, 256, 3), (10_000, 512, 3), (50_000, 512, 3), (10_000, 256, 32))
ROUNDS = 9
IN_A_ROW = 4  # calls of one candidate after another in a round; one more before them is not counted

Call = Callable[[], object]


def in_turns(calls: dict[str, Call]) -> dict[str, tuple[float, float]]:
    """Median and best milliseconds of each; every round times all of them, so that a slow spell of the machine hits all.

    The best is what the code takes; the median has what else the machine does in it.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            call()
            for _ in range(IN_A_ROW):
                start = time.perf_counter()
                call()
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: (statistics.median(found), min(found)) for name, found in times.items()}


def forward(render: Callable[..., torch.Tensor], leaves: list[torch.Tensor]) -> Call:
    def call() -> object:
        with torch.no_grad():
            return render(*leaves)

    return call


def both(render: Callable[..., torch.Tensor], leaves: list[torch.Tensor]) -> Call:
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    weight = torch.rand(render(*leaves).shape)
    return lambda: torch.autograd.grad(render(*leaves), leaves, weight)


def main() -> None:
    module = None
    if len(sys.argv) > 1:
        from bench.peers.opensplat import build, make_splat

        module = build(Path(sys.argv[1]))
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; median / best milliseconds, how many times ours")
    for count, size, channels in SCENES:
        gaussians, camera = head(count, size, channels)
        assert gaussians.quats is not None and gaussians.scales is not None
        leaves = [gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors]
        renders: dict[str, Callable[..., torch.Tensor]] = {
            "ours": lambda *t, c=camera: splat(Gaussians(*t), c).image[0],
            "torch": lambda *t, c=camera, n=channels: splat_pairs(Gaussians(*t), c, torch.zeros(n)),
        }
        ours = renders["ours"](*leaves)
        difference = {"torch": float((renders["torch"](*leaves) - ours).abs().max())}
        if module is not None and channels == 3:
            renders["opensplat"] = make_splat(module, gaussians, camera)
            theirs = renders["opensplat"](*leaves).permute(2, 0, 1)
            difference["opensplat"] = float((theirs - ours).abs().max())
        for what, make in (("forward", forward), ("forward + backward", both)):
            found = in_turns({name: make(render, leaves) for name, render in renders.items()})
            line = f"{count:6} at {size}, {channels:2} channels, {what:18}:"
            for name, (median, best) in found.items():
                line += f"  {name} {median:.2f} / {best:.2f}"
                if name != "ours":
                    line += f" ({median / found['ours'][0]:.1f}x / {best / found['ours'][1]:.1f}x)"
            print(line, flush=True)
        print("        largest difference of the pictures:", {name: round(value, 5) for name, value in difference.items()})


if __name__ == "__main__":
    main()
