"""The process that does items: one worker of one step, inside a Ray actor."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import time
import traceback as tb
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.atomic import DiskFull, full_disk_behind
from pipelines.cache import Cache, CacheUnusable, DamagedEntry, Entry
from pipelines.fanout.item import Item, ItemRejected, MachineUnfit, Report, Step, Work
from pipelines.news import News, Told

NO_GPU_IS_NONE = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


def worker_environment(num_cpus: float) -> dict[str, str]:
    """One thread per whole CPU of the process, so that processes side by side do not fight for cores; and no GPU but those
    that it has reserved: Ray by itself shows all of a machine's to who reserves none.
    """
    threads = str(max(1, int(num_cpus)))
    rest = {"OMP_WAIT_POLICY": "PASSIVE", "GLOG_minloglevel": "2", "TF_CPP_MIN_LOG_LEVEL": "3", NO_GPU_IS_NONE: "1"}
    return {**dict.fromkeys(THREAD_VARIABLES, threads), **rest}


class StepActor:
    """Does items of one step, one at a time. The worker is made at the first item, so that its errors are reports."""

    def __init__(self, step: Step, cache_uri: str, project: str) -> None:
        os.chdir(project)
        logging.getLogger("absl").setLevel(logging.ERROR)
        self.step = step
        self.cache = Cache(cache_uri)
        self.work: Work | None = None
        self.at_work: tuple[str, News] | None = None  # an item and what its worker tells

    def ready(self) -> bool:
        """Answers as soon as the process is there."""
        return True

    def news(self) -> Told | None:
        """What is new of the item at work. Called in a thread beside `run`'s."""
        at_work = self.at_work
        return at_work[1].take(at_work[0]) if at_work is not None else None

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
        except (DiskFull, CacheUnusable, MachineUnfit) as error:
            return _report("stop", error, start, str(error))
        except DamagedEntry as error:
            return _report("damaged" if error.key == upstream_key else "failed", error, start, _message(error))
        except Exception as error:
            if (full := full_disk_behind(error)) is not None:
                return _report("stop", full, start, str(full))
            return _report("failed", error, start, _message(error))

    def _do(self, item: Item, key: str, upstream_key: str | None, start: float) -> None:
        assert self.work is not None
        upstream: Entry | None = None
        if upstream_key is not None:
            found = self.cache.find(upstream_key)
            if not isinstance(found, Entry):
                raise DamagedEntry(upstream_key, "its manifest", "not to be seen by this worker")
            upstream = found
        writer = self.cache.writer(key)
        self.at_work = item.id, writer.news
        try:
            summary: Mapping[str, Any] = self.work(item, upstream, writer)
            writer.commit(summary, time.perf_counter() - start)
        except Exception:
            with suppress(Exception):  # what went wrong before is what matters
                writer.discard()
            raise
        finally:
            self.at_work = None


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
    """Leaves out what differs from run to run: addresses, process ids, temporary names, and where the code lies."""
    for folder in (Path(tb.__file__).parent, Path(sys.prefix), Path(__file__).resolve().parents[2]):
        text = text.replace(f"{folder}{os.sep}", "")
    text = re.sub(rf"{re.escape(tempfile.gettempdir())}/(tmp\w{{8}})\b", f"{tempfile.gettempdir()}/tmp...", text)
    text = re.sub(r"\b(pid|process)([ =:]+)\d+", r"\1\2...", text, flags=re.IGNORECASE)
    return re.sub(r"0x[0-9a-fA-F]{6,}", "0x...", text)
