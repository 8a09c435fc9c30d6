"""Where the time of a training step goes: some steps in torch's profiler, as a trace and as a table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from pipelines.news import News

PASSED_OVER = 5
"""Steps before the first that is profiled: they allocate and choose algorithms."""
TRACE, TABLE = "profile.json.gz", "profile.txt"
ROWS = 30


@contextmanager
def profiled(steps: int, news: News) -> Iterator[Callable[[], None]]:
    """In the block, the function that is given is called after each step; after PASSED_OVER of them the next `steps` are
    profiled, and the news have the files TRACE (for Perfetto or chrome://tracing) and TABLE. None are for 0."""
    if steps == 0:
        yield lambda: None
        return
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    when = schedule(wait=PASSED_OVER - 1, warmup=1, active=steps, repeat=1)
    with profile(activities=activities, schedule=when, on_trace_ready=lambda found: tell(found, news)) as running:
        yield running.step


def tell(found: profile, news: News) -> None:
    """Tells a trace and the operations that took most time in it."""
    of_device = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    table = found.key_averages().table(sort_by=of_device, row_limit=ROWS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / TRACE
        found.export_chrome_trace(str(path))
        news.tell("some steps were profiled", files={TRACE: path.read_bytes(), TABLE: table.encode()})
