"""The CPU backend: this project's kernels as three steps of autograd: shade, project, composite."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatar_models import kernels
from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians, UnusableGaussians, largest, unusable
from avatar_models.kernels import compositing, features, harmonics, lists, projection, tiles
from avatar_models.kernels.arena import empty, empty_together, zeros_together
from avatar_models.kernels.threads import run
from avatar_models.splatting import Splats
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
    means, opacities, colors, viewmat = gaussians.means, gaussians.opacities, gaussians.colors, camera.viewmat
    cameras = _camera_rows(camera, near, far, radius_clip, antialiased)
    shapes = (gaussians.quats, gaussians.scales, gaussians.covariances)
    means2d, conics, depths, opacities2d, extents, radii = _Project.apply(
        means, *shapes, opacities, viewmat, cameras, gaussians
    )
    shades = _Shade.apply(means, colors, viewmat, gaussians) if colors.ndim == 3 else colors
    image, alpha, depth = _Composite.apply(
        means2d, conics, opacities2d, shades, depths, background, extents, camera.width, camera.height, gaussians
    )
    return Splats(image, alpha, depth, means2d, radii)


def _camera_rows(camera: Camera, near: float, far: float, radius_clip: float, antialiased: bool) -> np.ndarray:
    """All that the projection kernels read of each camera, (B, 23) float32."""
    K, viewmat = camera.K.detach().numpy(), camera.viewmat.detach().numpy()
    rows = np.empty((len(K), 23), np.float32)
    rows[:, :12] = viewmat[:, :3].reshape(-1, 12)
    rows[:, 12], rows[:, 13], rows[:, 14], rows[:, 15] = K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2]
    rows[:, 16:] = (camera.width, camera.height, near, far, radius_clip, EPS2D, antialiased)
    return rows


def _array(tensor: Tensor | None, *empty: int) -> np.ndarray:
    """float32, C-contiguous; an empty array in place of None."""
    if tensor is None:
        return np.empty(empty, np.float32)
    return np.ascontiguousarray(tensor.detach().numpy(), np.float32)


def _chunks(count: int, size: int) -> int:
    return -(-count // size)


def _check_finite(chunks: np.ndarray, gaussians: Gaussians) -> None:
    if np.isnan(chunks).any():
        raise UnusableGaussians(unusable(gaussians) or largest(gaussians))


class _Shade(torch.autograd.Function):
    """means (N, 3), coefficients (N, K, 3), viewmat (B, 4, 4) -> colors (B, N, 3)."""

    @staticmethod
    def forward(ctx: Any, means: Tensor, coefficients: Tensor, viewmat: Tensor, gaussians: Gaussians) -> Tensor:
        m, c, W = _array(means), _array(coefficients), _array(viewmat)
        colors, pieces = empty(len(W), len(m), 3), _chunks(len(m), harmonics.CHUNK)
        finite = np.empty(pieces, np.float32)
        for centre, shades in zip(_centres(W), colors, strict=True):
            run(harmonics.forward, pieces, torch.get_num_threads(), m, centre, c, shades, finite)
        _check_finite(finite, gaussians)
        found = torch.from_numpy(colors)
        ctx.save_for_backward(means, coefficients, viewmat, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_colors: Tensor) -> _Grads:  # type: ignore[override]
        m, c, W, colors = (_array(tensor) for tensor in ctx.saved_tensors)
        pieces = _chunks(len(m), harmonics.CHUNK)
        v_viewmat = np.zeros_like(W)
        found = []
        for index, (centre, shades, v) in enumerate(zip(_centres(W), colors, _array(v_colors), strict=True)):
            v_means, v_coefficients, v_centres = empty(*m.shape), empty(*c.shape), empty(pieces, 3)
            arguments = (m, centre, c, shades, v, v_means, v_coefficients, v_centres)
            run(harmonics.backward, pieces, torch.get_num_threads(), *arguments)
            v_centre = v_centres.sum(0, dtype=np.float64)
            v_viewmat[index, :3, :3] = -np.outer(W[index, :3, 3], v_centre)  # centre = -R^T t
            v_viewmat[index, :3, 3] = -W[index, :3, :3] @ v_centre
            found.append((v_means, v_coefficients))
        return *(torch.from_numpy(array) for array in _sum(found)), torch.from_numpy(v_viewmat), None


def _centres(W: np.ndarray) -> list[np.ndarray]:
    """Where each camera (4, 4) stands in the world, (3,)."""
    return [-V[:3, :3].T @ V[:3, 3] for V in W]


class _Project(torch.autograd.Function):
    """Gaussians and viewmat (B, 4, 4) -> means2d (B, N, 2), conics (B, N, 3), depths (B, N), opacities (B, N),
    extents (B, N, 2) pixels, radii (B, N, 2) whole pixels."""

    @staticmethod
    def forward(
        ctx: Any, means: Tensor, quats: Tensor | None, scales: Tensor | None, covariances: Tensor | None,
        opacities: Tensor, viewmat: Tensor, cameras: np.ndarray, gaussians: Gaussians,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        if covariances is not None:
            quats = scales = None
        inputs = _shapes(means, quats, scales, covariances, opacities)
        batch, count = len(cameras), len(inputs[0])
        outputs = empty_together((batch, count, 2), (batch, count, 3), (batch, count), (batch, count), (batch, count, 2))
        pieces = _chunks(count, projection.CHUNK)
        finite = np.empty(pieces, np.float32)
        size = projection.ROWS * projection.CHUNK
        for camera, *of_camera in zip(cameras, *outputs, strict=True):
            run(projection.forward, pieces, torch.get_num_threads(), *inputs, camera, *of_camera, finite, scratch=size)
        _check_finite(finite, gaussians)
        extents = outputs[-1]
        radii = np.maximum(np.ceil(extents), 0).astype(np.int32)
        tensors = tuple(torch.from_numpy(array) for array in (*outputs, radii))
        ctx.cameras = cameras
        ctx.save_for_backward(means, quats, scales, covariances, opacities, tensors[-2])
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*tensors[-2:])
        return tensors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *v: Tensor | None) -> _Grads:  # type: ignore[override]
        *tensors, last = ctx.saved_tensors
        inputs, extents = _shapes(*tensors), _array(last)
        batch, count = extents.shape[:2]
        pieces = _chunks(count, projection.CHUNK)
        shapes = ((batch, count, 2), (batch, count, 3), (batch, count), (batch, count))
        incoming = [np.zeros(shape, np.float32) if g is None else _array(g) for g, shape in zip(v, shapes, strict=False)]
        size = projection.ROWS * projection.CHUNK
        v_viewmat = np.zeros((batch, 4, 4), np.float32)
        found = []
        for index, (camera, extent, *of_camera) in enumerate(zip(ctx.cameras, extents, *incoming, strict=True)):
            *outgoing, v_rows = empty_together(*(array.shape for array in inputs), (pieces, 12))
            arguments = (*inputs, camera, extent, *of_camera, *outgoing, v_rows)
            run(projection.backward, pieces, torch.get_num_threads(), *arguments, scratch=size)
            v_viewmat[index, :3] = v_rows.sum(0, dtype=np.float64).reshape(3, 4)
            found.append(outgoing)
        wanted = zip(_sum(found), ctx.needs_input_grad, strict=False)
        v_inputs = (torch.from_numpy(array) if needed else None for array, needed in wanted)
        return *v_inputs, torch.from_numpy(v_viewmat), None, None


def _shapes(
    means: Tensor, quats: Tensor | None, scales: Tensor | None, covariances: Tensor | None, opacities: Tensor
) -> tuple[np.ndarray, ...]:
    """What the projection kernels read of the Gaussians, with empty arrays for what is not given."""
    return _array(means), _array(quats, 0, 4), _array(scales, 0, 3), _array(covariances, 0, 3, 3), _array(opacities)


def _sum(of_cameras: list[Any]) -> Any:
    """Adds up what each camera says of the same arrays, into the first camera's."""
    first, *others = of_cameras
    for other in others:
        for total, array in zip(first, other, strict=True):
            total += array
    return first


