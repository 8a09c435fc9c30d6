"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# One thread each: tests run beside Ray workers, and results must not depend on the number of threads.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def gpu() -> Iterator[str]:
    """The name of a device that is pretended: what CUDA would refuse is refused, and the CPU computes."""
    from tests.pretended_gpu import PretendedGpu  # torch and the kernels, which few tests need

    with PretendedGpu():
        yield "cuda"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real clips and photos that lie beside the repository on some machines; they are never part of it."""
    folder = ROOT.parent / "shared"
    if not (folder / "clips").is_dir():
        pytest.skip(f"real clips are not here: {folder / 'clips'} does not exist")
    return folder
