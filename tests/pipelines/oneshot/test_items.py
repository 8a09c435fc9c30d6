"""What train_oneshot reads beside the tables, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipelines.oneshot.items import say_what_is_off, weights_of
from pipelines.params import Params, ParamsError, Source, TrainOneshot


def params(**train: object) -> Params:
    return Params(source=Source(kind="folder", path="a", watch="a"), train_oneshot=TrainOneshot.model_validate(train))


def test_a_model_to_start_from_is_there_and_is_not_what_the_stage_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("models/oneshot", "models/first"):
        (tmp_path / name).mkdir(parents=True)
        for file in ("model.safetensors", "model.json"):
            (tmp_path / name / file).write_text(name)
    for same in ("models/oneshot", "./models/../models/oneshot/", str(tmp_path / "models/oneshot")):
        with pytest.raises(ValidationError, match=r"is what this stage makes.*cp -r models/oneshot models/first"):
            params(start_from=same)
    say_what_is_off(params(start_from="models/first"))
    assert "starts from models/first, whose sizes, variant and vertices stay" in capsys.readouterr().out
    assert set(weights_of(params(start_from="models/first"))) >= {"model.safetensors", "model.json"}
    with pytest.raises(ParamsError, match=r"start_from: models/second/model.safetensors is not there"):
        weights_of(params(start_from="models/second"))
