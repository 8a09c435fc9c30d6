"""Folders as INSTA and NeRFBlendShape have them go all the way to an avatar."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from avatar_models.avatar import load_avatar
from avatar_models.heads.procedural import procedural_head
from avatar_models.people import camera_for, film, make_person, perform, viewmats
from pipelines import tables
from pipelines.formats.clip import TrackedClip
from pipelines.formats.insta import write_insta
from pipelines.frames import StoredFrame, whole_frame
from pipelines.params import Params
from pipelines.sources.nerfblendshape import TEST_FRAMES
from tests.in_process import catalog_to_avatars

PERSON, SIDE, TRAIN, TEST = 4, 256, 12, 6
FRAMES = TRAIN + TEST
HELD_OUT = np.arange(FRAMES) >= TRAIN


@pytest.fixture(scope="module")
def filmed() -> tuple[TrackedClip, list[StoredFrame]]:
    """A made-up person, tracked without error."""
    person, performance, head = make_person(PERSON), perform(PERSON, FRAMES, 25.0), procedural_head()
    K, distance = camera_for(SIDE)
    views = viewmats(performance, distance)
    matte = np.full((SIDE, SIDE), 255, np.uint8)
    shots = [whole_frame(film(person, performance, row, SIDE, views[row], K), matte) for row in range(FRAMES)]
    clip = TrackedClip(
        "ann", "procedural", SIDE, SIDE, np.arange(FRAMES), HELD_OUT, np.tile(K, (FRAMES, 1, 1)), views,
        performance.expression.astype(np.float64), np.zeros((FRAMES, 3)), performance.jaw.astype(np.float64),
        performance.eyes.astype(np.float64), person.identity.astype(np.float64), head.expression_names, head.identity_names,
    )  # fmt: skip
    return clip, shots


def params(kind: str) -> Params:
    return Params.model_validate(
        {
            "source": {"kind": kind, "path": "raw", "watch": "raw"},
            "catalog": {"test_fraction": 0.0},  # the layouts say themselves what is held out
            "preprocess": {"max_frames": TRAIN, "crop": {"side": 128}, "gates": {"min_frames": 5}},
            "train_headgas": {"steps": 25, "num_gaussians": 300, "resolution": 64, "probes": 1, "checkpoint_every": 25},
            "compute": {"cache": "cache"},
        }
    )


def expect_an_avatar(found: Params, subject: str) -> None:
    """Runs the stages; the subject's avatar must be of its training frames, and judged on those held out."""
    trained = catalog_to_avatars(found)
    assert list(trained.entries) == [subject]
    segments = tables.read_table(Path("data/tracks/segments.parquet"), tables.SEGMENTS).to_pylist()
    assert [(row["clip_id"], row["split"], row["passed"]) for row in segments] == [
        (f"{subject}-test", "test", True),
        (f"{subject}-train", "train", True),
    ]
    entry = trained.last(subject)
    assert entry.summary["steps"] == 25 and 0 < entry.summary["frames"] <= TRAIN
    for name in ("avatar.safetensors", "avatar.json"):
        entry.copy_to(name, Path("avatar") / name)
    _, facts = load_avatar(Path("avatar"))
    assert facts["subject_id"] == subject and facts["head"] == "procedural"


def test_instas_folder_that_our_exporter_wrote(
    filmed: tuple[TrackedClip, list[StoredFrame]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_insta(tmp_path / "raw/ann", *filmed, procedural_head())
    monkeypatch.chdir(tmp_path)
    expect_an_avatar(params("insta"), "ann")


def test_nerfblendshapes_folder(
    filmed: tuple[TrackedClip, list[StoredFrame]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last 500 frames are for testing; those beyond what preprocess.max_frames reads are copies of one."""
    clip, shots = filmed
    pictures = tmp_path / "raw/id1/ori_imgs"
    pictures.mkdir(parents=True)
    frames = []
    for number in range(TRAIN + TEST_FRAMES):
        row = min(number, FRAMES - 1)
        if number < FRAMES:
            cv2.imwrite(str(pictures / f"{number}.jpg"), shots[row].image[..., ::-1])
        else:
            shutil.copy(pictures / f"{row}.jpg", pictures / f"{number}.jpg")
        c2w = np.linalg.inv(clip.viewmat[row]) @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"img_id": number, "transform_matrix": c2w.tolist(), "exp_ori": [0.0] * 46})
    K = clip.K[0]
    own = {"w": SIDE, "h": SIDE, "fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2], "frames": frames}
    (tmp_path / "raw/id1/transforms.json").write_text(json.dumps(own))
    monkeypatch.chdir(tmp_path)
    expect_an_avatar(params("nerfblendshape"), "id1")
