"""Filming made-up people: the same bytes at every run, the truth beside the video, and recipes that are wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import numpy as np
import pytest

from avatar_models.heads.procedural import procedural_head
from pipelines.cache import Cache, Entry
from pipelines.fanout import Item
from pipelines.keys import digest
from pipelines.sources import SourceError, VideoClip
from pipelines.sources.procedural import VIDEOS, FilmPerson, Shot, list_people, read_recipe

ROLE = {"name": "eva", "seed": 2, "seconds": 0.4, "fps": 25.0, "size": 128}


def filmed(cache: Path, size: int = 128) -> Entry:
    store = Cache(str(cache))
    writer = store.writer("a" * 64)
    summary = FilmPerson({})(Item("eva", "0" * 64, {"role": {**ROLE, "size": size}}), None, writer)
    writer.commit(summary, 0.0)
    entry = store.find("a" * 64)
    assert isinstance(entry, Entry)
    return entry


# x264's mb-tree reads stale memory at most sides that are no multiple of 128, so 96 shows whether it is off.
@pytest.mark.parametrize("size", [128, 96])
def test_two_runs_write_the_same_bytes(tmp_path: Path, size: int) -> None:
    first, second, third = (filmed(tmp_path / run, size) for run in ("one", "two", "three"))
    for name in ("truth.npz", "video.mp4"):
        assert first.read_bytes(name) == second.read_bytes(name) == third.read_bytes(name)


def test_the_truth_fits_the_video(tmp_path: Path) -> None:
    first = filmed(tmp_path)
    with av.open(io.BytesIO(first.read_bytes("video.mp4"))) as video:
        pictures = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert [picture.shape for picture in pictures] == [(128, 128, 3)] * 10
    truth = np.load(io.BytesIO(first.read_bytes("truth.npz")))
    assert truth["viewmat"].shape == (10, 4, 4) and truth["K"].shape == (3, 3)
    assert truth["expression"].shape == (10, procedural_head().num_expression)
    assert [truth[name].shape for name in ("neck", "jaw", "eyes")] == [(10, 3), (10, 3), (10, 6)]

    # the vertices of the truth, seen by its camera, lie where the picture is not wall
    camera = truth["vertices"][0] @ truth["viewmat"][0, :3, :3].T + truth["viewmat"][0, :3, 3]
    pixels = camera @ truth["K"].T
    column, row = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).clip(0, 127).T
    wall = pictures[0][2:12, 2:12].reshape(-1, 3).mean(0)
    away = np.abs(pictures[0][row, column].astype(float) - wall).max(1)
    assert np.mean(away > 12) > 0.9


def test_the_demo_recipe_reads() -> None:
    roles = read_recipe(Path(__file__).parents[3] / "demo" / "people.yaml")
    assert len(roles) == 3 and len({role.seed for role in roles}) == 3


def recipe(tmp_path: Path, **more: int) -> list[Shot]:
    path = tmp_path / "people.yaml"
    path.write_text(json.dumps({"people": [{**ROLE, **more}]}))
    return [shot for role in read_recipe(path) for shot in role.shots()]


def test_the_only_video_of_a_person_has_the_key_that_it_had_before_there_were_others(tmp_path: Path) -> None:
    (shot,) = recipe(tmp_path)
    assert shot.fingerprint == digest(ROLE) and shot.clip() == VideoClip("eva", "eva", "cam0", VIDEOS / "eva.mp4")


def test_several_cameras_film_each_performance_and_are_known(tmp_path: Path) -> None:
    shots = recipe(tmp_path, cameras=3, sequences=2)
    clips = [shot.clip() for shot in shots]
    assert [clip.clip_id for clip in clips] == [f"eva-s{s}-cam{c}" for s in range(2) for c in range(3)]
    assert {clip.subject_id for clip in clips} == {"eva"} and [clip.sequence for clip in clips] == ["s0"] * 3 + ["s1"] * 3
    assert len({shot.fingerprint for shot in shots}) == 6 and all(clip.known_camera for clip in clips)
    assert [clip.clip_id for clip in list_people(tmp_path / "people.yaml").clips] == [clip.clip_id for clip in clips]


def test_known_cameras_see_the_head_where_the_truth_has_it(tmp_path: Path) -> None:
    """From each camera the head has the same pose in the world, and the pictures show it there."""
    cache, poses = Cache(str(tmp_path / "cache")), []
    for shot in recipe(tmp_path, cameras=3, sequences=2)[3:5]:
        writer = cache.writer(shot.fingerprint)
        writer.commit(FilmPerson({})(Item(shot.name, "", shot.payload), None, writer), 0.0)
        entry, known = cache.find(shot.fingerprint), shot.clip().known_camera
        assert isinstance(entry, Entry) and known is not None
        truth = np.load(io.BytesIO(entry.read_bytes("truth.npz")))
        np.testing.assert_allclose(np.reshape(known.K, (3, 3)), truth["K"])
        poses.append(np.linalg.inv(np.reshape(known.viewmat, (4, 4))) @ truth["viewmat"])
        with av.open(io.BytesIO(entry.read_bytes("video.mp4"))) as video:
            picture = next(video.decode(video=0)).to_ndarray(format="rgb24").astype(float)
        pixels = (truth["vertices"][0] @ truth["viewmat"][0, :3, :3].T + truth["viewmat"][0, :3, 3]) @ truth["K"].T
        column, row = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).clip(0, 127).T
        assert np.mean(np.abs(picture[row, column] - picture[2:12, 2:12].reshape(-1, 3).mean(0)).max(1) > 12) > 0.9
    np.testing.assert_allclose(poses[0], poses[1], atol=1e-12)
    first = np.load(io.BytesIO(filmed(tmp_path / "single").read_bytes("truth.npz")))
    assert not np.allclose(first["expression"], truth["expression"])  # another performance


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("people: [{name: ada, seed: 1}]", "'people.0.seconds' is missing"),
        ("persons: []", "people"),
        ("people: [{name: a, seed: 1, seconds: 0.01, fps: 25, size: 96}]", "two are needed"),
        (
            "people: [{name: a, seed: 1, seconds: 1, fps: 25, size: 96, cameras: 2}, "
            "{name: a-s0-cam0, seed: 1, seconds: 1, fps: 25, size: 96}]",
            "differ",
        ),
        ("people: [{name: a, seed: 1, seconds: 1, fps: 25, size: 96, cameras: 0}]", "cameras"),
        ("people: [" + 2 * "{name: a, seed: 1, seconds: 1, fps: 25, size: 96}, " + "]", "differ"),
    ],
)
def test_a_wrong_recipe_is_named(tmp_path: Path, text: str, says: str) -> None:
    recipe = tmp_path / "people.yaml"
    recipe.write_text(text)
    with pytest.raises(SourceError, match=says) as caught:
        read_recipe(recipe)
    assert str(recipe) in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.yaml"):
        read_recipe(tmp_path / "none.yaml")
