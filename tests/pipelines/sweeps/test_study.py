"""The study survives its drivers: orphans are queued again once, draws go on as if nothing had happened."""

from __future__ import annotations

import getpass
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from pipelines.sweeps.config import Sweep, SweepError, value_of
from pipelines.sweeps.study import (
    INTERRUPTED,
    RETRY_OF,
    is_settled,
    next_trial,
    only_driver,
    open_storage,
    open_study,
    requeue_orphans,
    shown,
)
from tests.pipelines.sweeps.made import made_sweep, quality

CONTENT = {"ann": "1234"}


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.chdir(tmp_path)
    return made_sweep(tmp_path)


def opened(sweep: Sweep, address: str) -> optuna.Study:
    """What a new driver does first."""
    study = open_study(sweep, open_storage(address), CONTENT)
    requeue_orphans(study, sweep)
    return study


def complete(study: optuna.Study, sweep: Sweep) -> dict[str, object]:
    trial = next_trial(study, sweep)
    study.tell(trial, quality(trial.params))
    return trial.params


def test_a_driver_that_dies_as_it_draws_the_first_trial_does_not_lose_it(sweep: Sweep) -> None:
    study = opened(sweep, "made.journal")
    study.ask()  # the values of params.yaml, of which none is written yet
    again = opened(sweep, "made.journal")
    whole = opened(sweep, "whole.journal")
    assert next_trial(again, sweep).params == next_trial(whole, sweep).params == {
        key: value_of(sweep.base, key) for key in sweep.space
    }  # fmt: skip


def test_an_interrupted_study_draws_what_it_would_have_drawn(sweep: Sweep, tmp_path: Path) -> None:
    whole = opened(sweep, str(tmp_path / "whole.journal"))
    wanted = [complete(whole, sweep) for _ in range(14)]

    cut = opened(sweep, str(tmp_path / "cut.journal"))
    found = [complete(cut, sweep) for _ in range(12)]
    next_trial(cut, sweep)  # its driver is killed
    again = opened(sweep, str(tmp_path / "cut.journal"))
    found += [complete(again, sweep), complete(again, sweep)]
    assert found == wanted
    assert wanted[0]["train_headgas.learning_rate"] == 0.005  # what params.yaml says comes first
    settled = [trial.number for trial in again.get_trials() if is_settled(trial)]
    assert settled == [*range(12), 13, 14]
    other = made_sweep(tmp_path, seed=1)
    study = opened(other, str(tmp_path / "other.journal"))
    assert [complete(study, other) for _ in range(2)][1] != wanted[1]


def test_an_orphan_is_queued_again_once_with_what_it_had_reported(sweep: Sweep) -> None:
    study = opened(sweep, "a.journal")
    trial = next_trial(study, sweep)
    trial.report(12.5, 1)
    for _ in range(2):  # a second driver is killed before it begins
        study = opened(sweep, "a.journal")
    waiting = study.get_trials(states=[TrialState.WAITING])
    assert [row.user_attrs[RETRY_OF] for row in waiting] == [trial.number]
    assert waiting[0].intermediate_values == {1: 12.5} and study.trials[0].user_attrs[INTERRUPTED]
    again = next_trial(study, sweep)
    assert again.number == 1 and again.params == trial.params


