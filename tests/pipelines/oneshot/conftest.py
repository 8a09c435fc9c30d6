"""A project of made-up people, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.oneshot.made import tiny_model, write_people

__all__ = ["tiny_model"]


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people"))
