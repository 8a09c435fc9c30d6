"""The kernels as a CPU without AVX gets them: compiled anew for plain x86-64, and still right."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from avatar_models.headgas.inference import InKernel
from tests.avatar_models.headgas.test_inference import test_colours_and_opacities_are_the_modules as appearances
from tests.avatar_models.splatting.test_gradients import test_pictures_and_gradients_match_the_reference as gradients
from tests.avatar_models.splatting.test_pictures import test_two_hundred_strange_scenes as pictures
pictures(20)
gradients(3, 4, True)
gradients(17, 0, False)
appearances(11, 3, InKernel)
print("right")
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names a CPU of the x86-64 family")
def test_a_cpu_without_avx_gets_the_same_pictures_and_gradients(tmp_path: Path) -> None:
    plain = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": "."}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env={**os.environ, **plain})
    assert done.stdout.strip() == "right", done.stderr
