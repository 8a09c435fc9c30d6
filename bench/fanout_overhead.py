"""What the fan-out itself costs: 15,204 items that do nothing, then all of them again from the cache.

python -m bench.fanout_overhead [ITEMS]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from pipelines.cache import Entry, EntryWriter
from pipelines.fanout import Item, Step, fan_out
from pipelines.params import Compute, Workers

VFHQ_CLIPS = 15_204


class DoNothing:
    def __init__(self, params: Mapping[str, Any]) -> None:
        pass

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        return {"number": item.payload["number"]}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else VFHQ_CLIPS
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        items = [Item(f"clip{number:06d}", str(number), {"number": number}, frames=150) for number in range(count)]
        step = Step("nothing", 1, DoNothing, {}, Workers(num_cpus=0.9))
        compute = Compute(cache=str(Path(scratch) / "cache"))
        driver = psutil.Process()
        import ray  # its import is part of any driver

        print(f"{count} items, {os.cpu_count()} cores, ray {ray.__version__}")
        for what in ("computed", "all cached"):
            before, start = driver.memory_info().rss, time.perf_counter()
            result = fan_out("nothing", [step], items, compute=compute)
            seconds, grown = time.perf_counter() - start, (driver.memory_info().rss - before) / 1e6
            print(f"{what}: {seconds:.1f} s with Ray's start, driver grew by {grown:.0f} MB; {result.summary_line()}")


if __name__ == "__main__":
    main()
