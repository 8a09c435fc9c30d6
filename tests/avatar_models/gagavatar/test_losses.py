"""The training losses against their formulas, spelled out."""

from __future__ import annotations

import pytest
import torch

from avatar_models.gagavatar.losses import LIFTING, Weights, crops, lifting, losses, nearest_points, squares, unlike
from avatar_models.gagavatar.model import Pictures
from avatar_models.gagavatar.sizes import VARIANTS
from avatar_models.perceptual import STAGES, Vgg16Features
from tests.avatar_models.gagavatar.tiny import SIDE, TINY, cameras, heads, photos, shown, tiny


def test_the_nearest_point_is_the_one_that_all_distances_say() -> None:
    g = torch.Generator().manual_seed(0)
    points, vertices = torch.randn(700, 3, generator=g), torch.randn(90, 3, generator=g)
    assert torch.equal(nearest_points(points, vertices), torch.cdist(vertices.double(), points.double()).argmin(1))


def test_lifting_is_the_mean_over_vertices_and_only_chosen_points_learn_from_it() -> None:
    points = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [5, 5, 5]]], requires_grad=True)
    vertices = torch.tensor([[[0.1, 0, 0], [1.2, 0, 0]]])
    loss = lifting(points, vertices)
    torch.testing.assert_close(loss, torch.tensor(LIFTING * (0.1**2 + 0.2**2) / 2))
    loss.backward()
    assert points.grad is not None and points.grad[0, 2].abs().sum() == 0 and (points.grad[0, :2, 0] != 0).all()


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((20.0, 10.0, 40.0, 50.0), (30 - 15.556, 30 - 15.556, 30 + 15.556, 30 + 15.556)),  # 1.1 sqrt(20 x 40)
        ((0.0, 20.0, 20.0, 40.0), (0.0, 20.0, 20.0, 40.0)),  # it would leave the picture by its left edge
        ((0.0, 0.0, 64.0, 64.0), (0.0, 0.0, 64.0, 64.0)),
    ],
)
def test_boxes_become_squares_inside_the_picture(box: tuple[float, ...], wanted: tuple[float, ...]) -> None:
    torch.testing.assert_close(squares(torch.tensor([box]), 64)[0], torch.tensor(wanted), atol=1e-3, rtol=0)


def test_a_crop_of_the_whole_picture_is_the_picture() -> None:
    pictures = photos(2)
    torch.testing.assert_close(crops(pictures, [[0, 0, SIDE, SIDE]] * 2), pictures)


def test_terms_add_up_and_a_weight_of_zero_takes_its_term_away() -> None:
    model = tiny()
    pictures, person = model(shown(2), heads(2), cameras(2))
    targets, boxes = photos(2).flip(0), torch.tensor([[4.0, 4, 20, 24], [6, 2, 30, 28]])
    terms = losses(pictures, person, targets, boxes, heads(2), Weights())
    assert set(terms) == {"loss", "l1", "box", "lifting"}
    torch.testing.assert_close(terms["loss"], terms["l1"] + terms["box"] + terms["lifting"])
    by_hand = 0.5 * ((pictures.coarse - targets).abs().mean() + (pictures.refined - targets).abs().mean())
    torch.testing.assert_close(terms["l1"], by_hand)
    assert set(losses(pictures, person, targets, boxes, heads(2), Weights(box=0, lifting=0))) == {"loss", "l1"}


def test_equal_pictures_cost_nothing() -> None:
    model = tiny()
    _, person = model(shown(1), heads(1), cameras(1))
    same = photos(1)
    terms = losses(Pictures(same, same), person, same, torch.tensor([[0.0, 0, SIDE, SIDE]]), heads(1), Weights(lifting=0))
    assert terms["loss"] == 0


@pytest.mark.parametrize(("variant", "looked_at"), [("full", 3), ("no_renderer", 2)])
def test_each_different_picture_is_looked_at_once_and_the_sum_is_the_formulas(variant: str, looked_at: int) -> None:
    made, person = tiny(VARIANTS[variant](TINY))(shown(2), heads(2), cameras(2))
    made = made.changed(lambda picture: picture.detach().double().requires_grad_())
    targets, boxes = photos(2).flip(0).double(), torch.tensor([[4.0, 4, 20, 24], [6, 2, 30, 28]])
    torch.manual_seed(0)
    features = Vgg16Features(STAGES).double()
    calls: list[object] = []
    features.register_forward_hook(lambda *call: calls.append(call))
    found = losses(made, person, targets, boxes, heads(2), Weights(lifting=0), features)["loss"]
    assert len(calls) == looked_at

    windows = squares(boxes, SIDE).long().tolist()
    wanted = crops(targets, windows)
    by_hand = torch.zeros((), dtype=torch.float64)
    for picture in (made.coarse, made.refined):
        inside = crops(picture, windows)
        by_hand = by_hand + 0.5 * (picture - targets).abs().mean() + 0.5 * (inside - wanted).abs().mean()
        by_hand = by_hand + Weights().perceptual * unlike(features(inside), features(wanted))
    torch.testing.assert_close(found, by_hand, rtol=1e-12, atol=0)
    gradients = (torch.autograd.grad(loss, made.different) for loss in (found, by_hand))
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-15)


def test_the_perceptual_distance_is_that_of_unit_features_weighed_by_stage() -> None:
    g = torch.Generator().manual_seed(0)
    found, wanted = ([torch.randn(2, 4, side, side, generator=g).double() for side in (8, 4, 2, 2, 1)] for _ in range(2))
    by_hand = 0.0
    for w, a, b in zip((0.1, 0.1, 1, 1, 1), found, wanted, strict=True):
        for one, other in zip(a.permute(0, 2, 3, 1).reshape(-1, 4), b.permute(0, 2, 3, 1).reshape(-1, 4), strict=True):
            by_hand += w * float((one / one.norm() - other / other.norm()).abs().sum()) / (a.numel() / 4)
    assert float(unlike(found, wanted)) == pytest.approx(by_hand, rel=1e-8)
    assert float(unlike(found, found)) == 0


def test_what_is_done_to_pictures_that_are_one_is_done_once() -> None:
    one, two = photos(1), photos(1)
    assert [len(Pictures(one, other).changed(torch.neg).different) for other in (one, two)] == [1, 2]
