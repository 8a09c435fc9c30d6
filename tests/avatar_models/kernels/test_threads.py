"""The kernels' thread team: all work is done once, in forked and spawned processes too, and nothing outlives the program."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
import weakref
from typing import Any

import numba
import numpy as np
import pytest

from avatar_models.kernels import threads
from avatar_models.kernels.lanes import fetch_add
from avatar_models.kernels.threads import run, scratch_floats


@numba.njit(nogil=True)
def count(claims: Any, counts: Any) -> None:
    while True:
        piece = fetch_add(claims, 0, 1)
        if piece >= len(counts):
            break
        counts[piece] += 1
        fetch_add(claims, 8, 1)


def counted(pieces: int, team: int) -> np.ndarray:
    counts = np.zeros(pieces, np.int64)
    run(count, pieces, team, counts)
    return counts


@pytest.mark.parametrize("team", [1, 2, 5])
@pytest.mark.parametrize("pieces", [0, 1, 7, 5000])
def test_every_piece_is_done_once(pieces: int, team: int) -> None:
    assert (counted(pieces, team) == 1).all()


def test_a_kernel_that_cannot_run_tells_its_caller_and_harms_no_helper() -> None:
    counted(10, 3)

    def broken(claims: np.ndarray) -> None:
        raise ArithmeticError("no such kernel")

    for _ in range(5):
        with pytest.raises(ArithmeticError, match="no such kernel"):
            run(broken, 10, 3)
    assert all(member.is_alive() for member in threads._team.members)
    assert (counted(1000, 3) == 1).all()


def test_a_helper_that_waits_holds_no_arrays() -> None:
    counts = np.zeros(100, np.int64)
    run(count, 100, 3, counts)
    watched = weakref.ref(counts)
    del counts
    for _ in range(100):
        if watched() is None:
            return
        time.sleep(0.01)  # a helper may still be on its way back from the kernel
    raise AssertionError("the array is alive a second after its last use")


def _in_child() -> None:
    assert (counted(100, 3) == 1).all()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_processes_have_a_team_of_their_own(method: str) -> None:
    counted(10, 3)  # the parent's team exists before the fork
    child = multiprocessing.get_context(method).Process(target=_in_child)
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_scratch_is_aligned_and_kept() -> None:
    first = scratch_floats(100)
    assert first.ctypes.data % 64 == 0 and scratch_floats(50) is first and len(scratch_floats(200)) >= 200


def test_no_thread_is_left_when_the_interpreter_ends() -> None:
    program = """
import atexit, threading
atexit.register(lambda: print([t.name for t in threading.enumerate() if t.name.startswith("kernels")]))  # runs last
from tests.avatar_models.kernels.test_threads import counted
counted(100, 4)
print([t.name for t in threading.enumerate() if t.name.startswith("kernels")])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['kernels-0', 'kernels-1', 'kernels-2']", "[]"]
