"""How commands end: what is told, with which status, and that another program is waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from headwater.ending import run_program, stoppable, writing
from pipelines.atomic import DiskFull
from pipelines.main import INTERRUPTED

ROOT = Path(__file__).resolve().parents[2]


def ended(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(typer.Exit) as caught, writing(Path("out/x.mp4"), ValueError):
        raise error
    return caught.value.exit_code, " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no such clip"), "no such clip"),
        (DiskFull("cache: full"), "out/x.mp4: the disk is full; make room there, or name a place on another one"),
        (PermissionError(13, "Permission denied", "out"), "out/x.mp4: cannot be written: Permission denied (out)"),
    ],
)
def test_what_goes_wrong_while_writing_is_one_line(error: Exception, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(error, capsys) == (1, f"error: {told}")


def test_ctrl_c_has_a_status_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(KeyboardInterrupt(), capsys) == (INTERRUPTED, "error: stopped by Ctrl-C: out/x.mp4 is as it was before")
    with pytest.raises(typer.Exit) as caught, stoppable("all is kept"):
        raise KeyboardInterrupt
    assert caught.value.exit_code == INTERRUPTED


def test_a_defect_is_not_taken_for_an_expected_error() -> None:
    with pytest.raises(KeyError), writing(Path("x.mp4"), ValueError):
        raise KeyError("a defect")


PARENT = """
import os, sys
from headwater.ending import run_program
sys.exit(run_program([sys.executable, "-c", sys.argv[1]], os.environ))
"""
CHILD = """
import sys, time
try:
    print("on", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    print("in order", flush=True)
    sys.exit(7)
"""


def test_a_program_that_ctrl_c_stops_is_waited_for_while_it_puts_things_in_order() -> None:
    """Both get the signal, as from a terminal."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True) as both:
        assert both.stdout is not None and both.stdout.readline() == "on\n"
        os.killpg(both.pid, signal.SIGINT)
        assert both.stdout.read() == "in order\n"
        assert both.wait(timeout=60) == 7


def test_a_program_that_a_signal_ended_has_the_shells_status_and_ctrl_c_works_again() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert run_program([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], os.environ) == 128 + 9
    assert signal.getsignal(signal.SIGINT) is before
