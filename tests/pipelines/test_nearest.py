"""A name that is not known gets the nearest one that is."""

from __future__ import annotations

from pipelines.nearest import NAMED, did_you_mean


def test_the_nearest_name_is_told_and_a_long_list_is_cut() -> None:
    assert did_you_mean("anne", ["ann", "bob"]) == "Did you mean 'ann'? There are: ann, bob"
    assert did_you_mean("xyz", ["ann"]).startswith("Did you mean 'ann'?")
    many = [f"clip{number:02d}" for number in range(NAMED + 5)]
    assert did_you_mean("clip24", many).endswith("clip19 and 5 more") and "'clip24'" in did_you_mean("clip24", many)
    assert did_you_mean("anne", [], "nobody is there") == "nobody is there"
