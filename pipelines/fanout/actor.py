"""The process that does items: one worker of one step, inside a Ray actor."""

from __future__ import annotations

import errno
import logging
import os
import re
import time
import traceback as tb
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.atomic import DiskFull
from pipelines.cache import Cache, Entry
from pipelines.fanout.item import Item, ItemRejected, Report, Step, Work

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def thread_environment(num_cpus: float) -> dict[str, str]:
    """One thread per whole CPU of the actor, so that actors side by side do not fight for cores."""
    threads = str(max(1, int(num_cpus)))
    return {**dict.fromkeys(THREAD_VARIABLES, threads), "GLOG_minloglevel": "2", "TF_CPP_MIN_LOG_LEVEL": "3"}


class StepActor:
    """Does items of one step, one at a time. The worker is made at the first item, so that its errors are reports."""

    def __init__(self, step: Step, cache_uri: str, project: str) -> None:
        os.chdir(project)
        logging.getLogger("absl").setLevel(logging.ERROR)
        self.step = step
        self.cache = Cache(cache_uri)
        self.work: Work | None = None

    def ready(self) -> bool:
        """Answers as soon as the process is there."""
        return True

    def run(self, item: Item, key: str, upstream_key: str | None) -> Report:
        start = time.perf_counter()
        if self.work is None:
            try:
                self.work = self.step.worker(self.step.params)
            except Exception as error:
                return _report("stop", error, start, f"a worker of step {self.step.name} cannot start: {_message(error)}")
        try:
            self._do(item, key, upstream_key, start)
            return Report("done", time.perf_counter() - start)
        except ItemRejected as error:
            return Report("rejected", time.perf_counter() - start, error.reason, type(error).__name__, error.message)
        except DiskFull as error:
            return _report("stop", error, start, str(error))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                full = DiskFull.at(Path(error.filename or Path.cwd() / "."), None)
                return _report("stop", full, start, str(full))
            return _report("failed", error, start, _message(error))
        except Exception as error:
            return _report("failed", error, start, _message(error))

    def _do(self, item: Item, key: str, upstream_key: str | None, start: float) -> None:
        assert self.work is not None
        upstream: Entry | None = None
        if upstream_key is not None:
            found = self.cache.find(upstream_key)
            if not isinstance(found, Entry):
                raise RuntimeError(f"the entry {upstream_key[:12]} of the step before has vanished from the cache")
            upstream = found
        writer = self.cache.writer(key)
        summary: Mapping[str, Any] = self.work(item, upstream, writer)
        writer.commit(summary, time.perf_counter() - start)


def _report(status: Any, error: Exception, start: float, message: str) -> Report:
    seconds = time.perf_counter() - start
    return Report(status, seconds, _reason(error), type(error).__name__, message, _traceback(error))


def _reason(error: Exception) -> str:
    """The class of an error as one word: MemoryError -> out_of_memory, ValueError -> value_error."""
    if isinstance(error, MemoryError):
        return "out_of_memory"
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(error).__name__).lower()


def _message(error: Exception) -> str:
    return _without_places(f"{type(error).__name__}: {error}")


def _traceback(error: Exception) -> str:
    return _without_places("".join(tb.format_exception(error)))


def _without_places(text: str) -> str:
    """Leaves out what differs from run to run: addresses, and the folder the code lies in."""
    text = text.replace(f"{Path(__file__).resolve().parents[2]}{os.sep}", "")
    return re.sub(r"0x[0-9a-f]{6,}", "0x...", text)
