"""`headwater ablate`: which rows there are, what each changes, and the table that is printed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from avatar_models.headgas import VARIANTS
from headwater.ablate import AblationError, Row, ablate, chosen, one_row, show_table, wanted_rows
from headwater.ablate_npga import ablate_npga
from headwater.ablate_oneshot import ablate_oneshot
from pipelines.ablation import PRESETS, SHOWN, with_preset
from pipelines.cache import Failure
from pipelines.fanout import FanOutResult
from pipelines.params import Compute, Params, Source, TrainHeadgas
from pipelines.training_items import training_items
from tests.pipelines.formats.made import write_project

STRICT = Compute(max_quarantined=0.2)
"""What profiles/cluster.yaml says of failures."""


def params(**train: object) -> Params:
    return Params(source=Source(kind="folder", path="a", watch="a"), train_headgas=TrainHeadgas(**train), compute=STRICT)


def test_every_variant_is_a_row_and_the_method_comes_after_its_ablations() -> None:
    assert {preset.changes["variant"] for preset in PRESETS.values() if "variant" in preset.changes} == set(VARIANTS)
    assert list(PRESETS)[-2:] == ["full", "rigged"]


def test_a_row_changes_what_it_says_and_the_rest_stays() -> None:
    own = params(steps=700, lambda_perceptual=0.1, variant="no_mlp")
    changed = with_preset(own, "no_perceptual", steps=50).train_headgas
    assert (changed.variant, changed.lambda_perceptual, changed.steps) == ("full", 0.0, 50)
    assert with_preset(own, "change_all").train_headgas == own.train_headgas.model_copy(update={"variant": "change_all"})


def test_an_unknown_subject_is_named_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert (
        [item.id for item in chosen([], training_items())]
        == ["ann"]
        == [item.id for item in chosen(["ann", "ann"], training_items())]
    )
    with pytest.raises(AblationError, match="no tracked subject 'anna'. Did you mean 'ann'"):
        chosen(["anna"], training_items())


def test_rows_that_are_named_keep_the_tables_order_and_a_wrong_name_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wanted_rows(PRESETS, ["rigged", "no_mlp"]) == ["no_mlp", "rigged"]
    assert wanted_rows(PRESETS, []) == list(PRESETS)
    monkeypatch.chdir(tmp_path)
    for table in (partial(ablate, []), ablate_oneshot, partial(ablate_npga, [])):
        with pytest.raises(AblationError, match=r"no row is called 'ful'\. Did you mean 'full'\?"):
            table(0, Console(), rows_named=["ful"])


def test_the_table_is_in_the_papers_layout(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {
        subject: {"l2": l2, **{name: psnr if name.endswith("psnr") else 0.9 for name in SHOWN}}
        for subject, psnr, l2 in (("ann", 25.0, 0.003), ("bob", 27.0, 0.002))
    }
    rows = [Row("no_mlp", figures, {"ann": "http://x/1"}), Row("full", figures, {})]
    show_table(rows, Console(width=80), poses_corrected=True)
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if "2.50" in line]
    assert len(lines) == 2 and "w/o MLP" in lines[0] and "HeadGaS" in lines[1] and "26.00" in lines[1] and "32.50" in lines[1]
    assert "inside the matte" in shown and any("bob" in line and line.count("27.00") == 2 for line in shown.splitlines())
    assert "w/o MLP ann: http://x/1" in shown and "LPIPS" not in shown and "Poses are corrected in training" in shown


def test_lpips_has_columns_where_it_is_on(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"l2": 0.003, **dict.fromkeys(SHOWN, 25.0), "lpips": 0.1234, "aligned_lpips": 0.0987}
    show_table([Row("full", {"ann": figures}, {})], Console(width=200), poses_corrected=False)
    shown = capsys.readouterr().out
    assert "LPIPS" in shown and "aligned LPIPS" in shown and "0.1234" in shown and "0.0987" in shown
    assert "Poses" not in shown


class Recorder:
    """A run that keeps what is written to it and to its children."""

    id, experiment_id = "1", "2"

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.assets: dict[str, str] = {}

    @contextmanager
    def child(self, name: str, blocks: object) -> Iterator[Recorder]:
        yield self

    def set_tags(self, tags: dict[str, str]) -> None:
        self.tags |= tags

    def log_assets(self, assets: dict[str, str]) -> None:
        self.assets |= assets

    def log_metrics(self, figures: object) -> None: ...

    def log_params(self, block: object, prefix: str) -> None: ...

    def log_fan_out(self, result: object, prefix: str) -> None: ...


def test_each_run_tells_of_the_perceptual_loss_and_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    result = FanOutResult("ablate", [], entries={"ann": [SimpleNamespace(summary={"perceptual_loss": False})]})  # type: ignore[list-item]
    result.quarantined = [Failure("ablate", "bob", 2, "timeout", "TimeoutError", "too long", "")]
    asked: dict[str, object] = {}

    def fan_out(*_: object, **options: object) -> object:
        asked.update(options)
        return result, {"ann": {"psnr": 25.0}}

    monkeypatch.setattr("headwater.ablate.run_and_assemble", fan_out)
    run, own = Recorder(), params(lambda_perceptual=0.1, perceptual_weights="gone.pth")
    found = one_row("full", own, [], run, ["timeout"])  # type: ignore[arg-type]
    assert run.tags["headwater.perceptual_loss"] == "false" == run.tags["headwater.lpips"] and run.assets == {"vgg16": "absent"}
    assert found.lost == {"bob": "timeout"} and asked["retry"] == ["timeout"]
    assert asked["compute"] == STRICT.model_copy(update={"max_quarantined": 1.0})  # a row may be lost


def test_the_row_at_work_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @contextmanager
    def run(*words: object) -> Iterator[Recorder]:
        yield Recorder()

    monkeypatch.setattr("headwater.ablate.load_params", params)
    monkeypatch.setattr("headwater.ablate.training_items", lambda: [])
    monkeypatch.setattr("headwater.ablate.stage_run", run)
    monkeypatch.setattr("headwater.ablate.ray_cluster", run)
    monkeypatch.setattr("headwater.ablate.one_row", lambda name, *words: row(name, {"ann": 20.0}))
    ablate([], 0, Console(width=100))
    assert "row 2 of 6: delta mu, R" in capsys.readouterr().out


def row(name: str, psnr: dict[str, float], **lost: str) -> Row:
    return Row(name, {subject: {"l2": 0.003, **dict.fromkeys(SHOWN, value)} for subject, value in psnr.items()}, {}, lost)


def test_means_are_over_the_subjects_that_all_rows_have(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("no_mlp", {"ann": 20.0}, bob="diverged"), row("full", {"ann": 21.0, "bob": 35.0})]
    show_table(rows, Console(width=100), poses_corrected=False)
    shown = capsys.readouterr().out
    tracked = next(line for line in shown.splitlines() if "HeadGaS" in line and "32.50" in line)
    assert "21.00" in tracked and "28.00" not in tracked
    assert "bob is left out of the means, since not all rows have it (w/o MLP: diverged)." in shown
    assert any("bob" in line and "35.00" in line and "-" in line for line in shown.splitlines())


def test_a_row_without_any_subject_is_named_and_takes_no_subject_from_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([row("no_mlp", {}, ann="diverged"), row("full", {"ann": 21.0})], Console(width=100), poses_corrected=False)
    shown = capsys.readouterr().out
    assert "w/o MLP has no row, since it failed on every subject (ann: diverged)." in shown and "left out" not in shown
    assert any("HeadGaS" in line and "21.00" in line for line in shown.splitlines())


def test_rows_that_share_no_subject_have_no_means(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("no_mlp", {"ann": 20.0}, bob="diverged"), row("full", {"bob": 21.0}, ann="timeout")]
    show_table(rows, Console(width=100), poses_corrected=False)
    shown = capsys.readouterr().out
    assert "There are no means: no subject is in all rows." in shown and "20.00" in shown and "32.50" not in shown
