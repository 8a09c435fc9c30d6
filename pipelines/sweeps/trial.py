"""One trial: avatars of the sweep's subjects trained with the trial's values, and judged on frames that training never saw.

All subjects advance together, so that a figure on the way is one of the whole trial. Avatars are kept in the cache under
the train_headgas stage's own keys: `dvc repro` with the best values finds them there, and a trial that was killed goes on
from its last report, at which there is a checkpoint. What a trial reported is kept too; run again, it says the same without
training.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avatar_models.avatar import FACTS, TENSORS, AvatarError, load_avatar
from pipelines import tables
from pipelines.atomic import write_bytes_atomic
from pipelines.cache import Cache, DamagedEntry, Entry, EntryWriter
from pipelines.devices import reserved_device
from pipelines.evaluation import compared, still, store_video
from pipelines.fanout import ItemRejected
from pipelines.keys import digest
from pipelines.params import Params
from pipelines.subject import CATALOG_FILE, Shots, Tables, read_tables
from pipelines.sweeps.config import SweepError, with_values
from pipelines.sweeps.judging import Yardstick, some
from pipelines.sweeps.protocol import Finished, TrialTask, Watched
from pipelines.sweeps.tracks import own_tracks
from pipelines.training import CURVE_EVERY, HeadGasTrainer, Training, TrainingDiverged
from pipelines.training_items import training_items, training_step

VERSION = 3
CHECKPOINT = "checkpoint.pt"
VERDICTS = (AvatarError, SweepError, TrainingDiverged)
"""Errors that a trial's values are to blame for: trying again would change nothing."""


@dataclass(frozen=True)
class Setup:
    """What all trials of a sweep have in common; goes to every worker."""

    base: Params
    subjects: tuple[str, ...]
    reports: int
    watched_frames: int
    pruning: bool
    own_tracks: bool
    folder: Path
    cache_uri: str


