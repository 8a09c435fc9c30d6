"""What judging HeadGaS avatars costs, and how much of it looking at faces does.

    python -m bench.judging_cost PROJECT

PROJECT has been through `dvc repro train_headgas`. Judges each subject, then each as driven by the next one, in this process
and one after the other, and prints seconds of the processor. The first subject warms up and is judged twice.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from pipelines import judging
from pipelines.cache import Cache
from pipelines.evaluation import PAIR
from pipelines.fanout import Item
from pipelines.judging import JudgeAvatar, judging_step
from pipelines.methods import HEADGAS
from pipelines.pairing import cross_pairs
from pipelines.params import load_params

FACES = ("track_known", "reenactment_figures")
spent: list[float] = []


def timed(work: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        start = time.process_time()
        found = work(*arguments, **named)
        spent.append(time.process_time() - start)
        return found

    return run


def main() -> None:
    os.chdir(sys.argv[1])
    for name in FACES:
        setattr(judging, name, timed(getattr(judging, name)))
    subjects = sorted(folder.parent.name for folder in HEADGAS.models.glob("*/avatar.json"))
    pairs = [f"{target}{PAIR}{driver}" for target, driver in list(cross_pairs(subjects))[: len(subjects)]]
    judge = JudgeAvatar(HEADGAS, judging_step("bench", JudgeAvatar, HEADGAS, load_params()).params)
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate([subjects[0], *subjects, *pairs]):
            spent.clear()
            if number == 1:
                judge.seen.clear()
            start = time.process_time()
            judge(Item(name, "0"), None, Cache(folder).writer(f"{number:02x}" * 32))
            print(f"{name:24} {time.process_time() - start:6.2f} s, of which faces {sum(spent):5.2f} s", flush=True)


if __name__ == "__main__":
    main()
