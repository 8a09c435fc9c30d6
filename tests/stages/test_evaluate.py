"""Whose expressions are shown on whose avatar."""

from __future__ import annotations

from itertools import islice

from stages.evaluate import cross_pairs


def test_three_people_give_all_six_pairs_neighbours_first() -> None:
    pairs = list(cross_pairs(["a", "b", "c"]))
    assert pairs == [("a", "b"), ("b", "c"), ("c", "a"), ("a", "c"), ("b", "a"), ("c", "b")]


def test_every_ordered_pair_comes_once_and_nobody_drives_himself() -> None:
    people = [f"p{n}" for n in range(7)]
    pairs = list(cross_pairs(people))
    assert len(pairs) == len(set(pairs)) == 7 * 6 and all(target != driver for target, driver in pairs)
    some = list(islice(cross_pairs(people), 16))  # two rounds, and two of the third
    for side in zip(*some, strict=True):
        assert {side.count(name) for name in people} == {2, 3}


def test_one_person_or_none_has_no_pair() -> None:
    assert list(cross_pairs(["a"])) == list(cross_pairs([])) == []
