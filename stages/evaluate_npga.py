"""NPGA avatars on held-out frames, self and cross reenactment."""

from __future__ import annotations

from pipelines.avatar_evaluation import judge_avatars
from pipelines.main import run_stage
from pipelines.methods import NPGA


def main() -> None:
    judge_avatars(NPGA)


if __name__ == "__main__":
    run_stage(main)
