"""One page to open."""

from __future__ import annotations

from pathlib import Path

import torch

from pipelines.main import run_stage
from pipelines.params import load_params
from pipelines.report import write_report
from pipelines.runs import stage_run

PAGE = Path("report/report.html")


def main() -> None:
    params = load_params()
    torch.set_num_threads(1)  # sums in another order with each number of threads, and so other bits in the videos
    with stage_run("report", params) as run:
        write_report(PAGE, params)
        run.log_artifact(PAGE)
        print(f"report: open {PAGE} ({PAGE.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_stage(main)
