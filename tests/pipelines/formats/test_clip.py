"""A clip leaves the tables with the frames that passed, and is turned to one camera without moving a point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from avatar_models.heads.procedural import procedural_head
from avatar_models.people import film, make_person, perform
from pipelines.formats.clip import centred, head_only, over, tracked_clip
from pipelines.formats.fields import FormatError
from pipelines.subject import UnknownSegment, read_tables
from tests.pipelines.formats.made import BAD, FRAMES, SIDE, made_clip, pictures, seen, write_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    write_project(root)
    return root


def test_frames_that_passed_come_with_their_pictures(project: Path) -> None:
    clip, head, shots = tracked_clip(read_tables(project), "ann", test_fraction=0.2)
    kept = [row for row in range(FRAMES) if row != BAD]
    assert clip.frames.tolist() == made_clip().frames[kept].tolist()
    assert clip.held_out.tolist() == [row >= 8 for row in kept]
    assert np.allclose(seen(clip), seen(made_clip())[kept], atol=1e-3)
    assert head.hash() == procedural_head().hash() and clip.expression_names == head.expression_names
    assert np.allclose(clip.expression, made_clip().expression[kept]) and (clip.width, clip.height) == (SIDE, SIDE)
    assert all((shot.image == pictures()[row].image).all() for shot, row in zip(shots, kept, strict=True))


@pytest.mark.parametrize(
    ("name", "says"),
    [("anne", "no tracked clip 'anne'. Did you mean 'ann'"), ("bob", r"did not pass \(jitter 0.4 > 0.2\); preprocess.gates")],
)
def test_a_clip_that_cannot_be_had_is_named_with_the_way_out(project: Path, name: str, says: str) -> None:
    with pytest.raises((FormatError, UnknownSegment), match=says):
        tracked_clip(read_tables(project), name, 0.2)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("head", "flume", "was tracked with the head 'flume', data/tracks/head.npz is 'procedural'; run `dvc repro`"),
        ("expression", [0.0, 1.0], "has 26 identity and 2 expression coefficients, the head procedural here has 26 and 31"),
    ],
)
def test_a_head_that_is_not_here_is_told(project: Path, column: str, value: object, says: str) -> None:
    data = read_tables(project)
    place = data.tracks.schema.get_field_index(column)
    field, values = data.tracks.schema.field(column), pa.array([value] * FRAMES, data.tracks.schema.field(column).type)
    with pytest.raises(FormatError, match=says):
        tracked_clip(replace(data, tracks=data.tracks.set_column(place, field, values)), "ann", 0.2)


def test_the_turned_camera_sees_what_it_would_have_filmed() -> None:
    clip = made_clip()
    found, shots = centred(clip, pictures())
    assert np.ptp(found.K, axis=0).max() == 0 and found.K[0, :2, 2].tolist() == [SIDE / 2, SIDE / 2]
    assert np.allclose(found.viewmat[:, :3, :3] @ found.viewmat[:, :3, :3].swapaxes(1, 2), np.eye(3), atol=1e-12)
    person, performance = make_person(4), perform(4, FRAMES, 8.0)
    for row, shot in enumerate(shots):  # the person filmed anew by the turned camera is the judge
        again = film(person, performance, row, SIDE, found.viewmat[row], found.K[row])
        inside = slice(14, -14)  # what a crop that was elsewhere did not see is left out
        wrong = np.abs(again.astype(float) - shot.image)[inside, inside].mean()
        unturned = np.abs(again.astype(float) - pictures()[row].image)[inside, inside].mean()
        assert wrong < 2.5 and (wrong < 0.5 * unturned or unturned < 3), row


def test_a_clip_that_is_centred_stays_as_it_is() -> None:
    clip, _ = centred(made_clip(), pictures())
    again, shots = centred(clip, pictures())
    assert np.allclose(again.viewmat, clip.viewmat, atol=1e-12)
    assert all((shot.image == own.image).all() for shot, own in zip(shots, pictures(), strict=True))


def test_the_matte_ends_at_the_neck() -> None:
    clip = made_clip()
    for row, shot in enumerate(head_only(clip, pictures())):
        x, y = seen(clip, np.array([[[0.0, 0.02, 0.07], [0.0, -0.19, 0.0]]]))[row].round().astype(int).T
        assert shot.matte[y[0], x[0]] == 255 and shot.matte[min(y[1] + 8, SIDE - 1) :].max() < 30
        assert (over(shot, 255)[-1] > 225).all()
