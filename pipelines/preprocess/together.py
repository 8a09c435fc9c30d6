"""One head for all cameras that filmed a sequence of a subject: the groups of clips, and the worker that fits one.

A group is an item of a second fan-out, after `observe` and `fit`. It names its members' `observe` entries by key, and the
worker reads the landmarks from there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from avatar_models.tracking.fit import View, fit_views
from pipelines.cache import Cache, DamagedEntry, Entry, EntryWriter
from pipelines.fanout import FanOutResult, Item, ItemRejected
from pipelines.keys import digest
from pipelines.preprocess.assemble import FIT, OBSERVE
from pipelines.preprocess.segment import FitWriter, SeenSegment, read_segment

VERSION = 2
FIT_TOGETHER = "fit_together"
SAME_TIME = 0.3
"""Frames of two cameras were taken at the same time when they lie closer than this share of the usual interval."""


def camera_groups(catalog: pa.Table, result: FanOutResult) -> tuple[list[Item], list[str]]:
    """(an item for each group of clips that several known cameras filmed at the same time, what became of the others).

    A group is one subject's one sequence; clips in quarantine and clips without a calibration are in none. The second list has
    a sentence for each group that is no item. An item depends on the landmarks and the cameras of its members alone.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(catalog.to_pylist(), key=lambda row: str(row["clip_id"])):
        known = row["sequence"] is not None and row["K"] is not None and row["viewmat"] is not None
        if known and row["clip_id"] in result.entries:
            groups[row["subject_id"], row["sequence"]].append(row)
    items, alone = [], []
    for (subject, sequence), rows in sorted(groups.items()):
        name = f"{subject}/{sequence}"
        entries = [result.entries[row["clip_id"]] for row in rows]
        if len(rows) == 1:
            alone.append(f"{name}: one calibrated camera, {rows[0]['clip_id']}, which is fitted by itself")
        elif not share_times([own[FIT].summary["spans"] for own in entries]):
            alone.append(f"{name}: its {len(rows)} cameras saw the face at different times; each is fitted by itself")
        else:
            members = [
                {name: row[name] for name in ("clip_id", "subject_id", "camera_id", "split", "K", "viewmat")}
                | {"observed": own[OBSERVE].key}
                for row, own in zip(rows, entries, strict=True)
            ]
            fingerprint = digest([[member["observed"], member["K"], member["viewmat"]] for member in members])
            told = f"{len(members)} cameras, each keeps the fit of its own"
            frames = sum(segment["num_frames"] for own in entries for segment in own[FIT].summary["segments"])
            items.append(Item(name, fingerprint, {"members": members}, told, frames))
    return items, alone


def share_times(spans: Sequence[Sequence[tuple[float, float]]]) -> bool:
    """Whether any two cameras saw the face at one time, from the spans (first, last time) of each camera's segments."""
    return any(a[0] <= b[1] and b[0] <= a[1] for one, other in combinations(spans, 2) for a in one for b in other)


def shared_steps(times: Sequence[NDArray[np.float64]]) -> tuple[list[NDArray[np.int64]], NDArray[np.float64]]:
    """(which of the T shared time steps each camera's frames are, the steps' times (T,)), from each camera's rising times.

    Frames of several cameras are one step when they lie within SAME_TIME of the usual interval from the first of them. A frame
    that no other camera has is a step of its own.
    """
    flat, camera = np.concatenate(times), np.repeat(np.arange(len(times)), [len(own) for own in times])
    intervals = np.concatenate([np.diff(own) for own in times])
    near = SAME_TIME * float(np.median(intervals)) if len(intervals) else 0.0
    steps = np.empty(len(flat), np.int64)
    step, first, there = -1, -np.inf, set[int]()
    for place in np.lexsort((camera, flat)).tolist():
        if flat[place] - first > near or int(camera[place]) in there:
            step, first, there = step + 1, float(flat[place]), set()
        there.add(int(camera[place]))
        steps[place] = step
    own_steps = np.split(steps, np.flatnonzero(np.diff(camera)) + 1)
    return own_steps, np.bincount(steps, flat) / np.bincount(steps)


def errors_of_steps(errors: Sequence[NDArray[np.floating]], steps: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
    """For each camera's frames the error, or the median of all that saw the same step where that is less.

    Cameras share the head's pose and expression. Of a side view a detector guesses half of the face, and that it guesses badly
    does not make the pose of that step wrong; nor does it take a good front view away.
    """
    flat, numbers = np.concatenate(errors), np.concatenate(steps)
    medians = {step: np.median(flat[numbers == step]) for step in np.unique(numbers).tolist()}
    of_steps = ([medians[step] for step in own.tolist()] for own in steps)
    return [np.minimum(own, np.array(shared, np.float32)) for own, shared in zip(errors, of_steps, strict=True)]


class FitTogether:
    """Fits one group per call, to its landmarks."""

    def __init__(self, params: Mapping[str, Any], cache_uri: str, head_file: str, head_hash: str) -> None:
        """Raises HeadError where this machine's head is not the one, of that hash, that the results are kept under."""
        self.writer = FitWriter.of(params, head_file, head_hash)
        self.iterations, self.smoothness = int(params["fit_iterations"]), float(params["fit_smoothness"])
        self.cache = Cache(cache_uri)
        torch.set_num_threads(1)

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        with threadpool_limits(1):  # sums in another order with each number of threads, and so other bits
            return self.fit(item, out)

    def fit(self, item: Item, out: EntryWriter) -> dict[str, Any]:
        """Writes tracks-{clip}-{number} and identity-{clip}-{number} of each member; returns their segments' rows by clip."""
        members = item.payload["members"]
        seen = [self.read(member) for member in members]
        steps, times = shared_steps([np.concatenate([segment.times for segment in own]) for own in seen])
        if len(times) == sum(map(len, steps)):
            raise ItemRejected("no_shared_times", "no two of its cameras took a picture at the same time")
        views = []
        for member, own, numbers in zip(members, seen, steps, strict=True):
            K, viewmat = np.reshape(member["K"], (3, 3)), np.reshape(member["viewmat"], (4, 4))
            of_segments = np.split(numbers, np.cumsum([len(segment.times) for segment in own])[:-1])
            for segment, frames in zip(own, of_segments, strict=True):
                views.append(View(segment.points, segment.crop, frames, K, viewmat))
        fit = fit_views(self.writer.head, views, iterations=self.iterations, smoothness=self.smoothness, times=times)
        errors = errors_of_steps([one.reprojection for one in fit.views], [one.frames for one in views])
        fitted = iter(zip(fit.views, errors, strict=True))
        rows = {
            member["clip_id"]: [
                self.writer.write(segment, *next(fitted), out, f"{member['clip_id']}-{number}")
                for number, segment in enumerate(own)
            ]
            for member, own in zip(members, seen, strict=True)
        }
        return {"members": rows}

    def read(self, member: Mapping[str, Any]) -> list[SeenSegment]:
        """A member's segments from the cache. Raises DamagedEntry that names the clip."""
        key, clip_id = member["observed"], member["clip_id"]
        observed = self.cache.find(key)
        if not isinstance(observed, Entry):
            raise DamagedEntry(key, f"what was observed of {clip_id}", "not there, or cut short")
        try:
            return [read_segment(member, observed, number) for number in range(len(observed.summary["segments"]))]
        except DamagedEntry as error:
            raise DamagedEntry(key, f"{error.name} of {clip_id}", error.what) from None
