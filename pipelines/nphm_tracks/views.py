"""Clouds of points of what several calibrated cameras saw at one time, by a plane sweep around the linear head's surface.

Metres, in the linear head's frame, in which each camera's track is given.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from avatar_models.cameras import Camera
from avatar_models.heads.interface import Head
from avatar_models.mesh_render import rasterise, vertex_normals
from avatar_models.stereo.fusion import cloud
from avatar_models.stereo.sweep import Array32, Bounds, SweepOptions, View
from pipelines.frames import FrameReader, StoredFrame
from pipelines.nphm_tracks.performances import Performance
from pipelines.nphm_tracks.surfaces import SomeClouds
from pipelines.subject import ClipTracks, above_neck

AROUND = 0.02
"""The surface is looked for so far before and behind the linear head's, metres: 2 mm from depth to depth."""
DEPTHS = 21
ACROSS = 110
"""Pixels of a stored picture's width that are asked: of all in between the cloud would only be denser."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
PERSON = 128
"""Least value of a matte, 0 to 255, of a pixel that is looked at."""


def clouds_of_views(head: Head, performance: Performance, frames: FrameReader, held_out: Container[str]) -> SomeClouds:
    """Points that at least two cameras agree on, without normals: of steps that one camera saw there are none.

    Clips that are held out are looked at only where the others are too few: a performance that is held out as a whole.
    """
    faces = head.faces.numpy()
    found = []
    for step in range(len(performance)):
        vertices = performance.vertices(head, step).numpy()
        seen = performance.seen_at(step)
        trained = [(clip, row) for clip, row in seen if clip not in held_out]
        chosen = trained if len(trained) > 1 else seen
        views = [view_of(frames.decode(clip, row), performance.clips[clip], row) for clip, row in chosen]
        bounds = [bounds_around(vertices, faces, view) for view in views]
        options = SweepOptions(depths=DEPTHS, stride=max(2, round(len(views[0].picture) / ACROSS)))
        found.append(torch.from_numpy(cloud(views, bounds, options, torch.get_num_threads())))
    return found, None


def view_of(frame: StoredFrame, tracks: ClipTracks, row: int) -> View:
    """One stored frame with its camera: the head and the neck are what may be seen, the torso does not move with them."""
    side = len(frame.image)
    camera = Camera(torch.from_numpy(tracks.K[row : row + 1]), torch.from_numpy(tracks.viewmat[row : row + 1]), side, side)
    mask = (frame.matte >= PERSON) & frame.known & (above_neck(camera)[0] > 0.5)
    picture = frame.image.astype(np.float32) @ LUMA / 255
    return View(picture, mask, tracks.K[row].astype(np.float64), tracks.viewmat[row].astype(np.float64))


def bounds_around(vertices: Array32, faces: NDArray[np.int64], view: View) -> Bounds:
    """AROUND a mesh (V, 3), (F, 3) and along it; beside it as around the nearest pixel that shows it."""
    height, width = view.picture.shape
    surface = rasterise(vertices, faces, view.K, view.viewmat, width, height)
    depth = (vertices @ view.viewmat[:3, :3].T + view.viewmat[:3, 3])[:, 2:]
    normals = vertex_normals(vertices, faces) @ view.viewmat[:3, :3].T
    shown = surface.interpolate(faces, np.concatenate([depth, normals], 1).astype(np.float32))
    hidden = surface.triangle < 0
    if hidden.all():
        shown[..., 0] = np.nan
    else:
        row, column = distance_transform_edt(hidden, return_distances=False, return_indices=True)
        shown = shown[row, column]
    return Bounds(shown[..., 0] - AROUND, shown[..., 0] + AROUND, np.ascontiguousarray(shown[..., 1:]))
