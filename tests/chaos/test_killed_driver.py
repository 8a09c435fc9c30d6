"""SIGKILL of the driver in the middle: only what was in flight is computed again, and the results are the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import sys, time
from pathlib import Path
from pipelines.fanout import Item, Step, fan_out
from pipelines.params import Compute, Workers

class Slow:
    def __init__(self, params): self.log = Path(params["log"])
    def __call__(self, item, upstream, out):
        with (self.log / item.id).open("a") as log: log.write("x")
        time.sleep(0.25)
        out.write_bytes("value", item.id.encode() * 1000)
        return {}

step = Step("slow", 1, Slow, {"log": "log"}, Workers(num_cpus=0.5, count=2))
items = [Item(f"item{n:02d}", str(n)) for n in range(24)]
result = fan_out("slow", [step], items, compute=Compute(cache="cache"))
print(result.summary_line())
"""


def entries(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("value")}


def test_a_killed_driver_loses_only_what_was_in_flight(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "log").mkdir()
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    driver = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    while len(entries(tmp_path / "cache")) < 8:
        time.sleep(0.02)
        assert driver.poll() is None
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(3)  # Ray's own processes notice that their driver is gone
    before = entries(tmp_path / "cache")

    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr
    after = entries(tmp_path / "cache")
    assert len(after) == 24 and before.items() <= after.items()
    tries = [len(path.read_text()) for path in (tmp_path / "log").iterdir()]
    in_flight = 2 * 2  # two workers, two calls each
    assert sum(tries) - 24 <= in_flight
    assert "0 quarantined" in again.stdout
