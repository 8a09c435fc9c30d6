"""A sweep from its file to its results, on the project of the current folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from pipelines.cluster import ray_cluster
from pipelines.params import Params, Preprocess
from pipelines.subject import TRACKS_FOLDER
from pipelines.sweeps.config import Sweep, SweepError
from pipelines.sweeps.protocol import Work
from pipelines.sweeps.record import study_record
from pipelines.sweeps.results import result_files, write_results
from pipelines.sweeps.run import Driver
from pipelines.sweeps.slots import Slots
from pipelines.sweeps.study import (
    FOLDER,
    address_of,
    only_driver,
    open_storage,
    open_study,
    requeue_orphans,
    settled_trials,
)
from pipelines.sweeps.trial import HeadGasTrials, Setup
from pipelines.training_items import training_items
from pipelines.yaml_files import read_yaml


@dataclass(frozen=True)
class SweepResult:
    study: optuna.Study
    best: list[FrozenTrial]
    kept: int
    """Trials that had ended before this run began."""
    interrupted: list[int]
    """Trials that a killed driver had left, queued again in this run."""
    slots: int = 0
    wall_seconds: float = 0.0
    trial_seconds: float = 0.0


def subjects_of(sweep: Sweep, params: Params) -> dict[str, str]:
    """The subjects that trials train on, with the fingerprints of their data. Raises SweepError."""
    if not (TRACKS_FOLDER / "segments.parquet").exists():
        raise SweepError(f"{TRACKS_FOLDER}: there are no tracks to train on yet; run `dvc repro preprocess` first")
    _check_tracks_are_of(params.preprocess)
    content = {item.id: item.fingerprint for item in training_items()}
    unknown = [subject for subject in sweep.file.subjects if subject not in content]
    if unknown or not content:
        who, known = ", ".join(unknown) or "anybody", ", ".join(content) or "none"
        raise SweepError(f"{sweep.path}: no clip of {who} passed the gates; subjects: {known}")
    return {subject: content[subject] for subject in sorted(sweep.file.subjects or content)}


def _check_tracks_are_of(preprocess: Preprocess) -> None:
    """The sweep uses data/tracks as it is, so it must be what params.yaml asks for."""
    lock = Path("dvc.lock")
    stages = (read_yaml(lock) or {}).get("stages", {}) if lock.exists() else {}
    made_with = stages.get("preprocess", {}).get("params", {}).get("params.yaml", {}).get("preprocess")
    if made_with is not None and Preprocess.model_validate(made_with) != preprocess:
        raise SweepError(f"{TRACKS_FOLDER} was made with other preprocess parameters; run `dvc repro preprocess` first")


def trials_of(sweep: Sweep, params: Params, subjects: tuple[str, ...]) -> Callable[[], Work]:
    """What a worker builds to do trials of avatars."""
    cache = params.compute.cache
    setup = Setup(
        base=sweep.base,
        subjects=subjects,
        reports=sweep.reports,
        watched_frames=sweep.file.watched_frames,
        pruning=sweep.file.pruning is not None,
        own_tracks=sweep.touches_preprocess,
        folder=work_folder(sweep),
        cache_uri=cache if "://" in cache else str(Path(cache).absolute()),
    )
    return partial(HeadGasTrials, setup)


def work_folder(sweep: Sweep) -> Path:
    """For tracks of trials' own, while they run."""
    return FOLDER.absolute() / f"{sweep.name}.work"


@contextmanager
def held_study(sweep: Sweep, content: dict[str, str], storage: str) -> Iterator[tuple[optuna.Study, list[int]]]:
    """The study, held for this driver, and the trials that a dead one left. Raises SweepError."""
    address = address_of(sweep, storage)
    with only_driver(address, sweep.name):
        study = open_study(sweep, open_storage(address), content)
        orphans = requeue_orphans(study, sweep)
        shutil.rmtree(work_folder(sweep), ignore_errors=True)  # a killed driver's
        try:
            yield study, orphans
        finally:
            shutil.rmtree(work_folder(sweep), ignore_errors=True)


def run_sweep(
    sweep: Sweep,
    params: Params,
    *,
    storage: str = "",
    make: Callable[[], Work] | None = None,
    content: dict[str, str] | None = None,
) -> SweepResult:
    """Runs what is left of a sweep, and writes its results.

    `make` and `content` stand in for training on the project's subjects, in tests.
    Raises SweepError, TrackingUnreachable, ClusterUnreachable, ClusterTooSmall, DiskFull and RunStopped; what is finished
    is kept, and the same call goes on from there.
    """
    start = time.perf_counter()
    content = subjects_of(sweep, params) if content is None else content
    make = make or trials_of(sweep, params, tuple(content))
    with held_study(sweep, content, storage) as (study, orphans):
        kept = len(settled_trials(study))
        left = sweep.file.trials - kept
        driver = None
        if left > 0:
            workers = sweep.file.slots
            with ExitStack() as stack:
                stack.enter_context(ray_cluster(workers.num_cpus * max(workers.count, 1)))
                slots = Slots(make, workers, left, params.compute.item_timeout_s)
                stack.callback(slots.close)
                record = stack.enter_context(study_record(params, sweep, study))  # while the workers start
                driver = Driver(sweep, study, slots, params.compute, record)
                try:
                    driver.run()
                finally:
                    best = write_results(sweep, study)
                for path in (result_files(sweep.path).best, result_files(sweep.path).trials):
                    if path.exists():
                        record.artifact(path)
        else:
            best = write_results(sweep, study)
        wall = time.perf_counter() - start
        if driver is None:
            return SweepResult(study, best, kept, orphans)
        return SweepResult(study, best, kept, orphans, len(driver.slots), wall, driver.trial_seconds)
