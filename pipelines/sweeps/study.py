"""The Optuna study of a sweep: where it is kept, what a driver that was killed has left in it, the next trial's values.

One driver at a time writes to a study, held by a lock that the system takes back when the driver dies. So every trial that
still claims to run when a driver begins is an orphan, and no heartbeat is needed to tell: Optuna's works with neither
journal files nor ask and tell. An orphan is failed and queued again with its values and what it had reported.

The sampler is made anew for each trial, seeded with the sweep's seed and the number of trials drawn so far: a study that
was interrupted draws what it would have drawn.
"""

from __future__ import annotations

import fcntl
import json
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from pipelines.dotted import flatten
from pipelines.keys import digest
from pipelines.sweeps.config import DIRECTIONS, SEARCHED, Sweep, SweepError, value_of

optuna.logging.set_verbosity(optuna.logging.ERROR)

FOLDER = Path(".headwater/sweeps")
RESULT, RETRY_OF, INTERRUPTED, SWEEP, MLFLOW = "result", "retry_of", "interrupted", "sweep", "mlflow"
STALE_LOCK_S = 2.0
POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg://", "postgresql+psycopg2://")


def address_of(sweep: Sweep, storage: str = "") -> str:
    """Where the study is kept: what the caller says, or the sweep's file, or a journal in .headwater."""
    return storage or sweep.file.storage or str(FOLDER / f"{sweep.name}.journal")


def open_storage(address: str) -> BaseStorage:
    """A journal file, made where there is none, or a PostgreSQL database. Raises SweepError."""
    if address.startswith(POSTGRES):
        return _postgres(address)
    if "://" in address:
        kind = address.partition("://")[0]
        raise SweepError(f"storage {kind}://...: a study is kept in a journal file (a path) or in postgresql://USER@HOST/NAME")
    path = Path(address)
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


@contextmanager
def only_driver(address: str, name: str) -> Iterator[None]:
    """Holds the study for one driver. Raises SweepError where another one has it."""
    taken = SweepError(f"study {name} at {shown(address)} is being run by another `headwater sweep`; wait for it or end it")
    if address.startswith(POSTGRES):
        from sqlalchemy import NullPool, create_engine, text

        key = int(digest(name)[:15], 16)
        # Without a pool: the lock is the session's, and the session ends with the block.
        with _answers(address), create_engine(_with_driver(address), poolclass=NullPool).connect() as connection:
            if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar():
                raise taken
            connection.commit()  # an open transaction would hold back the database's clean-up
            yield
        return
    path = Path(f"{address}.driver")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise taken from None
        _mend_journal(Path(address))
        yield


def _mend_journal(path: Path) -> None:
    """Takes away what a killed writer leaves: half a line at the end, which would spoil the next one, and its lock."""
    lock = Path(f"{path}.lock")
    while lock.is_symlink():
        try:
            if time.time() - lock.lstat().st_mtime > STALE_LOCK_S:  # a write takes milliseconds
                lock.unlink()
        except FileNotFoundError:
            break
        time.sleep(0.05)
    if path.exists():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)


def open_study(sweep: Sweep, storage: BaseStorage, content: Mapping[str, str]) -> optuna.Study:
    """The sweep's study, made where there is none; its first trial is what params.yaml says, where the space has it.

    `content` are the subjects and the fingerprints of their data. Raises SweepError where the study is another sweep's.
    """
    directions = [DIRECTIONS[name] for name in sweep.file.objectives]
    study = optuna.create_study(
        study_name=sweep.name, storage=storage, directions=directions, pruner=_pruner(sweep), load_if_exists=True
    )
    found, wanted = study.user_attrs.get(SWEEP), _identity(sweep, content)
    if found is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(sweep.file.objectives))
        study.set_user_attr(SWEEP, wanted)
    elif found != wanted:
        differing = [
            f"{name}: {_short(found.get(name))} then, {_short(wanted.get(name))} now"
            for name in sorted(found.keys() | wanted.keys())
            if found.get(name) != wanted.get(name)
        ]
        raise SweepError(
            f"{sweep.path}: study {sweep.name} was begun with other values, so old and new trials could not be compared "
            f"({'; '.join(differing[:5])}). Put them back, or name a new study with `study: NAME`"
        )
    if not study.get_trials(deepcopy=False):
        now = {key: value_of(sweep.base, key) for key in sweep.space}
        if all(_holds(sweep.space[key], value) for key, value in now.items()):
            study.enqueue_trial(now)
    return study


