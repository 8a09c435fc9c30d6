"""How far the neural heads of made-up people who were filmed by several cameras are from the truth, by what they are fitted to.

    python -m bench.nphm_sweep PROJECT [PICTURE.png]

PROJECT is a folder in which catalog, preprocess and train_nphm (procedural scans) ran on a recipe of people with `cameras`. For
both kinds of clouds, the linear heads' surfaces and a plane sweep of the views, prints the mean and the median distance of
clouds from the true surface, and of the true surface (4,000 points of the skin at each step of time, in the world) from the
tracked neural head, pose and all; and steps a second of CPU time and by the clock, one thread, reading pictures
included. With PICTURE, draws the tracked heads over the first step that all cameras saw, clouds of the linear head above.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avatar_models.heads.nphm import surface
from avatar_models.heads.nphm.fit import distances
from avatar_models.heads.nphm.model import Codes, Nphm
from avatar_models.heads.procedural import procedural_head
from pipelines.cache import Cache, Entry
from pipelines.fanout import Item
from pipelines.nphm_tracks.performances import Performance, performances_of
from pipelines.nphm_tracks.surfaces import SomeClouds
from pipelines.nphm_tracks.tracker import NphmTracker
from pipelines.overlay import SKIN, Clay, Picture, draw_head
from pipelines.params import TrackNphm
from pipelines.png import png_bytes
from pipelines.splits import subjects_that_passed
from pipelines.subject import clip_tracks, read_tables

TRUE_POINTS, DENSE = 4000, 400_000


class Truth:
    """What a clip showed."""

    def __init__(self, project: Path, clip: str) -> None:
        self.stored = np.load(project / f"data/catalog/videos/{clip}.truth.npz")
        self.head = procedural_head()

    def points(self, frame: int, count: int) -> NDArray[np.float64]:
        """Points (count, 3) of the skin in the camera's frame, spread evenly."""
        rows = [self.stored["identity"], *(self.stored[name][frame] for name in ("expression", "neck", "jaw", "eyes"))]
        vertices = self.head.vertices(*(torch.from_numpy(np.asarray(row, np.float32))[None] for row in rows))[0].numpy()
        skin = np.zeros(len(vertices), bool)
        skin[self.head.masks["skin"].numpy()] = True
        faces = self.head.faces.numpy()
        corners = vertices[faces[skin[faces].all(1)]].astype(np.float64)
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        random = np.random.default_rng(0)
        chosen = corners[random.choice(len(corners), count, p=area / area.sum())]
        found = np.einsum("nk,nkx->nx", random.dirichlet(np.ones(3), count), chosen)
        view = self.stored["viewmat"][frame]
        return np.asarray(found @ view[:3, :3].T + view[:3, 3])


def cloud_errors(project: Path, tracker: NphmTracker, subject: str, clouds: list[SomeClouds]) -> NDArray[np.float64]:
    """Distances of all points of clouds from the nearest of many true ones, mm."""
    found = []
    for performance, (points, _) in zip(performances_of(tracker.data, subject), clouds, strict=True):
        for step, some in enumerate(points):
            clip, row = performance.seen_at(step)[0]
            tracks = performance.clips[clip]
            view = tracks.viewmat[row].astype(np.float64)
            in_camera = some.double().numpy() @ view[:3, :3].T + view[:3, 3]
            true = Truth(project, clip).points(int(tracks.frames[row]), DENSE)
            found.append(1e3 * cKDTree(true).query(in_camera)[0])
    return np.concatenate(found)


def head_errors(project: Path, model: Nphm, entry: Entry, clip: str) -> NDArray[np.float64]:
    """Distances of a clip's true points from the tracked heads, mm."""
    rows = clip_tracks(entry.read_table(f"tracks-{clip}"), clip)
    table = entry.read_table(f"tracks-{clip}").sort_by("frame")
    geometry = torch.tensor(entry.read_table(f"identity-{clip}")["identity"][0].as_py())[None]
    truth, found = Truth(project, clip), []
    for row, frame in enumerate(rows.frames.tolist()):
        codes = Codes(geometry, torch.zeros_like(geometry), torch.tensor(table["expression"][row].as_py())[None])
        view = rows.viewmat[row].astype(np.float64)
        in_head = (truth.points(frame, TRUE_POINTS) - view[:3, 3]) @ view[:3, :3]
        points = torch.from_numpy(in_head).float()
        found.append(1e3 * distances(lambda x, codes=codes: model.sdf(x[None], codes)[0], points).numpy())  # type: ignore[misc]
    return np.concatenate(found)


