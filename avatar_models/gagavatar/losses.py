"""What GAGAvatar is trained with (section 3.5, and the weights of the released code).

    L = 1/2 sum over coarse and refined picture of (L1 + L1 inside the head's box)
      + lambda_p sum over both of the perceptual loss inside the box + L_lifting

B pictures of S x S pixels, V vertices, M lifted points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from scipy.spatial import cKDTree
from torch import Tensor

from avatar_models.gagavatar.model import Person, Pictures
from avatar_models.perceptual import Vgg16Features, unit_channels

BOX_SCALE = 1.1
LEVELS = (0.1, 0.1, 1.0, 1.0, 1.0)
"""Of the perceptual distance's stages."""
LIFTING = 250.0
"""Per square metre: ten, in the released code's units of 0.2 m."""

TOGETHER = 512  # vertices whose distances to all points are in memory at a time, on a GPU


@dataclass(frozen=True)
class Weights:
    """Of the terms. Zero leaves a term out."""

    box: float = 1.0
    perceptual: float = 0.01
    lifting: float = 1.0


def losses(
    pictures: Pictures,
    person: Person,
    targets: Tensor,  # (B, 3, S, S) over black
    boxes: Tensor,  # (B, 4) left, top, right, bottom of the heads in pixels; on the CPU, or it waits for them
    vertices: Tensor,  # (B, V, 3) metres: the heads of the targets
    weights: Weights,
    features: Vgg16Features | None = None,
) -> dict[str, Tensor]:
    """All terms as they stand in the sum, and `loss`, their sum. Each is a mean over the batch."""
    different = pictures.different
    terms = {"l1": mean_of([nnf.l1_loss(made, targets) for made in different])}
    if weights.box > 0 or features is not None:
        size = targets.shape[-1]
        windows = squares(boxes, size).long().tolist()
        wanted = crops(targets, windows)
        cropped = [crops(made, windows) for made in different]
        terms["box"] = weights.box * mean_of([nnf.l1_loss(made, wanted) for made in cropped])
        if features is not None and weights.perceptual > 0:
            of_wanted = features(wanted)
            terms["perceptual"] = 2 * weights.perceptual * mean_of([unlike(features(made), of_wanted) for made in cropped])
    if weights.lifting > 0:
        terms["lifting"] = weights.lifting * lifting(person.points, vertices)
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def mean_of(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


def unlike(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """The perceptual distance of the released code, of five stages' features (B, C, H, W): differences of unit features, summed
    over the channels."""
    levels = zip(LEVELS, found, wanted, strict=True)
    return torch.stack([w * (unit_channels(a) - unit_channels(b)).abs().sum(1).mean() for w, a, b in levels]).sum()


def lifting(points: Tensor, vertices: Tensor) -> Tensor:
    """Equation 8: mean squared distance of each vertex (B, V, 3) to the lifted point (B, M, 3) that is nearest to it, times
    LIFTING. The choice of points is not differentiated."""
    nearest = torch.stack([nearest_points(p, v) for p, v in zip(points.detach(), vertices.detach(), strict=True)])
    chosen = torch.gather(points, 1, nearest[..., None].expand(-1, -1, 3))
    return LIFTING * (vertices - chosen).square().sum(2).mean()


def nearest_points(points: Tensor, vertices: Tensor) -> Tensor:
    """Index (V,) of the point (M, 3) that is nearest to each vertex (V, 3): a k-d tree on a CPU, all distances on a GPU."""
    if points.is_cuda:
        exactly = "donot_use_mm_for_euclid_dist"
        of_some = [torch.cdist(some, points, compute_mode=exactly).argmin(1) for some in vertices.split(TOGETHER)]
        return torch.cat(of_some)
    # A tree that is asked once is cheaper unbalanced.
    tree = cKDTree(points.numpy(), leafsize=32, balanced_tree=False, compact_nodes=False)
    return torch.from_numpy(tree.query(vertices.numpy(), workers=torch.get_num_threads())[1])


def squares(boxes: Tensor, size: int) -> Tensor:
    """Boxes (B, 4) in pixels made square, a tenth larger, and drawn in where they would leave a picture of size x size."""
    low, high = boxes[:, :2], boxes[:, 2:]
    centre = (low + high) / 2
    side = BOX_SCALE * (high - low).clamp_min(1).prod(1).sqrt()
    side = torch.stack([side, *(2 * centre).unbind(1), *(2 * (size - centre)).unbind(1)], 1).amin(1)
    half = side[:, None] / 2
    return torch.cat([centre - half, centre + half], 1)


def crops(pictures: Tensor, windows: Sequence[Sequence[int]]) -> Tensor:
    """What windows (B, 4) left, top, right, bottom show of pictures (B, C, S, S), as large as those."""
    size = pictures.shape[-1]
    found = []
    for picture, (left, top, right, bottom) in zip(pictures, windows, strict=True):
        inside = picture[None, :, top : max(bottom, top + 1), left : max(right, left + 1)]
        found.append(nnf.interpolate(inside, (size, size), mode="bilinear", antialias=True))
    return torch.cat(found)
