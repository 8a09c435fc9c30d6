"""`headwater ui`: MLflow's page on this machine. What MLflow prints goes into a file, so that the address stays in sight."""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console

from headwater.ending import waited_for

LOG = Path(".headwater/mlflow-ui.log")
ANSWERS_WITHIN_S = 2.0


class UiError(RuntimeError):
    """MLflow has ended by itself; the message names the file that says why."""


def serve(console: Console, words: list[str], address: str, page: str) -> None:
    """Runs MLflow's server until Ctrl-C, and says once when it answers. Raises UiError."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("wb") as log, waited_for(words, {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}, output=log) as program:
        while program.is_running() and not answers(address):
            time.sleep(0.2)
        if program.is_running():
            console.print(f"it answers: {page}", highlight=False, soft_wrap=True)
    if not program.pressed.is_set():
        raise UiError(f"MLflow ended by itself with status {program.status}; its own words are in {LOG}")


def answers(address: str) -> bool:
    """Whether the server is there and takes requests: its port is open some seconds earlier."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=ANSWERS_WITHIN_S):
            return True
    except (urllib.error.URLError, OSError):
        return False


def command(uri: str, port: int) -> list[str]:
    """MLflow's server for a store, on this machine's loopback."""
    server = [sys.executable, "-m", "mlflow", "ui"]
    return [*server, "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
