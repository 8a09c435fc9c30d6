"""Who is kept out of training."""

from __future__ import annotations

import pytest
import yaml

from pipelines.oneshot.people import train_and_test
from pipelines.params import KeptOut, ParamsError
from tests.conftest import ROOT

NAMES = [f"person{k}" for k in range(20)]


def test_a_share_is_kept_out_and_nobody_is_on_both_sides() -> None:
    train, test = train_and_test(NAMES, KeptOut(share=0.2))
    assert len(test) == 4 and sorted(train + test) == sorted(NAMES)


def test_one_subject_more_moves_few() -> None:
    _, before = train_and_test(NAMES, KeptOut(share=0.2))
    _, after = train_and_test([*NAMES, "new"], KeptOut(share=0.2))
    assert len(set(before) - set(after)) <= 1


def test_of_two_one_is_kept_out_and_of_one_nobody() -> None:
    assert [len(side) for side in train_and_test(["a", "b"], KeptOut(share=0.2))] == [1, 1]
    assert train_and_test(["a"], KeptOut(share=0.2)) == (["a"], [])
    assert train_and_test(["a", "b"], KeptOut(share=0.0)) == (["a", "b"], [])


def test_of_vfhqs_people_the_clusters_profile_keeps_out_about_as_many_as_vfhq_does() -> None:
    profile = yaml.safe_load((ROOT / "profiles" / "cluster.yaml").read_text())
    share = KeptOut.model_validate(profile["train_oneshot"]["test_subjects"])
    _, test = train_and_test([f"video{k}-P0" for k in range(15204)], share)
    assert 50 <= len(test) <= 100


def test_names_take_the_place_of_a_share() -> None:
    assert train_and_test(["a", "b", "c"], KeptOut(names=["b"])) == (["a", "c"], ["b"])


def test_a_name_that_is_none_is_an_error_that_knows_the_nearest() -> None:
    with pytest.raises(ParamsError, match=r"no subject 'preson7'. Did you mean 'person7'\?"):
        train_and_test(NAMES, KeptOut(names=["preson7"]))


def test_somebody_must_be_left_to_train_on() -> None:
    with pytest.raises(ParamsError, match="keeps all 2 subjects out"):
        train_and_test(["a", "b"], KeptOut(names=["a", "b"]))
