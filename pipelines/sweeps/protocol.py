"""What drivers and trials say to each other. Light to import: a worker needs no more until it builds what does its trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipelines.sweeps.config import Scalar


@dataclass(frozen=True)
class TrialTask:
    number: int
    values: Mapping[str, Scalar]


@dataclass(frozen=True)
class Watched:
    """How a trial does on its way: the share of training that is done as a number of reports, and its step."""

    report: int
    step: int
    figures: Mapping[str, float]
    curve: Sequence[Mapping[str, float]] = ()
    """Means of the subjects' training curves, since the report before."""


@dataclass(frozen=True)
class Finished:
    figures: Mapping[str, float]
    curve: Sequence[Mapping[str, float]]
    """Means of the subjects' training curves."""
    entry: str = ""
    """Key in the cache of what was judged: SUBJECT.png and SUBJECT.mp4."""


Work = Callable[[TrialTask], Iterator[Watched | Finished]]
"""Yields what becomes of a trial; closing the iterator gives it up.

Raises ItemRejected for values that are to blame themselves; other errors are tried again.
"""