class _Composite(torch.autograd.Function):
    """What screens of Gaussians look like: image (B, C, H, W), alpha (B, 1, H, W), depth (B, 1, H, W)."""

    @staticmethod
    def forward(
        ctx: Any, means2d: Tensor, conics: Tensor, opacities: Tensor, colors: Tensor, depths: Tensor, background: Tensor,
        extents: Tensor, width: int, height: int, gaussians: Gaussians,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        m, q, o, c, z, b, e = (_array(t) for t in (means2d, conics, opacities, colors, depths, background, extents))
        batch, channels = len(m), c.shape[-1]
        image = empty(batch, channels, height, width)
        alpha, depth = empty(batch, 1, height, width), empty(batch, 1, height, width)
        saved: list[Tensor | None] = []
        for i in range(batch):
            screen = (m[i], q[i], o[i], e[i], z[i], c if c.ndim == 2 else c[i])
            composed = _composite(*screen, b[i], image[i], alpha[i, 0], depth[i, 0], gaussians)
            saved += [None if array is None else torch.from_numpy(array) for array in composed]
        found = (torch.from_numpy(image), torch.from_numpy(alpha), torch.from_numpy(depth))
        # As tensors, so that autograd notices a change in place and lets go of them after backward.
        ctx.save_for_backward(conics, opacities, background, found[2], *saved)
        ctx.color_shape = c.shape
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_image: Tensor | None, v_alpha: Tensor | None, v_depth: Tensor | None) -> _Grads:  # type: ignore[override]
        conics, opacities, background, depths, *saved = ctx.saved_tensors
        q, o, b, d = (_array(t) for t in (conics, opacities, background, depths))
        size = len(_Composed._fields)
        pictures = [
            _Composed._make(None if t is None else t.numpy() for t in saved[start : start + size])
            for start in range(0, len(saved), size)
        ]
        batch, channels, count = len(pictures), ctx.color_shape[-1], ctx.color_shape[-2]
        picture = pictures[0].T.shape
        v_i = np.zeros((batch, channels, *picture), np.float32) if v_image is None else _array(v_image)
        v_a = np.zeros((batch, 1, *picture), np.float32) if v_alpha is None else _array(v_alpha)
        v_d = np.empty((batch, 1, 0, 0), np.float32) if v_depth is None else _array(v_depth)
        v_m, v_q, v_o, v_c, v_z = zeros_together(
            (batch, count, 2), (batch, count, 3), (batch, count), (batch, count, channels), (batch, count)
        )
        for i, composed in enumerate(pictures):
            outgoing = (v_m[i], v_q[i], v_z[i], v_o[i], v_c[i])
            _composite_backward(composed, q[i], o[i], b[i], d[i, 0], v_i[i], v_a[i, 0], v_d[i, 0], outgoing)
        if len(ctx.color_shape) == 2:  # the same colours for all cameras
            v_c = v_c[0] if batch == 1 else v_c.sum(0)
        v_b = None
        if ctx.needs_input_grad[5]:
            v_b = torch.stack(
                [torch.from_numpy(np.tensordot(v, composed.T, 2)) for v, composed in zip(v_i, pictures, strict=True)]
            )
        return *(torch.from_numpy(array) for array in (v_m, v_q, v_o, v_c, v_z)), v_b, None, None, None, None


