"""Where compiled kernels are kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from avatar_models.kernels import cache_folder


def test_the_users_cache_folder_or_the_one_that_numba_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache_folder().parent == tmp_path / "home" / "headwater"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    assert cache_folder().parent == tmp_path / "numba" and cache_folder().is_dir()


def test_without_a_home_a_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no-home")
    folder = cache_folder()
    assert folder.is_relative_to(tempfile.gettempdir()) and folder.is_dir()