def told(errors: NDArray[np.float64]) -> str:
    return f"mean {errors.mean():.2f}, median {np.median(errors):.2f} mm"


def main() -> None:
    project = Path(sys.argv[1])
    torch.set_num_threads(1)
    data = read_tables(project)
    for subject in subjects_that_passed(data.segments):
        own = data.segments.filter(pc.equal(data.segments["subject_id"], subject))["clip_id"].to_pylist()
        print(f"{subject}: {len(own)} clips")
        drawn = [measure(project, subject, kind) for kind in ("head", "views")]
        if len(sys.argv) > 2:
            Path(sys.argv[2]).write_bytes(png_bytes(np.concatenate(drawn, 0)))


def drawing(tracker: NphmTracker, entry: Entry, performance: Performance) -> Picture:
    """The neural head over what each second camera saw at the first step that all saw, side by side."""
    step = next(step for step in range(len(performance)) if len(performance.seen_at(step)) == len(performance.clips))
    found = []
    for clip, row in performance.seen_at(step)[::2]:
        tracks = clip_tracks(entry.read_table(f"tracks-{clip}"), clip)
        geometry = torch.tensor(entry.read_table(f"identity-{clip}")["identity"][0].as_py())[None]
        expression = torch.from_numpy(tracks.conditions[row : row + 1, :-9])
        codes = Codes(geometry, torch.zeros_like(geometry), expression)
        mesh = surface(lambda x, codes=codes: tracker.stored.model.sdf(x[None], codes)[0], 0.002)  # type: ignore[misc]
        vertices = mesh.vertices.double().numpy()
        clay = Clay(mesh.faces.numpy(), np.tile(np.array(SKIN, np.float32), (len(vertices), 1)), np.zeros(len(vertices), bool))
        picture = tracker.data.frames.decode(clip, row).image
        found.append(np.concatenate([picture, draw_head(picture, clay, vertices, tracks.K[row], tracks.viewmat[row])], 0))
    return np.concatenate(found, 1)


def measure(project: Path, subject: str, kind: str) -> Picture:
    options: dict[str, Any] = TrackNphm(clouds=kind).as_key()  # type: ignore[arg-type]
    tracker = NphmTracker(options, str(project / "models/nphm"), project)
    performances = performances_of(tracker.data, subject)
    tracker.clouds_of(subject, 0, performances[0])  # once, so that no kernel is compiled while the clock runs
    cpu, wall = time.process_time(), time.perf_counter()
    clouds = [tracker.clouds_of(subject, number, one) for number, one in enumerate(performances)]
    made_cpu, made_wall = time.process_time() - cpu, time.perf_counter() - wall
    steps = sum(len(one) for one in performances)
    with TemporaryDirectory() as folder:
        cache, cpu, wall = Cache(folder), time.process_time(), time.perf_counter()
        writer = cache.writer("0" * 64)
        writer.commit(tracker(Item(subject, ""), None, writer), 0.0)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        entry = cache.find("0" * 64)
        assert isinstance(entry, Entry)
        model = tracker.stored.model
        firsts = [max(one.clips, key=lambda clip: len(one.steps[clip])) for one in performances]  # poses are the same in all
        errors = np.concatenate([head_errors(project, model, entry, clip) for clip in firsts])
        drawn = drawing(tracker, entry, performances[0])
        reprojection = np.mean([row["reprojection"] for row in entry.summary["segments"]])
    points = np.mean([len(some) for parts, _ in clouds for some in parts])
    off = told(cloud_errors(project, tracker, subject, clouds))
    print(f"  {kind}: {points:.0f} points a step, off the true surface by {off}")
    print(f"    the true surface from the neural head: {told(errors)}; misfit {entry.summary['misfit_mm']} mm; ", end="")
    print(f"landmarks off by {reprojection:.3f} of the distance between the eyes")
    print(f"    clouds {steps / made_cpu:.2f} steps/s of CPU, {steps / made_wall:.2f} by the clock; ", end="")
    print(f"all {steps / cpu:.2f} and {steps / wall:.2f}", flush=True)
    return drawn


if __name__ == "__main__":
    main()
