"""The one-shot model's table of ablations: which rows there are, and how a trained model is judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avatar_models.gagavatar.sizes import VARIANTS
from avatar_models.gagavatar.storage import model_files
from pipelines.cache import Cache, Entry
from pipelines.fanout import Item, ItemRejected
from pipelines.oneshot.ablation import PRESETS, judge_step, judged_items, means_of, with_preset
from pipelines.params import Evaluate, Params, Source, TrainOneshot
from tests.avatar_models.gagavatar.tiny import TINY, tiny
from tests.in_process import do_all


def params(**train: object) -> Params:
    return Params(source=Source(kind="folder", path="a", watch="a"), train_oneshot=TrainOneshot(**train))


def test_every_variant_is_a_row_and_the_method_comes_after_its_ablations() -> None:
    assert {preset.changes["variant"] for preset in PRESETS.values() if "variant" in preset.changes} == set(VARIANTS)
    assert list(PRESETS)[-2:] == ["no_photo_colors", "full"]


def test_a_row_changes_what_it_says_and_the_rest_stays() -> None:
    own = params(steps=700, variant="one_plane", batch=3)
    changed = with_preset(own, "no_lifting_loss", steps=50).train_oneshot
    assert (changed.variant, changed.lambda_lifting, changed.steps, changed.batch) == ("full", 0.0, 50, 3)
    assert with_preset(own, "no_renderer").train_oneshot == own.train_oneshot.model_copy(update={"variant": "no_renderer"})


@pytest.fixture
def trained(tmp_path: Path) -> Entry:
    """A model in the cache."""
    cache = Cache(str(tmp_path / "cache"))
    out = cache.writer("2" * 64)
    for name, data in model_files(tiny(), torch.arange(TINY.num_vertices), {"head": "procedural", "head_hash": ""}).items():
        out.write_bytes(name, data)
    out.commit({}, 0.0)
    entry = cache.find("2" * 64)
    assert isinstance(entry, Entry)
    return entry


def test_a_trained_model_is_judged_on_each_test_subject_by_itself(
    people: Path, trained: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(people)
    own = params(test_subjects={"names": ["bob", "cleo"]}).model_copy(update={"evaluate": Evaluate(max_frames=2)})
    step, items = judge_step(own, trained), judged_items(own, trained)
    assert [item.id for item in items] == ["bob", "cleo"]
    found = do_all("ablate_oneshot", [step], items, tmp_path / "cache")
    bob, cleo = (found.last(item.id).summary for item in items)
    assert bob["psnr"] > 0 and cleo["psnr"] != bob["psnr"] and bob["no_face_made"] == 2  # an untrained model draws no face
    work, out = step.worker(step.params), Cache(str(tmp_path / "cache")).writer("3" * 64)
    with pytest.raises(ItemRejected, match="nobody: no clip of it has two good frames"):
        work(Item("nobody", "0"), None, out)


def test_a_subjects_item_follows_from_the_model_and_from_its_own_clips(people: Path, trained: Entry) -> None:
    alone, both = (params(test_subjects={"names": names}) for names in (["bob"], ["bob", "cleo"]))
    bob, cleo = judged_items(both, trained, people)
    assert judged_items(alone, trained, people) == [bob] and bob.fingerprint != cleo.fingerprint
    files = {name: {**file, "sha256": "0" * 64} for name, file in trained.files.items()}
    assert judged_items(alone, replace(trained, files=files), people) != [bob]


def test_means_are_of_the_figures_that_all_of_the_subjects_have() -> None:
    figures: dict[str, dict[str, float | None]] = {
        "ann": {"psnr": 20.0, "akd": None},
        "bob": {"psnr": 22.0, "akd": 1.0},
        "cid": {"psnr": 30.0, "akd": 3.0},
    }
    assert means_of(figures, ["ann", "bob"]) == {"psnr": 21.0}
    assert means_of(figures, ["bob", "cid"]) == {"psnr": 26.0, "akd": 2.0}
