"""Whom evaluate_oneshot judges by."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatar_models.model_folder import FACTS, TENSORS, ModelError
from pipelines.params import ONESHOT_MODEL, Params, Source, TrainOneshot
from stages.evaluate_oneshot import items
from tests.pipelines.oneshot.made import write_people


def params(steps: int) -> Params:
    return Params(source=Source(kind="folder", path="a", watch="a"), train_oneshot=TrainOneshot(steps=steps))


def test_without_steps_there_is_nothing_to_judge_and_a_model_that_is_gone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert items(params(0)) == [] and "train_oneshot.steps is 0" in capsys.readouterr().out
    for name in (TENSORS, FACTS):
        with pytest.raises(ModelError, match=rf"{name}: not found. `dvc repro train_oneshot` makes it"):
            items(params(10))
        (ONESHOT_MODEL / name).parent.mkdir(parents=True, exist_ok=True)
        (ONESHOT_MODEL / name).touch()
    write_people(tmp_path)
    (alone,) = items(params(10))  # a fifth of four
    assert f"{alone.id} alone is kept out of training" in capsys.readouterr().out
