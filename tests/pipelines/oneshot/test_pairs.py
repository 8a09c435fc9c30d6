"""A batch of pairs is what the tables hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from avatar_models.cameras import project
from avatar_models.heads.procedural import procedural_head
from avatar_models.people import make_person, perform
from pipelines.fanout import ItemRejected
from pipelines.fleet.loader import read_ahead
from pipelines.oneshot.pairs import ColorJitter, Pairs, frames_of, head_box
from pipelines.oneshot.stream import pairs_of
from pipelines.params import KeptOut
from pipelines.subject import read_tables
from pipelines.tables import SchemaError
from tests.pipelines.oneshot.made import FRAMES, PEOPLE, SIDE, setup


def all_pairs(people: Path, size: int = SIDE) -> Pairs:
    own = setup(people, test_subjects=KeptOut(share=0.0))
    return Pairs(own.pairs.frames, own.data.frames, size)


def test_photo_and_target_are_the_frames_that_were_asked_for(people: Path, tiny_model: None) -> None:
    pairs = all_pairs(people)
    frames = pairs.frames
    bob = frames.clip_ids.index("bob")
    first = int(frames.first[bob])
    batch = pairs.batch([(first + 2, first), (first, first + 3)])
    performance = perform(PEOPLE["bob"], FRAMES, 8.0)
    torch.testing.assert_close(batch.wanted.expression.numpy(), performance.expression[[0, 3]].astype(np.float32))
    torch.testing.assert_close(batch.photos[1], pairs.batch([(first + 1, first)]).targets[0])
    assert torch.equal(batch.identity[0], torch.from_numpy(make_person(PEOPLE["bob"]).identity))


def test_pictures_lie_over_black_and_show_the_head_where_its_vertices_are(people: Path, tiny_model: None) -> None:
    pairs = all_pairs(people)
    batch = pairs.batch([(0, 1)])
    vertices = project(batch.vertices(procedural_head().rig), batch.views)[0]
    left, top, right, _ = batch.boxes[0].tolist()
    assert left <= vertices[:, 0].min() + 2 and vertices[:, 0].max() - 2 <= right and top <= vertices[:, 1].min() + 2
    assert batch.targets[0, :, 1, 1].tolist() == [0, 0, 0] and batch.targets[0].max() > 0.4
    assert batch.known.all()


def test_smaller_pictures_have_cameras_to_match(people: Path, tiny_model: None) -> None:
    batch, small = (all_pairs(people, size).batch([(0, 1)]) for size in (SIDE, SIDE // 2))
    assert small.targets.shape == (1, 3, SIDE // 2, SIDE // 2)
    head = procedural_head().rig
    torch.testing.assert_close(project(small.vertices(head), small.views) * 2, project(batch.vertices(head), batch.views))


def test_a_model_of_larger_pictures_than_are_stored_is_refused_with_what_helps(people: Path, tiny_model: None) -> None:
    with pytest.raises(ItemRejected, match=f"have {SIDE}: set preprocess.crop.side: {2 * SIDE}"):
        all_pairs(people, 2 * SIDE)


def test_a_track_that_is_no_number_is_told_with_its_clip(people: Path) -> None:
    data = read_tables(people)
    rows = data.tracks.to_pylist()
    row = next(row for row in rows if row["clip_id"] == "bob" and row["good"])
    row["viewmat"][3] = float("nan")
    spoilt = replace(data, tracks=pa.Table.from_pylist(rows, schema=data.tracks.schema))
    with pytest.raises(SchemaError, match="viewmat of clip bob is not finite in 1 good frames"):
        frames_of(spoilt, list(PEOPLE))
    assert len(frames_of(spoilt, ["cleo"])) == FRAMES


def test_the_box_is_the_mattes() -> None:
    matte = np.zeros((20, 20), np.uint8)
    assert head_box(matte).tolist() == [0, 0, 20, 20]
    matte[3:7, 10:15] = 255
    assert head_box(matte).tolist() == [10, 3, 15, 7]


def test_batches_come_in_order_however_many_threads_read(people: Path, tiny_model: None) -> None:
    pairs = all_pairs(people)
    wanted = list(pairs_of(range(9), 3, pairs.frames, 0))
    for threads in (1, 3):
        found = [batch.wanted.expression for batch in read_ahead(pairs.batch, iter(wanted), threads)]
        assert len(found) == 9
        for expression, some in zip(found, wanted, strict=True):
            assert torch.equal(expression, torch.from_numpy(pairs.frames.expression[[target for _, target in some]]))


def test_jitter_changes_the_colours_of_photo_and_target_alike_and_nothing_else(people: Path, tiny_model: None) -> None:
    plain = all_pairs(people)
    changed = Pairs(plain.frames, plain.reader, plain.size, ColorJitter(0.3, seed=5))
    wanted = [(0, 1), (0, 2)]
    before, after = plain.batch(wanted), changed.batch(wanted)
    gains = [torch.from_numpy(ColorJitter(0.3, seed=5).gains(pair)) for pair in wanted]
    for one, gain in enumerate(gains):
        assert bool((gain > 0.7 * 0.85).all()) and bool((gain < 1.3 * 1.15).all())
        torch.testing.assert_close(after.photos[one], (before.photos[one] * gain).clamp_max(1))
        torch.testing.assert_close(after.targets[one], (before.targets[one] * gain).clamp_max(1))
    assert not torch.equal(*gains) and torch.equal(after.wanted.expression, before.wanted.expression)
    assert torch.equal(after.photos, changed.batch(wanted).photos)


def test_tables_of_some_subjects_hold_their_tracks_alone(people: Path) -> None:
    whole, some = read_tables(people), read_tables(people, subjects=["bob", "dan"])
    assert set(some.tracks["clip_id"].to_pylist()) == set(some.identities["clip_id"].to_pylist()) == {"bob", "dan"}
    for name in ("frame", "K", "expression"):
        found, wanted = frames_of(some, ["bob"]), frames_of(whole, ["bob"])
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert some.segments.equals(whole.segments) and len(read_tables(people, subjects=()).tracks) == 0
