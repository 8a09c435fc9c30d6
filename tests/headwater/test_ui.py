"""`headwater ui`: a server's own words go into a file, its address is told when it answers, Ctrl-C is its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from headwater.ui import LOG, UiError, serve

ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import http.server, sys
print("WARNING: many words", flush=True)
http.server.test(http.server.SimpleHTTPRequestHandler, bind="127.0.0.1", port=int(sys.argv[1]))
"""
UI = """
import sys
from rich.console import Console
from headwater.ui import serve
serve(Console(), [sys.executable, "-c", *sys.argv[2:]], f"http://127.0.0.1:{sys.argv[1]}", "the page")
"""


def test_the_page_is_told_once_the_server_answers_and_ctrl_c_ends_both(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    (tmp_path / "health").write_text("OK")
    words = [sys.executable, "-c", UI, port, SERVER, port]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(words, cwd=tmp_path, env=env, text=True, start_new_session=True, **pipes) as both:  # type: ignore[call-overload]
        assert both.stdout is not None and both.stdout.readline() == "it answers: the page\n"
        os.killpg(both.pid, signal.SIGINT)
        assert both.stdout.read() == "" and both.wait(timeout=60) == 0
    assert "WARNING: many words" in (tmp_path / LOG).read_text()


def test_a_server_that_ends_by_itself_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UiError, match=r"ended by itself with status 3; its own words are in \.headwater/mlflow-ui\.log"):
        serve(Console(), [sys.executable, "-c", "import sys; sys.exit(3)"], "http://127.0.0.1:9", "the page")
