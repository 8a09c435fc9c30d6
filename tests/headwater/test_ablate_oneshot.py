"""`headwater ablate-oneshot`: the table that is printed, and what is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from headwater.ablate import AblationError
from headwater.ablate_oneshot import Row, ablate_oneshot, one_row, show_table
from pipelines.cache import Cache, Failure
from pipelines.fanout.item import chain_keys
from pipelines.oneshot.items import MODEL, model_item, model_step
from pipelines.params import Params, Source, TrainOneshot
from tests.headwater.test_ablate import STRICT, Recorder
from tests.pipelines.oneshot.made import write_people


def params(**train: object) -> Params:
    return Params(source=Source(kind="folder", path="a", watch="a"), train_oneshot=TrainOneshot(**train))


def test_the_table_is_in_the_papers_layout_with_the_papers_figures(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        Row("one_plane", {"ann": {"psnr": 20.111, "ssim": 0.7, "akd": 2.5, "no_face_made": 0.0}}, "http://x/1"),
        Row("no_renderer", lost="diverged"),
        Row("full", {"ann": {"psnr": 21.5, "ssim": 0.8, "akd": None}}, "http://x/2"),
    ]
    show_table(rows, Console(width=130))
    shown = capsys.readouterr().out
    one_plane = next(line for line in shown.splitlines() if "one-plane lifting" in line)
    assert "20.11" in one_plane and "0.700" in one_plane and "21.34" in one_plane and "0.158" in one_plane
    assert "AKD" not in shown  # not every row has it
    assert "w/o neural renderer has no row: diverged." in shown and "with photo's colours: http://x/2" in shown
    assert "The paper's method is the row GAGAvatar; the ablations above it have the photo's colours too." in shown


def test_means_are_over_the_test_subjects_that_all_rows_have(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        Row("one_plane", {"ann": {"psnr": 20.0}}, left_out={"bob": "timeout"}),
        Row("full", {"ann": {"psnr": 21.0}, "bob": {"psnr": 35.0}}),
    ]
    show_table(rows, Console(width=130))
    shown = capsys.readouterr().out
    assert "21.00" in next(line for line in shown.splitlines() if "with photo's colours" in line)
    assert "bob is left out of the means (one-plane lifting: timeout)." in shown
    show_table([rows[0], Row("full", {"bob": {"psnr": 35.0}})], Console(width=130))
    assert "There are no means: no test subject is in all rows." in capsys.readouterr().out


def test_a_row_that_failed_is_told_however_few_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_people(tmp_path / "project"))
    compute = STRICT.model_copy(update={"cache": str(tmp_path / "cache")})
    strict = params(steps=40).model_copy(update={"compute": compute})
    (key,) = chain_keys([model_step(strict)], model_item(strict))
    Cache(compute.cache).remember_failure(key, Failure("ablate_oneshot", MODEL, 1, "diverged", "Diverged", "at 3", ""))
    assert one_row("full", strict, Recorder(), None) == Row("full", lost="diverged")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "why"),
    [({"steps": 0}, "say how long each row is trained"), ({"steps": 5, "start_from": "models/a"}, "names a model")],
)
def test_what_makes_no_table_is_said_at_once(monkeypatch: pytest.MonkeyPatch, options: dict[str, object], why: str) -> None:
    monkeypatch.setattr("headwater.ablate_oneshot.load_params", lambda: params(**options))
    with pytest.raises(AblationError, match=why):
        ablate_oneshot(0, Console())