def test_a_driver_that_died_between_both_writes_queues_nothing_twice(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    study = opened(sweep, "a.journal")
    next_trial(study, sweep)
    with monkeypatch.context() as patch:
        patch.setattr(study, "tell", lambda *words, **more: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            requeue_orphans(study, sweep)
    study = opened(sweep, "a.journal")
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_values_that_were_half_drawn_are_drawn_anew(sweep: Sweep) -> None:
    study = opened(sweep, "a.journal")
    complete(study, sweep)
    with_some = study.ask({"train_headgas.sh_degree": sweep.space["train_headgas.sh_degree"]})
    study = opened(sweep, "a.journal")
    assert not study.get_trials(states=[TrialState.WAITING]) and study.trials[with_some.number].state == TrialState.FAIL
    assert complete(study, sweep) == complete(_second_of(sweep), sweep)


def _second_of(sweep: Sweep) -> optuna.Study:
    study = opened(sweep, "undisturbed.journal")
    complete(study, sweep)
    return study


def test_a_torn_line_and_a_stale_lock_of_a_killed_writer_are_mended(sweep: Sweep, tmp_path: Path) -> None:
    study = opened(sweep, "a.journal")
    complete(study, sweep)
    with (tmp_path / "a.journal").open("ab") as file:
        file.write(b'{"op_code": 5, "worker_id": "x')
    (tmp_path / "a.journal.lock").symlink_to("a.journal")
    with only_driver("a.journal", "made"):
        assert not (tmp_path / "a.journal.lock").is_symlink()
        again = opened(sweep, "a.journal")
        complete(again, sweep)
        assert len(opened(sweep, "a.journal").trials) == 2


def test_one_driver_at_a_time(sweep: Sweep) -> None:
    first, second = only_driver("a.journal", "made"), only_driver("a.journal", "made")
    with first, pytest.raises(SweepError, match="being run by another"), second:
        pass
    with only_driver("a.journal", "made"):
        pass


def test_another_space_or_other_data_need_another_study(sweep: Sweep, tmp_path: Path) -> None:
    opened(sweep, "a.journal")
    with pytest.raises(SweepError, match=r"space.train_headgas.sh_degree: .*name a new study"):
        opened(made_sweep(tmp_path, space={"train_headgas.sh_degree": [0, 1]}), "a.journal")
    with pytest.raises(SweepError, match="data"):
        open_study(sweep, open_storage("a.journal"), {"ann": "5678"})
    opened(made_sweep(tmp_path, trials=60, seed=5), "a.journal")  # these may change


def test_an_address_is_a_path_or_postgresql(sweep: Sweep) -> None:
    with pytest.raises(SweepError, match="postgresql://USER@HOST/NAME"):
        open_storage("mysql://somewhere/db")
    assert shown("postgresql://ann:secret@localhost/db") == "postgresql://ann:***@localhost/db"
    with pytest.raises(SweepError, match=r"ann:\*\*\*@localhost.*Start the database") as error:
        open_storage(f"postgresql://ann:secret@localhost:{free_port()}/db")
    assert "secret" not in str(error.value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def postgres() -> Iterator[str]:
    """A server of its own. PostgreSQL refuses to run as root, so there it runs as the user that its package made."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'headwater[postgres]'")
    root = getpass.getuser() == "root"
    known = {user.pw_name for user in pwd.getpwall()}
    initdb, control = (shutil.which(name) for name in ("initdb", "pg_ctl"))
    if initdb is None or control is None or (root and "postgres" not in known):
        pytest.skip("PostgreSQL's initdb and pg_ctl are not on the PATH, or this is root and there is no user postgres")
    be = ["runuser", "-u", "postgres", "--"] if root else []
    with tempfile.TemporaryDirectory() as scratch:
        if root:
            shutil.chown(scratch, "postgres")
        folder, port = f"{scratch}/data", free_port()
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": scratch}
        subprocess.run([*be, initdb, "-D", folder, "-A", "trust", "-U", "ann"], **quiet)
        options = f"-p {port} -k {scratch} -c listen_addresses=127.0.0.1"
        subprocess.run([*be, control, "-D", folder, "-w", "-l", f"{scratch}/log", "-o", options, "start"], **quiet)
        yield f"postgresql://ann@127.0.0.1:{port}/postgres"
        subprocess.run([*be, control, "-D", folder, "-m", "immediate", "stop"], **quiet)


def test_a_study_in_postgresql(sweep: Sweep, postgres: str) -> None:
    with only_driver(postgres, "made"):
        study = opened(sweep, postgres)
        first = complete(study, sweep)
        next_trial(study, sweep)
        with pytest.raises(SweepError, match="being run by another"), only_driver(postgres, "made"):
            pass
    with only_driver(postgres, "made"):
        study = opened(sweep, postgres)
        assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING]
        assert study.trials[0].params == first
