"""The CPU backend: this project's kernels as three steps of autograd: shade, project, composite."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatar_models import kernels
from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.kernels import compositing, features, harmonics, lists, projection, tiles
from avatar_models.kernels.arena import empty, zeros
from avatar_models.kernels.threads import run
from avatar_models.splatting import Splats, first_not_finite
from avatar_models.splatting.projection import EPS2D

RECORD_CHANNELS = 3
"""Up to so many channels are composited with vectors over pixels, more with vectors over channels."""

_Grads = tuple[Tensor | None, ...]


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
    kernels.announce()
    means, opacities, colors = gaussians.means, gaussians.opacities, gaussians.colors
    shapes = (gaussians.quats, gaussians.scales, gaussians.covariances)
    screens = []
    for index in range(len(camera)):
        row = _camera_row(camera, index, near, far, radius_clip, antialiased)
        screens.append(_Project.apply(means, *shapes, opacities, camera.viewmat[index], row, gaussians))
    means2d = _batch([screen[0] for screen in screens])  # on the way to every picture, so that it can keep its gradient
    pictures = []
    for index, (_, conics, depths, opacities2d, extents) in enumerate(screens):
        shades = _Shade.apply(means, colors, camera.viewmat[index], gaussians) if colors.ndim == 3 else colors
        pictures.append(
            _Composite.apply(
                means2d[index], conics, opacities2d, shades, depths, background[index], extents, camera.width, camera.height,
                gaussians,
            )
        )  # fmt: skip
    image, alpha, depth = (_batch(list(of_all)) for of_all in zip(*pictures, strict=True))
    radii = _batch([torch.ceil(screen[4]).clamp_min(0).to(torch.int32) for screen in screens])
    return Splats(image, alpha[:, None], depth[:, None], means2d, radii)


def _batch(tensors: list[Tensor]) -> Tensor:
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)


def _camera_row(camera: Camera, index: int, near: float, far: float, radius_clip: float, antialiased: bool) -> np.ndarray:
    """All that the projection kernels read of a camera, (23,) float32."""
    K, viewmat = camera.K[index].detach(), camera.viewmat[index].detach()
    row = np.empty(23, np.float32)
    row[:12] = viewmat[:3].numpy().ravel()
    row[12:] = (K[0, 0], K[1, 1], K[0, 2], K[1, 2], camera.width, camera.height, near, far, radius_clip, EPS2D, antialiased)
    return row


def _array(tensor: Tensor | None, *empty: int) -> np.ndarray:
    """float32, C-contiguous; an empty array in place of None."""
    if tensor is None:
        return np.empty(empty, np.float32)
    return np.ascontiguousarray(tensor.detach().numpy(), np.float32)


def _chunks(count: int, size: int) -> int:
    return -(-count // size)


def _check_finite(chunks: np.ndarray, gaussians: Gaussians) -> None:
    if np.isnan(chunks).any():
        raise ValueError(first_not_finite(gaussians))


class _Shade(torch.autograd.Function):
    """means (N, 3), coefficients (N, K, 3), viewmat (4, 4) -> colors (N, 3)."""

    @staticmethod
    def forward(ctx: Any, means: Tensor, coefficients: Tensor, viewmat: Tensor, gaussians: Gaussians) -> Tensor:
        m, c, W = _array(means), _array(coefficients), _array(viewmat)
        centre = -W[:3, :3].T @ W[:3, 3]
        colors, pieces = empty(len(m), 3), _chunks(len(m), harmonics.CHUNK)
        finite = np.empty(pieces, np.float32)
        run(harmonics.forward, pieces, torch.get_num_threads(), m, centre, c, colors, finite)
        _check_finite(finite, gaussians)
        ctx.saved = (m, centre, c, colors, W)
        return torch.from_numpy(colors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_colors: Tensor) -> _Grads:  # type: ignore[override]
        m, centre, c, colors, W = ctx.saved
        pieces = _chunks(len(m), harmonics.CHUNK)
        v_means, v_coefficients, v_centre = empty(*m.shape), empty(*c.shape), empty(pieces, 3)
        arguments = (m, centre, c, colors, _array(v_colors), v_means, v_coefficients, v_centre)
        run(harmonics.backward, pieces, torch.get_num_threads(), *arguments)
        v = v_centre.sum(0, dtype=np.float64)
        v_viewmat = np.zeros((4, 4), np.float32)  # centre = -R^T t
        v_viewmat[:3, :3] = -np.outer(W[:3, 3], v)
        v_viewmat[:3, 3] = -W[:3, :3] @ v
        return torch.from_numpy(v_means), torch.from_numpy(v_coefficients), torch.from_numpy(v_viewmat), None


class _Project(torch.autograd.Function):
    """Gaussians and viewmat -> means2d (N, 2), conics (N, 3), depths (N,), opacities (N,), extents (N, 2) pixels."""

    @staticmethod
    def forward(
        ctx: Any, means: Tensor, quats: Tensor | None, scales: Tensor | None, covariances: Tensor | None,
        opacities: Tensor, viewmat: Tensor, camera: np.ndarray, gaussians: Gaussians,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        if covariances is not None:
            quats = scales = None
        inputs = (_array(means), _array(quats, 0, 4), _array(scales, 0, 3), _array(covariances, 0, 3, 3), _array(opacities))
        count = len(inputs[0])
        outputs = (empty(count, 2), empty(count, 3), empty(count), empty(count), empty(count, 2))
        pieces = _chunks(count, projection.CHUNK)
        finite = np.empty(pieces, np.float32)
        size = projection.ROWS * projection.CHUNK
        run(projection.forward, pieces, torch.get_num_threads(), *inputs, camera, *outputs, finite, scratch=size)
        _check_finite(finite, gaussians)
        ctx.saved = (inputs, camera, outputs[-1])
        ctx.set_materialize_grads(False)
        tensors = tuple(torch.from_numpy(array) for array in outputs)
        ctx.mark_non_differentiable(tensors[-1])
        return tensors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *v: Tensor | None) -> _Grads:  # type: ignore[override]
        inputs, camera, extents = ctx.saved
        count, pieces = len(inputs[0]), _chunks(len(inputs[0]), projection.CHUNK)
        shapes = ((count, 2), (count, 3), (count,), (count,))
        incoming = [zeros(*shape) if g is None else _array(g) for g, shape in zip(v[:4], shapes, strict=True)]
        outgoing = [empty(*array.shape) for array in inputs]
        v_rows = empty(pieces, 12)
        size = projection.ROWS * projection.CHUNK
        arguments = (*inputs, camera, extents, *incoming, *outgoing, v_rows)
        run(projection.backward, pieces, torch.get_num_threads(), *arguments, scratch=size)
        v_viewmat = torch.zeros(4, 4)
        v_viewmat[:3] = torch.from_numpy(v_rows.sum(0, dtype=np.float64).astype(np.float32).reshape(3, 4))
        wanted = zip(outgoing, ctx.needs_input_grad, strict=False)
        return *(torch.from_numpy(array) if needed else None for array, needed in wanted), v_viewmat, None, None


class _Composite(torch.autograd.Function):
    """What a screen of Gaussians looks like: image (C, H, W), alpha (H, W), depth (H, W)."""

    @staticmethod
    def forward(
        ctx: Any, means2d: Tensor, conics: Tensor, opacities: Tensor, colors: Tensor, depths: Tensor, background: Tensor,
        extents: Tensor, width: int, height: int, gaussians: Gaussians,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        threads = torch.get_num_threads()
        m, q, o, c, z, b = (_array(t) for t in (means2d, conics, opacities, colors, depths, background))
        e = extents.numpy()
        order = lists.ranks(z, e)
        size = np.array([width, height])
        tiles_x, tiles_y = _chunks(width, tiles.TILE_W), _chunks(height, tiles.TILE_H)
        num_tiles = tiles_x * tiles_y
        records, boxes = empty(len(order), lists.RECORD), empty(len(order), 4, dtype=np.int32)
        counts, pairs = empty(lists.SHARES, num_tiles, dtype=np.int32), np.empty(lists.SHARES, np.int64)
        finite = np.empty(lists.SHARES, np.float32)
        arguments = (order, m, q, o, e, z, c, size, records, boxes, counts, pairs, finite)
        run(lists.count_pairs, lists.SHARES, threads, *arguments)
        _check_finite(finite, gaussians)
        starts = lists.lay_out(counts, pairs)
        total = int(starts[-1])
        members, places = empty(total, dtype=np.int32), empty(total, dtype=np.int32)
        pair_starts = empty(len(order) + 1, dtype=np.int64)
        run(lists.fill, lists.SHARES, threads, boxes, tiles_x, counts, pairs, members, pair_starts, places)

        channels, groups = c.shape[1], _chunks(num_tiles, lists.TILES_A_GROUP)
        image = empty(channels, height, width)
        T, alpha, depth = empty(height, width), empty(height, width), empty(height, width)
        last = empty(height, width)
        scene: tuple[np.ndarray, ...] = (starts, members, records, b)
        if channels <= RECORD_CHANNELS:
            scratch = compositing.SCRATCH_FLOATS
            run(compositing.forward, groups, threads, *scene, image, T, alpha, depth, last, scratch=scratch)
        else:
            padded = _chunks(channels, 16) * 16
            flat = empty(len(order) * padded)
            run(features.pad_colors, _chunks(len(order), lists.RANKS_A_CHUNK), threads, order, c, flat)
            scene = (starts, members, records, flat, b)
            scratch = features.scratch_floats(padded)
            run(features.forward, groups, threads, *scene, image, T, alpha, depth, last, scratch=scratch)
        ctx.saved = (scene, T, depth, last, order, pair_starts, places, q, o, c.shape)
        ctx.set_materialize_grads(False)
        return torch.from_numpy(image), torch.from_numpy(alpha), torch.from_numpy(depth)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_image: Tensor | None, v_alpha: Tensor | None, v_depth: Tensor | None) -> _Grads:  # type: ignore[override]
        threads = torch.get_num_threads()
        scene, T, depth, last, order, pair_starts, places, q, o, (count, channels) = ctx.saved
        shape = T.shape
        v_i = zeros(channels, *shape) if v_image is None else _array(v_image)
        v_a = zeros(*shape) if v_alpha is None else _array(v_alpha)
        v_d = _array(v_depth, 0, 0)
        partial = empty(len(places), 7 + channels)
        if channels <= RECORD_CHANNELS:
            kernel, size = compositing.backward, compositing.SCRATCH_FLOATS
        else:
            kernel, size = features.backward, features.scratch_floats(_chunks(channels, 16) * 16)
        groups = _chunks(len(scene[0]) - 1, lists.TILES_A_GROUP)
        run(kernel, groups, threads, *scene, T, depth, last, v_i, v_a, v_d, partial, scratch=size)
        v_m, v_q, v_z, v_o, v_c = (zeros(*s) for s in ((count, 2), (count, 3), (count,), (count,), (count, channels)))
        pieces = _chunks(len(order), lists.RANKS_A_CHUNK)
        run(lists.sum_pairs, pieces, threads, order, pair_starts, places, q, o, partial, v_m, v_q, v_z, v_o, v_c)
        v_b = np.tensordot(v_i.reshape(channels, -1), T.reshape(-1), 1) if ctx.needs_input_grad[5] else None
        tensors = [torch.from_numpy(array) for array in (v_m, v_q, v_o, v_c, v_z)]
        return *tensors, None if v_b is None else torch.from_numpy(v_b), None, None, None, None
