"""preprocess against a bare loop of the same decode, detect, matte and fit calls with as many processes.

    python -m bench.preprocess_throughput [HEAD [HEAD_FILE]] [--photometric]

Prints frames/s of both, and where a frame's time goes.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

from bench.workspace import real_clips
from pipelines.cache import Cache, Entry
from pipelines.catalog import catalog_table, probe_step, video_items
from pipelines.cluster import ray_cluster
from pipelines.cost import cost_of
from pipelines.fanout import Item, fan_out
from pipelines.heads import load_head
from pipelines.params import Params, Preprocess, Source
from pipelines.preprocess import clip_items, preprocess_steps
from pipelines.sources.folder import list_folder

PROCESSES = 2


def bare_loop(params: Params, items: list[Item], cache_uri: str) -> None:
    """The calls of both steps, one clip after the other, in this process."""
    observe, fit = preprocess_steps(params)
    look, solve = observe.worker(observe.params), fit.worker(fit.params)
    cache = Cache(cache_uri)
    for item in items:
        keys = [f"{step}-{item.id}" for step in ("observe", "fit")]
        writer = cache.writer(keys[0])
        writer.commit(look(item, None, writer), 0.0)
        seen = cache.find(keys[0])
        assert isinstance(seen, Entry)
        writer = cache.writer(keys[1])
        writer.commit(solve(item, seen, writer), 0.0)


def options() -> Preprocess:
    parser = argparse.ArgumentParser()
    parser.add_argument("head", nargs="?", default="procedural")
    parser.add_argument("head_file", nargs="?", default="")
    parser.add_argument("--photometric", action="store_true")
    given = parser.parse_args()
    file = str(Path(given.head_file).resolve()) if given.head_file else ""
    return Preprocess(head=given.head, head_file=file, fit_photometric=given.photometric)


def main() -> None:
    preprocess = options()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        folder = Path(scratch) / "videos"
        folder.mkdir()
        for clip in real_clips():
            (folder / clip.name).symlink_to(clip.resolve())
        params = Params(source=Source(kind="folder", path=str(folder), watch=str(folder)), preprocess=preprocess)
        load_head(preprocess.head, preprocess.head_file)  # a new file's embedding takes a minute, once
        catalog, _ = catalog_table(
            fan_out("catalog", [probe_step(params.compute)], video_items(list_folder(folder).clips), compute=params.compute)
        )
        items = clip_items(catalog, params.preprocess)
        frames = sum(item.frames for item in items)

        # The longest clips first, dealt out in turn: the fairest split that a bare loop can have.
        ordered = sorted(items, key=lambda item: -item.frames)
        start = time.perf_counter()
        workers = [
            multiprocessing.get_context("spawn").Process(
                target=bare_loop, args=(params, ordered[k::PROCESSES], f"{scratch}/bare")
            )
            for k in range(PROCESSES)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        bare = frames / (time.perf_counter() - start)

        with ray_cluster():
            start = time.perf_counter()
            result = fan_out("preprocess", preprocess_steps(params), items, compute=params.compute)
            ours = frames / (time.perf_counter() - start)
        print(f"{len(items)} clips, {frames} frames, {PROCESSES} processes")
        print(f"bare loop {bare:.1f} frames/s, preprocess {ours:.1f} frames/s (Ray running): {ours / bare:.0%}")
        for step, seconds in cost_of(result).seconds_per_frame.items():
            print(f"{step}: {seconds * 1e3:.1f} ms a frame of one worker")


if __name__ == "__main__":
    main()
