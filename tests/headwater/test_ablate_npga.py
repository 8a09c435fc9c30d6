"""`headwater ablate-npga`: the table that is printed, and what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from headwater.ablate import AblationError
from headwater.ablate_npga import Row, ablate_npga, one_row, show_table
from pipelines.cache import Failure
from pipelines.fanout import FanOutResult
from tests.headwater.test_ablate import Recorder, params


def test_the_table_has_columns_of_each_kind_and_says_who_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    frames = {("a", 0): {"psnr": 25.0, "ssim": 0.9}, ("b", 0): {"psnr": 23.0, "ssim": 0.8}}
    rows = [Row("full", {"ann": frames}, {"ann": "http://x/1"}), Row("headgas", {"ann": frames}, lost={"bob": "diverged"})]
    show_table(rows, {"a": "new camera", "b": "new sequence"}, Console(width=120))
    shown = capsys.readouterr().out
    lines = [line.replace("│", " ").split() for line in shown.splitlines() if line.strip(" │").startswith("NPGA ")]
    assert lines[:2] == [["NPGA", "25.00", "0.9000"], ["NPGA", "23.00", "0.8000", "30.65"]]
    assert "HeadGaS has no avatar of bob, who is in no mean: diverged." in shown and "NPGA ann: http://x/1" in shown


def test_a_row_that_failed_is_told_however_few_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    result = FanOutResult("ablate_npga", [], quarantined=[Failure("ablate_npga", "ann", 1, "diverged", "Diverged", "at 3", "")])
    asked: dict[str, object] = {}

    def fan_out(*_: object, **options: object) -> object:
        asked.update(options)
        return result, {}

    monkeypatch.setattr("headwater.ablate_npga.steps_of", lambda *_: [])
    monkeypatch.setattr("headwater.ablate_npga.run_and_assemble", fan_out)
    assert one_row("full", params(), [], {}, Recorder(), None) == Row("full", {}, lost={"ann": "diverged"})  # type: ignore[arg-type]
    assert asked["may_all_fail"] and asked["compute"].max_quarantined == 1.0  # type: ignore[attr-defined]


def test_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("headwater.ablate_npga.load_params", params)
    with pytest.raises(AblationError, match="train_npga.steps is 0"):
        ablate_npga([], 0, Console())
    with pytest.raises(AblationError, match="no subject has a neural head"):
        ablate_npga([], 10, Console())
