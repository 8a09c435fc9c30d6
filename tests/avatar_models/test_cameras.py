"""Cameras: projection, crops and resizing agree with one another and with OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from avatar_models.cameras import Camera, cropped, project, resized


def camera() -> Camera:
    K = torch.tensor([[[500.0, 0, 320], [0, 480, 240], [0, 0, 1]]], dtype=torch.float64)
    viewmat = torch.eye(4, dtype=torch.float64)[None].clone()
    viewmat[0, :3, :3] = torch.from_numpy(cv2.Rodrigues(np.array([0.1, -0.2, 0.05]))[0])
    viewmat[0, :3, 3] = torch.tensor([0.02, -0.1, 0.9])
    return Camera(K, viewmat, 640, 480)


POINTS = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.3


def test_projection_is_opencvs() -> None:
    view = camera()
    rotation = cv2.Rodrigues(view.viewmat[0, :3, :3].numpy())[0]
    wanted, _ = cv2.projectPoints(POINTS[0].numpy(), rotation, view.viewmat[0, :3, 3].numpy(), view.K[0].numpy(), None)
    assert np.allclose(project(POINTS, view)[0].numpy(), wanted[:, 0], atol=1e-9)


def test_a_crop_shifts_pixels_and_a_resize_scales_them() -> None:
    view = camera()
    assert torch.allclose(project(POINTS, cropped(view, 30, 40, 100, 100)), project(POINTS, view) - torch.tensor([30.0, 40.0]))
    assert torch.allclose(project(POINTS, resized(view, 320, 120)), project(POINTS, view) * torch.tensor([0.5, 0.25]))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"viewmat must be \(1, 4, 4\)"):
        Camera(torch.eye(3)[None], torch.eye(4), 10, 10)