class WatchedFile:
    """What a trial has reported so far: [report, step, figures] in order, kept on this machine while it trains.

    A worker that goes on from another's checkpoints does not come by the first reports again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[list[Any]] = json.loads(path.read_bytes()) if path.exists() else []

    def add(self, seen: Watched) -> None:
        before = [row for row in self.rows if row[0] < seen.report]
        self.rows = [*before, [seen.report, seen.step, dict(seen.figures)]]
        write_bytes_atomic(self.path, json.dumps(self.rows).encode())


class HeadGasTrials:
    """Runs trials, one at a time. One per actor: the tables and the held-out frames are read once."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.cache = Cache(setup.cache_uri)
        self.data = read_tables()
        self.yardstick = Yardstick(self.data, setup.base)
        self.device = reserved_device()
        self.held_out: dict[str, Shots] = {}
        self.content = {item.id: item.fingerprint for item in training_items()}

    def __call__(self, task: TrialTask) -> Iterator[Watched | Finished]:
        """Yields what becomes of the trial; closing the iterator gives it up. Raises ItemRejected."""
        try:
            yield from self._done(task)
        except VERDICTS as error:
            raise ItemRejected(type(error).__name__, str(error)) from None

    def _done(self, task: TrialTask) -> Iterator[Watched | Finished]:
        params = with_values(self.setup.base, task.values)
        tracks: AbstractContextManager[Path] = nullcontext(Path())
        if self.setup.own_tracks:
            catalog = tables.read_table(CATALOG_FILE, tables.CATALOG)
            catalog = catalog.filter(pc.is_in(catalog["subject_id"], pa.array(self.setup.subjects)))
            tracks = own_tracks(self.cache, params, catalog, self.setup.folder / f"trial-{task.number:05d}")
        with tracks as root:
            try:
                yield from self._on_tracks(params, root)
            except DamagedEntry as error:
                self.cache.forget(error.key)  # the next attempt makes it again
                raise

    def _on_tracks(self, params: Params, root: Path) -> Iterator[Watched | Finished]:
        start = time.perf_counter()
        step = training_step(params, root)
        content = {item.id: item.fingerprint for item in training_items(root)}
        lost = [subject for subject in self.setup.subjects if subject not in content]
        if lost:
            raise ItemRejected("lost_subject", f"no clip of {', '.join(lost)} passed the gates with these values")
        keys = {subject: step.key(content[subject]) for subject in self.setup.subjects}
        stops = report_steps(params.train_headgas.steps, self.setup.reports)
        key = digest([VERSION, keys, self._judged_by(), stops])
        known = self.cache.find(key)
        if isinstance(known, Entry):
            yield from (Watched(*row) for row in known.summary["watched"])
            yield Finished(known.summary["figures"], known.summary["curve"], key)
            return
        entries = {subject: self.cache.find(found) for subject, found in keys.items()}
        writer = self.cache.writer(key)
        watched = WatchedFile(writer.scratch / "watched.json")
        # With pruning, what a trial does on its way decides over others: it has to be known, also of avatars that are there.
        if self.setup.pruning or not all(isinstance(entry, Entry) for entry in entries.values()):
            trainer = step.worker(step.params)
            assert isinstance(trainer, HeadGasTrainer)
            try:
                for seen in self._trained(trainer, keys, stops):
                    watched.add(seen)
                    yield seen
            except GeneratorExit:  # pruned: nobody will go on from here
                shutil.rmtree(writer.scratch, ignore_errors=True)
                raise
            entries = {subject: self.cache.find(found) for subject, found in keys.items()}
        there = {name: entry for name, entry in entries.items() if isinstance(entry, Entry)}
        own = self.data if root == Path() else read_tables(root)
        try:
            figures = self._judged(there, own, writer)
        except Exception:
            writer.discard()
            raise
        curve = mean_curve([json.loads(entry.read_bytes("curve.json")) for entry in there.values()])
        summary = {"watched": watched.rows, "figures": figures, "curve": curve}
        writer.commit(summary, time.perf_counter() - start)
        yield Finished(figures, curve, key)

    def _judged_by(self) -> dict[str, Any]:
        base = self.setup.base
        return {
            "frames": {subject: self.content.get(subject, "") for subject in self.setup.subjects},
            "test_fraction": base.catalog.test_fraction,
            "max_frames": base.evaluate.max_frames,
            "size": base.train_headgas.resolution,
            "background": base.train_headgas.background,
            "watched_frames": self.setup.watched_frames,
            "device": self.device,
        }

    def _trained(self, trainer: HeadGasTrainer, keys: Mapping[str, str], stops: Sequence[tuple[int, int]]) -> Iterator[Watched]:
        """Trains all subjects into their entries, side by side from stop to stop."""
        writers = {subject: self.cache.writer(key) for subject, key in keys.items()}
        start = time.perf_counter()
        told = 0  # points of the curve
        try:
            running = {subject: trainer.begin(subject) for subject in keys}
            watching = {subject: some(self._held_out(subject, trainer.data), self.setup.watched_frames) for subject in keys}
            for report, stop in stops:
                for subject, training in running.items():
                    _advance(training, writers[subject], trainer.checkpoint_every, stop)
                    training.save(writers[subject].scratch / CHECKPOINT)
                if any(training.step > stop for training in running.values()):
                    continue  # a checkpoint is further on: this was reported before the worker that wrote it died
                found = [self.yardstick.judge(running[name].model, watching[name], self.device).figures for name in keys]
                curve = mean_curve([training.curve for training in running.values()])
                figures = {name: _mean([of_one[name] for of_one in found]) for name in ("psnr", "ssim")}
                yield Watched(report, stop, figures, curve[told:])
                told = len(curve)
            for subject, training in running.items():
                _advance(training, writers[subject], trainer.checkpoint_every, None)
        except GeneratorExit:  # pruned: nobody will go on from here
            for writer in writers.values():
                shutil.rmtree(writer.scratch, ignore_errors=True)
            raise
        seconds = (time.perf_counter() - start) / len(keys)
        for subject, training in running.items():
            writers[subject].commit(trainer.write(subject, training, writers[subject]), seconds)

    def _held_out(self, subject: str, data: Tables) -> Shots:
        if self.setup.own_tracks:
            return self.yardstick.held_out(subject, data)
        if subject not in self.held_out:
            self.held_out[subject] = self.yardstick.held_out(subject, self.data)
        return self.held_out[subject]

    def _judged(self, entries: Mapping[str, Entry], data: Tables, out: EntryWriter) -> dict[str, float]:
        """Means of the subjects' figures; writes what they are of, a picture and a video of each subject."""
        found: list[dict[str, float]] = []
        for subject, entry in entries.items():
            with tempfile.TemporaryDirectory() as folder:
                for name in (TENSORS, FACTS):
                    entry.copy_to(name, Path(folder) / name)
                avatar, _ = load_avatar(Path(folder), self.device)
            shots = self._held_out(subject, data)
            judged = self.yardstick.judge(avatar, shots, self.device)
            out.write_bytes(f"{subject}.png", still(judged.wanted, judged.made))
            store_video(out, f"{subject}.mp4", compared(judged.wanted, judged.made), data.segments, shots.clip_ids[0])
            size = sum(entry.files[name]["bytes"] for name in (TENSORS, FACTS))
            found.append({**judged.figures, "train_psnr": entry.summary["psnr"], "avatar_bytes": size})
        return {name: _mean([figures[name] for figures in found]) for name in found[0]}


def _advance(training: Training, writer: EntryWriter, checkpoint_every: int, until: int | None) -> None:
    training.run(writer.scratch / CHECKPOINT, checkpoint_every, until)


def mean_curve(curves: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
    """Means over subjects of what all of them have, as far as the shortest curve goes."""
    found = []
    for points in zip(*curves, strict=False):
        names = [name for name in points[0] if all(name in point for point in points)]
        found.append({name: _mean([point[name] for point in points]) for name in names})
    return found


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 6)


def report_steps(steps: int, reports: int) -> list[tuple[int, int]]:
    """(number of the report, training step) of each look on the way.

    The numbers are shares of training, so that trials of different lengths can be compared; the steps are multiples of
    CURVE_EVERY, so that a curve is the same with or without looks. There are fewer than `reports` in a short training.
    """
    found: dict[int, int] = {}
    for report in range(1, reports + 1):
        stop = CURVE_EVERY * math.ceil(steps * report / (reports + 1) / CURVE_EVERY)
        if stop < steps:
            found.setdefault(stop, report)
    return [(report, stop) for stop, report in found.items()]
