"""OpenSplat's CPU backend, built from a checkout of github.com/WebODM/OpenSplat that lies outside this repository.

It is AGPL: it is measured, and nothing of it is kept or copied. Needs g++ and ninja.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians

_BINDING = """
#include <torch/extension.h>
#include "rasterizer/gsplat-cpu/bindings.h"
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("project", &project_gaussians_forward_tensor_cpu);
  m.def("forward", [](int w, int h, torch::Tensor xys, torch::Tensor conics, torch::Tensor colors, torch::Tensor opacities,
                      torch::Tensor background, torch::Tensor cov2d, torch::Tensor depths) {
    auto t = rasterize_forward_tensor_cpu(w, h, xys, conics, colors, opacities, background, cov2d, depths);
    return std::make_tuple(std::get<0>(t), std::get<1>(t), reinterpret_cast<int64_t>(std::get<2>(t)));
  });
  m.def("backward", [](int h, int w, torch::Tensor xys, torch::Tensor conics, torch::Tensor colors, torch::Tensor opacities,
                       torch::Tensor background, torch::Tensor cov2d, torch::Tensor depths, torch::Tensor T, int64_t lists,
                       torch::Tensor v, torch::Tensor v_alpha) {
    auto none = torch::empty({0});
    return rasterize_backward_tensor_cpu(h, w, xys, conics, colors, opacities, background, cov2d, depths, T,
        reinterpret_cast<std::vector<int32_t>*>(lists), v, v_alpha, none, none, none, none);
  });
  m.def("release", [](int64_t lists) { delete[] reinterpret_cast<std::vector<int32_t>*>(lists); });
}
"""


def build(checkout: Path) -> Any:
    """Compiles the backend with -O3 for this machine."""
    from torch.utils.cpp_extension import load_inline

    source = (checkout / "rasterizer/gsplat-cpu/gsplat_cpu.cpp").read_text()
    text = source.replace('#include "bindings.h"', '#include "rasterizer/gsplat-cpu/bindings.h"')
    text = text.replace('#include "../gsplat/config.h"', '#include "rasterizer/gsplat/config.h"')
    flags = ["-O3", "-march=native"]
    return load_inline(
        "opensplat_cpu", [text.lstrip("\ufeff"), _BINDING], extra_cflags=flags, extra_include_paths=[str(checkout)]
    )


def make_splat(module: Any, gaussians: Gaussians, camera: Camera) -> Any:
    """A function (means, quats, scales, opacities, colors) -> image (H, W, 3) for one camera."""
    height, width = camera.height, camera.width
    K, viewmat = camera.K[0], camera.viewmat[0]
    fx, fy, cx, cy = (float(v) for v in (K[0, 0], K[1, 1], K[0, 2], K[1, 2]))
    near, far = 0.01, 100.0
    clip = torch.tensor([
        [2 * fx / width, 0, 2 * cx / width - 1, 0], [0, 2 * fy / height, 2 * cy / height - 1, 0],
        [0, 0, (far + near) / (far - near), -2 * far * near / (far - near)], [0, 0, 1, 0],
    ])  # fmt: skip
    background = torch.zeros(3)

    class Rasterise(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, xys: Tensor, conics: Tensor, colors: Tensor, opacities: Tensor, cov2d: Tensor, depths: Tensor
        ) -> Tensor:
            image, T, lists = module.forward(width, height, xys, conics, colors, opacities, background, cov2d, depths)
            ctx.lists = lists
            ctx.save_for_backward(xys, conics, colors, opacities, cov2d, depths, T)
            if not any(ctx.needs_input_grad):
                module.release(lists)
            return image

        @staticmethod
        def backward(ctx: Any, v: Tensor) -> Any:  # type: ignore[override]
            xys, conics, colors, opacities, cov2d, depths, T = ctx.saved_tensors
            v_xy, v_conic, v_colors, v_opacity = module.backward(
                height, width, xys, conics, colors, opacities, background, cov2d, depths, T, ctx.lists, v.contiguous(),
                torch.zeros_like(T),
            )  # fmt: skip
            module.release(ctx.lists)
            return v_xy, v_conic, v_colors, v_opacity, None, None

    def splat(means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor) -> Tensor:
        xys, _, conics, cov2d, depths = module.project(
            len(means), means, scales, 1.0, quats, viewmat, clip @ viewmat, fx, fy, cx, cy, height, width, near
        )
        return Rasterise.apply(xys, conics, colors, opacities[:, None], cov2d.detach(), depths.detach())

    return splat