def requeue_orphans(study: optuna.Study, sweep: Sweep) -> list[int]:
    """Fails the trials that a dead driver left running and queues each again, once; returns their numbers."""
    trials = study.get_trials(deepcopy=False)
    queued = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    orphans = [trial for trial in trials if trial.state == TrialState.RUNNING]
    for trial in orphans:
        drawn = trial.params.keys() == sweep.space.keys()  # else the driver died while it drew them: drawn again
        if drawn and trial.number not in queued:
            study.add_trial(
                optuna.create_trial(
                    state=TrialState.WAITING,
                    params=trial.params,
                    distributions=trial.distributions,
                    intermediate_values=trial.intermediate_values,
                    user_attrs={RETRY_OF: trial.number},
                )
            )
        elif not drawn and (fixed := trial.system_attrs.get("fixed_params")):  # what params.yaml says, the first trial
            study.enqueue_trial(fixed)
        study._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
        study.tell(trial.number, state=TrialState.FAIL)
    return [trial.number for trial in orphans]


def next_trial(study: optuna.Study, sweep: Sweep) -> optuna.Trial:
    """The first trial in the queue, or a new one."""
    drawn = sum(
        1
        for trial in study.get_trials(deepcopy=False)
        if trial.params.keys() == sweep.space.keys() and RETRY_OF not in trial.user_attrs
    )
    seed = int(np.random.default_rng((sweep.file.seed, drawn)).integers(2**31))
    samplers = optuna.samplers
    study.sampler = samplers.TPESampler(seed=seed) if sweep.file.sampler == "tpe" else samplers.RandomSampler(seed=seed)
    return study.ask(dict(sweep.space))


def is_settled(trial: FrozenTrial) -> bool:
    """Whether a trial has come to an end of its own: it counts as one of the sweep's trials, and is never run again."""
    return trial.state.is_finished() and INTERRUPTED not in trial.user_attrs


def settled_trials(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if is_settled(trial)]


def shown(address: str) -> str:
    """An address without its password."""
    if not address.startswith(POSTGRES):
        return address
    from sqlalchemy import make_url

    return make_url(address).render_as_string(hide_password=True)


def _identity(sweep: Sweep, content: Mapping[str, str]) -> dict[str, Any]:
    """All that trials must have in common, flat, so that differences can be named."""
    blocks = sweep.base.model_dump(mode="json")
    params = flatten({name: blocks[name] for name in (*SEARCHED, "catalog", "evaluate")})
    idle = ("train_headgas.checkpoint_every", "preprocess.frame_buffer_mb", "evaluate.max_cross_pairs")
    pruning = sweep.file.pruning.as_key() if sweep.file.pruning else None
    return {
        "objectives": list(sweep.file.objectives),
        "watched_frames": sweep.file.watched_frames,
        "pruning": pruning,
        "data": digest(dict(content)),
        **{f"space.{key}": json.loads(distribution_to_json(found)) for key, found in sweep.space.items()},
        **{key: value for key, value in params.items() if key not in sweep.space and key not in idle},
    }


def _short(value: Any) -> str:
    return "absent" if value is None else str(value)[:80]


def _holds(distribution: Any, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    inside = distribution.low <= value <= distribution.high
    steps = (value - distribution.low) / distribution.step if distribution.step else 0.0
    return bool(inside and abs(steps - round(steps)) < 1e-9)


def _pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    options = sweep.file.pruning
    if options is None:
        return optuna.pruners.NopPruner()
    if options.kind == "median":
        return optuna.pruners.MedianPruner(options.startup_trials, n_warmup_steps=options.warmup_reports + 1)
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=options.reduction_factor)


def _postgres(address: str) -> BaseStorage:
    from optuna.storages import RDBStorage

    with _answers(address):
        return RDBStorage(_with_driver(address), engine_kwargs={"pool_pre_ping": True})


def _with_driver(address: str) -> str:
    """SQLAlchemy takes postgresql:// for psycopg 3; where only psycopg2 is installed, that is what is meant."""
    import importlib.util

    plain = "://" + address.partition("://")[2]
    if address.startswith("postgresql+"):
        return address
    for module in ("psycopg", "psycopg2"):
        if importlib.util.find_spec(module):
            return f"postgresql+{module}{plain}"
    raise SweepError("a study in PostgreSQL needs psycopg: pip install 'headwater[postgres]'")


@contextmanager
def _answers(address: str) -> Iterator[None]:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0][:200]
        raise SweepError(
            f"storage {shown(address)}: {reason}. Start the database or mend the address; a password is read from "
            "PGPASSWORD or ~/.pgpass too"
        ) from None
    except ModuleNotFoundError as error:
        raise SweepError(f"storage {shown(address)}: {error}; pip install 'headwater[postgres]'") from None
