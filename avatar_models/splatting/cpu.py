"""The CPU backend: projection in torch, compositing by the numba kernels inside an autograd function."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.splatting import Splats
from avatar_models.splatting.projection import project_gaussians


@cache
def _kernels() -> Any:
    """The kernels; the first call ever on a machine compiles them and says so."""
    from avatar_models.splatting import kernels

    if not list((Path(kernels.__file__).parent / "__pycache__").glob("kernels.backward*.nbi")):
        print("Compiling the CPU splatting kernels, once (10 to 30 s)...", file=sys.stderr, flush=True)
    return kernels


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads for tiles; made anew in a forked process, whose parent's threads are gone."""
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="splat")


def _over_tiles(run: Callable[[int, int], None], tiles: int) -> None:
    """Calls run(first, last) over all tiles, on as many threads as torch may use here."""
    threads = min(torch.get_num_threads(), tiles)
    if threads <= 1:
        run(0, tiles)
        return
    bounds = np.linspace(0, tiles, 4 * threads + 1).astype(int)  # smaller shares than threads: tiles differ in cost
    futures = [_pool(os.getpid()).submit(run, int(a), int(b)) for a, b in pairwise(bounds)]
    for future in futures:
        future.result()


class _Composite(torch.autograd.Function):
    """means2d (N, 2), conics (N, 3), opacities (N,), colors (N, C), background (C,) -> image (H, W, C), alpha (H, W)."""

    @staticmethod
    def forward(
        ctx: Any, means2d: Tensor, conics: Tensor, opacities: Tensor, colors: Tensor, background: Tensor,
        depths: Tensor, radii: Tensor, width: int, height: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        kernels = _kernels()
        arrays = [
            np.ascontiguousarray(t.detach().numpy(), np.float32) for t in (means2d, conics, opacities, colors, background)
        ]
        m, q, o, c, b = arrays
        r = radii.numpy()
        seen = np.flatnonzero((r > 0).all(1))
        order = seen[np.argsort(depths.detach().numpy()[seen], kind="stable")].astype(np.int32)
        starts, members = kernels.tile_lists(m, r, order, width, height)
        image = np.empty((height, width, c.shape[1]), np.float32)
        final_T = np.empty((height, width), np.float32)
        last = np.empty((height, width), np.int32)
        _over_tiles(
            lambda first, end: kernels.forward(first, end, starts, members, m, r, q, o, c, b, image, final_T, last),
            len(starts) - 1,
        )
        ctx.saved = (starts, members, m, r, q, o, c, b, final_T, last)
        return torch.from_numpy(image), torch.from_numpy(1 - final_T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_image: Tensor, v_alpha: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        kernels = _kernels()
        starts, members, m, r, q, o, c, b, final_T, last = ctx.saved
        v_i = np.ascontiguousarray(v_image.numpy(), np.float32)
        v_a = np.ascontiguousarray(v_alpha.numpy(), np.float32)
        partial = np.empty((len(members), 6 + c.shape[1]), np.float32)
        _over_tiles(
            lambda first, end: kernels.backward(
                first, end, starts, members, m, r, q, o, c, b, final_T, last, v_i, v_a, partial
            ),
            len(starts) - 1,
        )
        total = np.zeros((len(m), partial.shape[1]), np.float32)
        kernels.sum_partials(members, partial, total)
        g = torch.from_numpy(total)
        v_background = torch.from_numpy(np.einsum("hw,hwc->c", final_T, v_i))
        return g[:, :2], g[:, 2:5], g[:, 5], g[:, 6:], v_background, None, None, None, None


def splat_cpu(
    gaussians: Gaussians,
    camera: Camera,
    background: Tensor,  # (B, C)
    *,
    near: float,
    far: float,
    radius_clip: float,
    antialiased: bool,
) -> Splats:
    """See :func:`avatar_models.splatting.splat`. Computes in float32."""
    images, alphas, depths, means2d, radii = [], [], [], [], []
    for index in range(len(camera)):
        p = project_gaussians(gaussians, camera, index, near=near, far=far, radius_clip=radius_clip, antialiased=antialiased)
        # Depth rides along as one more channel over a background of zero.
        colors = torch.cat([p.colors, p.depths[:, None]], 1)
        under = torch.cat([background[index], background.new_zeros(1)])
        composite, alpha = _Composite.apply(
            p.means2d, p.conics, p.opacities, colors, under, p.depths, p.radii, camera.width, camera.height
        )
        images.append(composite[..., :-1].permute(2, 0, 1))
        alphas.append(alpha[None])
        depths.append((composite[..., -1] / alpha.clamp_min(1e-10))[None])
        means2d.append(p.means2d)
        radii.append(p.radii)
    return Splats(torch.stack(images), torch.stack(alphas), torch.stack(depths), torch.stack(means2d), torch.stack(radii))
