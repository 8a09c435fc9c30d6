"""A training that dies on the way."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.cache import EntryWriter
from pipelines.fleet.run import Run
from pipelines.fleet.trainer import train_here
from pipelines.params import Fleet


class Cut(Exception):
    pass


def train_until_cut(run: Run, out: EntryWriter, step: int) -> None:
    """Trains a run that dies in the step after so many."""
    training: Any = run.training
    one_step = training.one_step

    def one_step_or_cut(*arguments: object) -> object:
        if training.step == step:
            raise Cut
        return one_step(*arguments)

    training.one_step = one_step_or_cut
    with pytest.raises(Cut):
        train_here(run, out, Fleet())
