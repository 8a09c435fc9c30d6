"""What a stage that trains one model leaves in the project, and says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import tables
from pipelines.cache import Cache
from pipelines.fleet.outs import ModelOuts

CURVE = [{"step": 10.0, "loss": 0.5}, {"step": 20.0, "loss": 0.25}]


def result(tmp_path: Path, **summary: Any) -> Any:
    """A fan-out with one model, or without any."""
    cache = Cache(str(tmp_path / "cache"))
    writer = cache.writer("0" * 64)
    writer.write_bytes("model.json", b"{}")
    writer.write_bytes("curve.json", json.dumps(CURVE).encode())
    writer.commit(summary, 1.0)
    entries = {"model": cache.find("0" * 64)} if summary else {}
    return SimpleNamespace(entries=entries, last=entries.get, quarantine_table=tables.QUARANTINE.empty_table)


def test_a_model_its_figures_and_its_curve_are_written_and_the_figures_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = ModelOuts(tmp_path / "models" / "one", tmp_path / "metrics" / "one.json", tmp_path / "plots" / "one.csv")
    found = outs.write(result(tmp_path, steps=20, held_out_psnr=24.123456, people=["ada"]), ("model.json",))
    assert found == CURVE and (outs.model / "model.json").read_bytes() == b"{}"
    assert json.loads(outs.metrics.read_text()) == {"held_out_psnr": 24.123456, "people": ["ada"], "steps": 20}
    assert len(outs.curve.read_text().splitlines()) == 3
    assert f"{outs.model}: held_out_psnr 24.123, steps 20\n" == capsys.readouterr().out
    assert outs.write(result(tmp_path), ("model.json",)) == [] and json.loads(outs.metrics.read_text()) == {}
    assert capsys.readouterr().out == ""
