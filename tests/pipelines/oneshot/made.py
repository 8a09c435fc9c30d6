"""Tracked clips of several made-up people on disk, and a model small enough to be trained on them in a test."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch

from avatar_models.gagavatar import sizes
from avatar_models.gagavatar.sizes import GagavatarSizes
from avatar_models.heads.procedural import procedural_head
from avatar_models.heads.storage import save_head
from avatar_models.people import camera_for, film, make_person, perform, viewmats
from pipelines import tables
from pipelines.frames import write_frames
from pipelines.oneshot.setup import Recipe, Setup
from pipelines.params import TrainOneshot
from tests.avatar_models.gagavatar.tiny import TINY

SIDE, FRAMES, FPS = 48, 4, 8.0
PEOPLE = {"ann": 1, "bob": 2, "cleo": 3, "dan": 4}
START, STEP = 5, 2
"""The clips' frames in their source videos."""
BAD = 1
"""A frame of ann's that did not pass the gates."""
OPTIONS = TrainOneshot.model_validate(
    {"steps": 40, "batch": 2, "max_vertices": 30, "checkpoint_every": 20, "probes": 2, "learning_rate": 3e-3}
)


def tiny_sizes(num_vertices: int) -> GagavatarSizes:
    assert num_vertices == TINY.num_vertices
    return TINY


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sizes: small` means tiny."""
    monkeypatch.setitem(sizes.SIZES, "small", tiny_sizes)


def recipe(root: Path, **changes: object) -> Recipe:
    return Recipe(OPTIONS.model_copy(update=changes).as_key(), "", str(root))


def setup(root: Path, **changes: object) -> Setup:
    return recipe(root, **changes).prepare("cpu")


def write_people(root: Path) -> Path:
    """data/ of a project with a clip of each person."""
    segments, tracks, identities, rows = [], [], [], []
    for name, seed in PEOPLE.items():
        person, performance = make_person(seed), perform(seed, FRAMES, FPS)
        K, distance = camera_for(SIDE)
        views = viewmats(performance, distance)
        frames = {
            "clip_id": [name] * FRAMES,
            "frame": [START + STEP * row for row in range(FRAMES)],
            "time": [row / FPS for row in range(FRAMES)],
        }
        shown = [film(person, performance, row, SIDE, views[row], K) for row in range(FRAMES)]
        mattes = [(np.abs(image.astype(int) - image[1, 1]).max(-1) > 24).astype(np.uint8) * 255 for image in shown]
        pictures = {
            "image": [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in shown],
            "matte": [cv2.imencode(".png", matte)[1].tobytes() for matte in mattes],
            "crop": [[0.0, 0.0, 1.0]] * FRAMES,
            "picture": [[0.0, 0.0, SIDE, SIDE]] * FRAMES,
        }
        segments.append((name, pa.table({**frames, **pictures}, schema=tables.FRAMES)))
        columns = {
            **frames,
            "K": [K.ravel().tolist()] * FRAMES,
            "viewmat": views.reshape(FRAMES, 16).tolist(),
            "neck": [[0.0] * 3] * FRAMES,
            **{part: getattr(performance, part).tolist() for part in ("jaw", "eyes", "expression")},
            **{figure: [0.0] * FRAMES for figure in ("reprojection", "jitter", "coverage", "confidence")},
            "good": [(name, row) != ("ann", BAD) for row in range(FRAMES)],
            "head": ["procedural"] * FRAMES,
            "head_hash": ["0"] * FRAMES,
        }
        tracks.append(pa.table(columns, schema=tables.TRACKS))
        whose = {"subject_id": name, "clip_id": name, "head": "procedural", "head_hash": "0"}
        identities.append({**whose, "identity": person.identity.tolist()})
        numbers = dict.fromkeys(("reprojection", "jitter", "coverage"), 0.0)
        row = {"clip_id": name, "catalog_clip_id": name, "subject_id": name, "camera_id": "cam0", "split": "train"}
        row |= {
            "frame_start": START,
            "frame_end": START + STEP * FRAMES,
            "fps": FPS,
            "num_frames": FRAMES,
            "num_good": FRAMES,
            **numbers,
        }
        rows.append({**row, "passed": True, "reason": "", "fingerprint": name})
    folder = root / "data/tracks"
    folder.mkdir(parents=True)
    write_frames(root / "data/frames", segments)
    save_head(folder / "head.npz", procedural_head())
    tables.write_table(pa.concat_tables(tracks), tables.TRACKS, folder / "tracks.parquet")
    tables.write_table(pa.Table.from_pylist(identities, tables.IDENTITIES), tables.IDENTITIES, folder / "identities.parquet")
    tables.write_table(pa.Table.from_pylist(rows, tables.SEGMENTS), tables.SEGMENTS, folder / "segments.parquet")
    return root


def weights(setup: Setup) -> torch.Tensor:
    """All weights and their averages in a row."""
    training = setup.training
    return torch.cat([value.detach().flatten() for net in (training.model, training.average) for value in net.parameters()])
