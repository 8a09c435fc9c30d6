"""A small team of threads that run one kernel together.

A kernel claims pieces of its work by an atomic counter until none is left, so whoever comes first does more, and the
caller waits only for pieces that somebody has begun: a helper that is late finds nothing to do and harms nobody. There is
no OpenMP here: numba's would load a second copy beside torch's, and the two stall each other.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import numpy as np

from avatar_models.kernels.lanes import fetch_add, jit

SPINS = 20_000
"""Looks at the counter before giving way to other threads: about 0.1 ms."""

Job = Callable[[], None]


class _Team:
    """Threads that take jobs from one queue. Grows to what was asked for."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.members: list[threading.Thread] = []
        self.lock = threading.Lock()

    def send(self, job: Job, helpers: int) -> None:
        if len(self.members) < helpers:
            with self.lock:
                while len(self.members) < helpers:
                    member = threading.Thread(target=self._serve, daemon=True, name=f"kernels-{len(self.members)}")
                    member.start()
                    self.members.append(member)
        for _ in range(helpers):
            self.jobs.put(job)

    def dismiss(self) -> None:
        """Lets every member finish. One that comes back from a kernel into a dying interpreter would abort the process."""
        for _ in self.members:
            self.jobs.put(None)
        for member in self.members:
            member.join()

    def _serve(self) -> None:
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        """Does a job and forgets it, since it holds on to its arrays. A kernel that cannot run tells its caller so."""
        job = self.jobs.get()
        if job is None:
            return False
        with suppress(Exception):
            job()
        return True


_team = _Team()


def _new_team() -> None:
    global _team
    _team = _Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_team)  # the parent's threads are not there
atexit.register(lambda: _team.dismiss())


@jit
def _done(claims: Any, pieces: int, spins: int) -> bool:
    for _ in range(spins):  # noqa: SIM110
        if fetch_add(claims, 8, 0) >= pieces:
            return True
    return False


def run(kernel: Callable[..., None], pieces: int, threads: int, *arguments: Any, scratch: int | None = None) -> None:
    """Runs kernel(claims, [scratch,] *arguments) until all pieces are done, on up to `threads` threads.

    `scratch` is how many float32 each thread needs for itself; they are reused from call to call.
    """
    if pieces == 0:
        return
    claims = np.zeros(16, np.int64)  # pieces claimed at 0, pieces done at 8: on two cache lines

    def work() -> None:
        if scratch is None:
            kernel(claims, *arguments)
        else:
            kernel(claims, scratch_floats(scratch), *arguments)

    helpers = min(threads, pieces) - 1
    if helpers > 0:
        _team.send(work, helpers)
    work()
    if helpers > 0:
        while not _done(claims, pieces, SPINS):
            time.sleep(0)


class _Scratch(threading.local):
    """Each thread's own scratch, kept between calls and grown to the largest size asked for."""

    def __init__(self) -> None:
        self.floats = np.empty(0, np.float32)


_scratch = _Scratch()


def scratch_floats(size: int) -> np.ndarray:
    """At least `size` float32 of the calling thread's scratch, on a cache line's boundary. Overwritten by the next call."""
    if len(_scratch.floats) < size:
        raw = np.empty(4 * size + 64, np.uint8)
        start = -raw.ctypes.data % 64
        _scratch.floats = raw[start : start + 4 * size].view(np.float32)
    return _scratch.floats
