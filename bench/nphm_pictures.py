"""What pictures add to the neural heads of people whom one camera filmed, by the truth of made-up ones.

    python -m bench.nphm_pictures PROJECT

PROJECT is a folder in which catalog, preprocess and train_nphm (procedural scans) ran on a recipe of people with one camera.
For each, with `photometric` off and on: how far the detector's points on the tracked head are turned from those on the true
one, in degrees, the mean over the frames, and without what all frames share; how far the points are off in millimetres when
turned, moved and scaled to the true ones, without what all frames share; how far they are from the detected ones, over the
distance of the eyes; the share of the colours' variance that is not explained, before and after; and frames a second of CPU
time, one thread.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatar_models.heads.nphm.carried import carried, places_at_rest
from avatar_models.heads.nphm.model import Codes
from avatar_models.heads.nphm.poses import Poses
from bench.nphm_sweep import Truth
from pipelines.cache import Cache, Entry
from pipelines.fanout import Item
from pipelines.nphm_tracks.performances import performances_of
from pipelines.nphm_tracks.surfaces import landmarks_of
from pipelines.nphm_tracks.tracker import NphmTracker
from pipelines.params import TrackNphm
from pipelines.splits import subjects_that_passed
from pipelines.subject import clip_tracks, read_tables

Array = NDArray[np.float64]


def true_landmarks(truth: Truth, frames: NDArray[np.int64]) -> Array:
    """The detector's points (F, 478, 3) on the true head, in the camera's frame."""
    names = ("expression", "neck", "jaw", "eyes")
    rows = [torch.from_numpy(np.asarray(truth.stored[name][frames], np.float32)) for name in names]
    identity = torch.from_numpy(np.asarray(truth.stored["identity"], np.float32))[None]
    found = [truth.head.landmarks(truth.head.vertices(identity, *(row[n : n + 1] for row in rows))) for n in range(len(frames))]
    view = truth.stored["viewmat"][frames]
    return np.asarray(torch.cat(found).double().numpy() @ view[:, :3, :3].transpose(0, 2, 1) + view[:, None, :3, 3])


def onto(found: Array, true: Array) -> tuple[Rotation, Array]:
    """Turns from points (F, L, 3) to the true ones, and what is left of each (F, L, 3) once turned, moved and scaled."""
    a, b = (points - points.mean(1, keepdims=True) for points in (found, true))
    turns = Rotation.concatenate([Rotation.align_vectors(y, x)[0] for x, y in zip(a, b, strict=True)])
    turned = np.stack([turn.apply(x) for turn, x in zip(turns, a, strict=True)])
    scale = (turned * b).sum() / (turned * turned).sum()
    return turns, scale * turned - b


def tracked_landmarks(tracker: NphmTracker, entry: Entry, subject: str) -> tuple[Array, NDArray[np.int64]]:
    """The same points (F, 478, 3) on the tracked head, in the camera's frame, and the frames' numbers in the video."""
    (performance,) = performances_of(tracker.data, subject)
    ((clip, linear),) = performance.clips.items()
    rows = clip_tracks(entry.read_table(f"tracks-{clip}"), clip)
    geometry = torch.tensor(entry.read_table(f"identity-{clip}")["identity"][0].as_py())[None]
    codes = Codes(geometry, torch.zeros_like(geometry), torch.from_numpy(rows.conditions[:, :-9]))
    pose = torch.from_numpy(np.linalg.inv(linear.viewmat) @ rows.viewmat)
    poses = Poses(pose[:, :3, :3], pose[:, :3, 3])
    model = tracker.stored.model
    points = carried(model, codes, poses, places_at_rest(model, codes, poses, landmarks_of(tracker.head, performance)))
    view = linear.viewmat.astype(np.float64)
    return points.double().numpy() @ view[:, :3, :3].transpose(0, 2, 1) + view[:, None, :3, 3], rows.frames


def measure(project: Path, subject: str, photometric: bool) -> str:
    options = TrackNphm(photometric=photometric).as_key()
    tracker = NphmTracker(options, str(project / "models/nphm"), project)
    with TemporaryDirectory() as folder:
        cache = Cache(folder)
        writer, cpu = cache.writer("0" * 64), time.process_time()
        writer.commit(tracker(Item(subject, ""), None, writer), 0.0)
        cpu = time.process_time() - cpu
        entry = cache.find("0" * 64)
        assert isinstance(entry, Entry)
        found, frames = tracked_landmarks(tracker, entry, subject)
        (row,) = entry.summary["segments"]
        turns, left = onto(found, true_landmarks(Truth(project, row["catalog_clip_id"]), frames))
        apart = np.degrees(turns.magnitude()).mean(), np.degrees((turns * turns.mean().inv()).magnitude()).mean()
        in_head = np.stack([turn.inv().apply(one) for turn, one in zip(turns, left, strict=True)])
        off = 1e3 * np.linalg.norm(in_head - in_head.mean(0), axis=2).mean()
        unexplained = entry.summary["unexplained"].get(row["clip_id"], "-")
    return (
        f"turned {apart[0]:.2f} degrees, {apart[1]:.2f} without what is shared; points {off:.2f} mm; "
        f"landmarks {row['reprojection']:.4f}; unexplained {unexplained}; {len(frames) / cpu:.2f} frames/s"
    )


def main() -> None:
    project = Path(sys.argv[1])
    torch.set_num_threads(1)
    for subject in subjects_that_passed(read_tables(project).segments):
        for photometric in (False, True):
            measured = measure(project, subject, photometric)
            print(f"{subject}, photometric {'on' if photometric else 'off'}: {measured}", flush=True)


if __name__ == "__main__":
    main()
