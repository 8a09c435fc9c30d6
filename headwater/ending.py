"""How a command ends when it cannot go on, is stopped, or hands over to another program."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO

import typer
from rich.console import Console
from rich.markup import escape

from pipelines.atomic import DiskFull


def fail(message: str, status: int = 1) -> typer.Exit:
    """Says what is wrong on stderr; raise what this returns."""
    Console(stderr=True).print(f"[red]error:[/red] {escape(message)}", highlight=False)
    return typer.Exit(status)


@contextmanager
def stoppable(kept: str) -> Iterator[None]:
    """Ctrl-C in the block is told with what is `kept`, and ends the command as it ends a stage."""
    try:
        yield
    except KeyboardInterrupt:
        from pipelines.main import INTERRUPTED

        raise fail(f"stopped by Ctrl-C: {kept}", INTERRUPTED) from None


@contextmanager
def writing(output: Path, *expected: type[Exception]) -> Iterator[None]:
    """For a block that writes `output`, all of it or none: a full disk, a place that cannot be written, Ctrl-C and what else is
    `expected` are told in a line.
    """
    with stoppable(f"{output} is as it was before"):
        try:
            yield
        except expected as error:
            raise fail(str(error)) from None
        except DiskFull:
            raise fail(f"{output}: the disk is full; make room there, or name a place on another one") from None
        except OSError as error:
            at = f" ({error.filename})" if error.filename else ""
            raise fail(f"{output}: cannot be written: {error.strerror or error}{at}") from None


@dataclass(frozen=True)
class Program:
    """Another program, and whether Ctrl-C has been pressed while it ran."""

    process: subprocess.Popen[bytes]
    pressed: Event

    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def status(self) -> int:
        """Of a program that has ended; 128 and the number for a signal that ended it."""
        code = self.process.returncode
        return code if code >= 0 else 128 - code


@contextmanager
def waited_for(words: Sequence[str], env: Mapping[str, str], output: IO[bytes] | None = None) -> Iterator[Program]:
    """Runs a program beside the block and waits for it at the end; what it prints goes to `output`, where one is given.

    Ctrl-C reaches the program too, which may have much to put in order: it is waited for, however long that takes.
    """

    pressed = Event()
    # A handler of our own and not SIG_IGN, which the program would inherit.
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.set())
    try:
        with subprocess.Popen(words, env=env, stdout=output, stderr=output) as process:
            yield Program(process, pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def run_program(words: Sequence[str], env: Mapping[str, str]) -> int:
    """Runs a program and returns its status, 128 and the number for a signal that ended it. Ctrl-C as in waited_for."""
    with waited_for(words, env) as program:
        pass
    return program.status