class _Composed(NamedTuple):
    """What the gradient of one picture needs beside what went in and came out; see the kernels of `lists`."""

    starts: np.ndarray  # (tiles + 1,)
    members: np.ndarray  # (pairs,)
    records: np.ndarray  # (seen, RECORD)
    flat: np.ndarray | None  # (seen * padded channels,) where there are more than RECORD_CHANNELS
    T: np.ndarray  # (H, W)
    last: np.ndarray  # (H, W)
    order: np.ndarray  # (seen,)
    pair_starts: np.ndarray  # (seen + 1,)
    places: np.ndarray  # (pairs,)

    def scene(self, background: np.ndarray) -> tuple[np.ndarray, ...]:
        """What the compositing kernels read."""
        colors = () if self.flat is None else (self.flat,)
        return self.starts, self.members, self.records, *colors, background


def _composite(
    m: np.ndarray, q: np.ndarray, o: np.ndarray, e: np.ndarray, z: np.ndarray, c: np.ndarray, b: np.ndarray,
    image: np.ndarray, alpha: np.ndarray, depth: np.ndarray, gaussians: Gaussians,
) -> _Composed:  # fmt: skip
    """Writes one picture: image (C, H, W), alpha (H, W), depth (H, W)."""
    threads = torch.get_num_threads()
    channels, height, width = image.shape
    order = lists.ranks(z, e)
    size = np.array([width, height])
    tiles_x, tiles_y = _chunks(width, tiles.TILE_W), _chunks(height, tiles.TILE_H)
    records, boxes = empty(len(order), lists.RECORD), empty(len(order), 4, dtype=np.int32)
    counts, pairs = empty(lists.SHARES, tiles_x * tiles_y, dtype=np.int32), np.empty(lists.SHARES, np.int64)
    finite = np.empty(lists.SHARES, np.float32)
    run(lists.count_pairs, lists.SHARES, threads, order, m, q, o, e, z, c, size, records, boxes, counts, pairs, finite)
    _check_finite(finite, gaussians)
    total = int(pairs.sum())
    if total > lists.MAX_PAIRS:
        raise ValueError(
            f"{total:,} pairs of a Gaussian and a tile of {tiles.TILE_W} x {tiles.TILE_H} pixels, {lists.MAX_PAIRS:,} is "
            f"the most: the {len(order):,} Gaussians seen in {width} x {height} pixels are too large"
        )
    starts = lists.lay_out(counts, pairs)
    members, places = empty(total, dtype=np.int32), empty(total, dtype=np.int32)
    pair_starts = np.empty(len(order) + 1, np.int64)
    run(lists.fill, lists.SHARES, threads, boxes, tiles_x, counts, pairs, members, pair_starts, places)

    groups = _chunks(tiles_x * tiles_y, lists.TILES_A_GROUP)
    T, last = empty_together((height, width), (height, width))
    flat = None
    if channels > RECORD_CHANNELS:
        padded = _chunks(channels, 16) * 16
        flat = empty(len(order) * padded)
        run(features.pad_colors, _chunks(len(order), lists.RANKS_A_CHUNK), threads, order, c, flat)
    composed = _Composed(starts, members, records, flat, T, last, order, pair_starts, places)
    compositor, scratch = _compositor(channels)
    run(compositor.forward, groups, threads, *composed.scene(b), image, T, alpha, depth, last, scratch=scratch)
    return composed


