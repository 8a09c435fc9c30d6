"""What a step sees follows from its number, whoever works on it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipelines.fleet.loop import Place
from pipelines.oneshot.pairs import frames_of
from pipelines.oneshot.stream import pair, pairs_of
from pipelines.subject import read_tables
from tests.pipelines.oneshot.made import FRAMES, PEOPLE


@pytest.fixture(scope="module")
def frames(people: Path):  # type: ignore[no-untyped-def]
    data = read_tables(people)
    return frames_of(data, list(PEOPLE))


def test_every_frame_is_a_target_once_in_each_epoch(frames) -> None:  # type: ignore[no-untyped-def]
    count = len(PEOPLE) * FRAMES - 1
    assert len(frames) == count
    for epoch in range(3):
        targets = [pair(sample, frames, seed=7)[1] for sample in range(epoch * count, (epoch + 1) * count)]
        assert sorted(targets) == list(range(count))


def test_epochs_differ_in_order_and_seeds_do(frames) -> None:  # type: ignore[no-untyped-def]
    orders = [tuple(pair(15 * epoch + k, frames, seed)[1] for k in range(15)) for epoch in (0, 1) for seed in (0, 1)]
    assert len(set(orders)) == 4


def test_a_photo_is_any_other_good_frame_of_the_targets_clip(frames) -> None:  # type: ignore[no-untyped-def]
    seen = Counter(pair(sample, frames, seed=0) for sample in range(3000))
    for photo, target in seen:
        assert photo != target and frames.clip[photo] == frames.clip[target]
    assert len(seen) == 3 * 2 + 3 * (4 * 3)  # of ann's three good frames, and the others' four, all pairs


def test_a_run_that_goes_on_with_other_workers_sees_what_was_left(frames) -> None:  # type: ignore[no-untyped-def]
    whole = [some for some in pairs_of(range(6), 4, frames, 0)]
    before = [some for some in pairs_of(range(2), 4, frames, 0)]
    after = list(zip(*(pairs_of(range(2, 6), 4, frames, 0, Place(rank, 2)) for rank in range(2)), strict=True))
    assert before == whole[:2]
    for some, (first, second) in zip(whole[2:], after, strict=True):
        assert sorted(some) == sorted([*first, *second])
