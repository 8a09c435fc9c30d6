"""The one-shot model's table of ablations: which rows there are, and how a trained model is judged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatar_models.gagavatar.sizes import VARIANTS
from avatar_models.gagavatar.storage import model_files
from pipelines.cache import Cache, Entry
from pipelines.fanout import ItemRejected
from pipelines.oneshot.ablation import PRESETS, JudgeTrained, judge_step, judged_item, with_preset
from pipelines.params import Params, Source, TrainOneshot
from tests.avatar_models.gagavatar.tiny import TINY, tiny


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


def test_a_trained_model_is_judged_on_the_test_subjects(
    people: Path, trained: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(people)
    step = judge_step(params(test_subjects={"names": ["bob", "cleo"]}), trained, people)
    assert step.params["subjects"] == ["bob", "cleo"]
    out = Cache(str(tmp_path / "cache")).writer("3" * 64)

    def means(*subjects: str) -> dict[str, float]:
        return JudgeTrained({"max_frames": 2, "subjects": list(subjects)}, trained)(judged_item(trained), None, out)

    both, each = means("bob", "cleo"), (means("bob"), means("cleo"))
    assert both["psnr"] == pytest.approx((each[0]["psnr"] + each[1]["psnr"]) / 2, abs=1e-4)
    assert both["no_face_made"] == 2 and "akd" not in both  # an untrained model draws no face
    assert means("nobody", "bob") == each[0]
    with pytest.raises(ItemRejected, match="no test subject has a clip with two good frames"):
        means("nobody")