def _compositor(channels: int) -> tuple[Any, int]:
    """The module whose kernels composite so many channels, and the floats of scratch that they need."""
    if channels <= RECORD_CHANNELS:
        return compositing, compositing.SCRATCH_FLOATS
    return features, features.scratch_floats(_chunks(channels, 16) * 16)


def _composite_backward(
    composed: _Composed, q: np.ndarray, o: np.ndarray, b: np.ndarray, depth: np.ndarray,
    v_i: np.ndarray, v_a: np.ndarray, v_d: np.ndarray, outgoing: tuple[np.ndarray, ...],
) -> None:  # fmt: skip
    """Adds the gradient of one picture to `outgoing`: v_means2d, v_conics, v_depths, v_opacities, v_colors, all zeros."""
    threads, channels = torch.get_num_threads(), len(v_i)
    partial = empty(len(composed.places), 7 + channels)
    compositor, scratch = _compositor(channels)
    groups = _chunks(len(composed.starts) - 1, lists.TILES_A_GROUP)
    picture = (composed.T, depth, composed.last)
    run(compositor.backward, groups, threads, *composed.scene(b), *picture, v_i, v_a, v_d, partial, scratch=scratch)
    pieces = _chunks(len(composed.order), lists.RANKS_A_CHUNK)
    pairs = (composed.order, composed.pair_starts, composed.places)
    run(lists.sum_pairs, pieces, threads, *pairs, q, o, partial, *outgoing)
