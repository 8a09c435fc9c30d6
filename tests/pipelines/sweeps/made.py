"""A sweep's file, and trials that take no time: the nearer to its best values, the higher the PSNR."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.fanout import MachineUnfit
from pipelines.params import Params, Source
from pipelines.sweeps.config import Sweep, load_sweep
from pipelines.sweeps.protocol import Finished, TrialTask, Watched

SPACE: dict[str, Any] = {
    "train_headgas.learning_rate": {"low": 0.0005, "high": 0.05, "log": True},
    "train_headgas.num_gaussians": {"low": 500, "high": 4000, "step": 500},
    "train_headgas.sh_degree": [0, 1, 2],
}
PARAMS = Params(source=Source(kind="folder", path="videos", watch="videos"))


def sweep_file(folder: Path, **changes: Any) -> Path:
    """Writes sweeps/made.yaml with some keys changed; None takes one away."""
    keys = {"trials": 6, "slots": {"num_cpus": 1.0, "count": 1}, "space": SPACE, **changes}
    path = folder / "sweeps" / "made.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({key: value for key, value in keys.items() if value is not None}))
    return path


def made_sweep(folder: Path, **changes: Any) -> Sweep:
    return load_sweep(sweep_file(folder, **changes), PARAMS)


def quality(values: Mapping[str, Any]) -> float:
    """The PSNR of made-up trials: 30 at a learning rate of 0.005 and 4,000 Gaussians."""
    rate, points = values["train_headgas.learning_rate"], values["train_headgas.num_gaussians"]
    return 30.0 - 4.0 * math.log10(rate / 0.005) ** 2 - (4000 - points) / 1000


@dataclass
class MadeUp:
    """Writes a letter into `log`/NUMBER for each attempt at a trial, so that tests can count them.

    `deeds` names trials and what they do at their first attempt: die, raise, nan, unfit, hang.
    """

    log: Path
    deeds: Mapping[int, str]
    seconds: float = 0.0

    def __call__(self, task: TrialTask) -> Iterator[Watched | Finished]:
        path = self.log / f"{task.number:03d}"
        first = not path.exists()
        with path.open("a") as file:
            file.write("x")
        deed = self.deeds.get(task.number, "")
        psnr = quality(task.values)
        while deed == "hang" and first:
            time.sleep(0.1)
        for report in (1, 2, 3):
            time.sleep(self.seconds / 4)
            yield Watched(report, 25 * report, {"psnr": psnr - 3.0 + report, "ssim": 0.5})
            if deed == "die" and first:
                os.kill(os.getpid(), signal.SIGKILL)
            if deed == "raise" and first:
                raise OSError("a disk that was not there for a moment")
            if deed == "unfit" and first:
                raise MachineUnfit("no CUDA code on this machine")
            if deed == "nan":
                psnr = float("nan")
        time.sleep(self.seconds / 4)
        size = 60.0 * task.values["train_headgas.num_gaussians"]
        yield Finished({"psnr": psnr, "ssim": 0.9, "avatar_bytes": size, "render_fps": 1e6 / size}, [{"step": 25, "loss": 0.1}])


def attempts(log: Path) -> dict[int, int]:
    """How often each trial was begun."""
    return {int(path.name): len(path.read_text()) for path in sorted(log.iterdir())}
