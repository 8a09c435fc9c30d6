"""The CUDA backend: gsplat's rasteriser behind this project's signature. gsplat is imported only when it is called.

gsplat's wheel holds no CUDA code: it is built when it is first asked for, with the nvcc of a CUDA toolkit.
"""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.splatting import Splats
from avatar_models.splatting.projection import EPS2D

NO_NVCC = "the CUDA toolkit (nvcc) of torch's version is not there"


@cache
def why_no_cuda_code() -> str:
    """Why gsplat cannot draw here, or nothing. Builds its CUDA code where that was not done before, which takes minutes:
    one process of the user's on a machine at a time, since each clears the folder that it builds in.
    """
    with (Path(tempfile.gettempdir()) / f"headwater-gsplat-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            from gsplat.cuda._backend import _C
        except ModuleNotFoundError as error:
            return f"{error}"
        except Exception as error:  # what a compiler's failure leads it to
            return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return "" if _C is not None else NO_NVCC


def splat_cuda(
    gaussians: Gaussians,
    camera: Camera,
    background: Tensor,  # (B, C)
    *,
    near: float,
    far: float,
    radius_clip: float,
    antialiased: bool,
) -> Splats:
    """See :func:`avatar_models.splatting.splat`."""
    import gsplat

    sh = gaussians.colors.ndim == 3
    rendered, alpha, meta = gsplat.rasterization(
        means=gaussians.means,
        quats=gaussians.quats,
        scales=gaussians.scales,
        opacities=gaussians.opacities,
        colors=gaussians.colors,
        covars=gaussians.covariances,
        viewmats=camera.viewmat,
        Ks=camera.K,
        width=camera.width,
        height=camera.height,
        near_plane=near,
        far_plane=far,
        radius_clip=radius_clip,
        eps2d=EPS2D,
        sh_degree=math.isqrt(gaussians.colors.shape[1]) - 1 if sh else None,
        packed=False,
        backgrounds=None,
        render_mode="RGB+ED",
        rasterize_mode="antialiased" if antialiased else "classic",
    )  # (B, H, W, C + 1), (B, H, W, 1)
    # The background is laid under here: gsplat's own argument would have to hold a depth as well.
    image = rendered[..., :-1] + (1 - alpha) * background[:, None, None]
    radii = meta["radii"]
    radii = radii if radii.ndim == 3 else radii[..., None].expand(*radii.shape, 2)
    channels_first = (0, 3, 1, 2)
    return Splats(
        image.permute(channels_first),
        alpha.permute(channels_first),
        rendered[..., -1:].permute(channels_first),
        meta["means2d"],
        radii.to(torch.int32),
    )
