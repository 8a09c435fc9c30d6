"""How a stage's program ends when something expected goes wrong: one clear message, no traceback, exit status 1."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from avatar_models.avatar import AvatarError
from avatar_models.face_embedding import FaceNetworkError
from avatar_models.heads.storage import HeadFileError
from avatar_models.model_folder import ModelError
from avatar_models.perceptual import PerceptualWeightsError
from avatar_models.tracking.landmarker_file import LandmarkerError
from pipelines.atomic import DiskFull
from pipelines.cache import CacheUnusable, DamagedEntry
from pipelines.cluster import ClusterUnreachable
from pipelines.fanout import RunStopped, TooManyQuarantined
from pipelines.fanout.dispatcher import ClusterTooSmall
from pipelines.heads import HeadError
from pipelines.lineage import locked_stages
from pipelines.params import ParamsError
from pipelines.sources import SourceError
from pipelines.tables import SchemaError
from pipelines.tracking import TrackingUnreachable
from pipelines.yaml_files import YamlFileError

EXPECTED = (
    AvatarError, CacheUnusable, ClusterTooSmall, ClusterUnreachable, DamagedEntry, DiskFull, FaceNetworkError, HeadError,
    HeadFileError, LandmarkerError, ModelError, ParamsError, PerceptualWeightsError, RunStopped,
    SchemaError, SourceError, TooManyQuarantined, TrackingUnreachable, YamlFileError,
)  # fmt: skip


INTERRUPTED = 130
"""128 and the number of SIGINT: what shells and DVC take for a program that Ctrl-C has ended."""


def run_stage(main: Callable[[], None]) -> None:
    """Calls main; an expected error, or Ctrl-C, is told in one line."""
    try:
        main()
    except EXPECTED as error:
        give_up(f"error: {error}", 1)
    except KeyboardInterrupt:
        give_up("stopped by Ctrl-C: what is finished is kept, and `dvc repro` goes on from there", INTERRUPTED)


def give_up(message: str, status: int) -> NoReturn:
    """Ends the program with a message, and a word about the outs of the run before."""
    print(message, file=sys.stderr, flush=True)
    stage = os.environ.get("DVC_STAGE", "")
    if can_be_brought_back(stage):
        back = f"`dvc checkout {stage}` brings them back."
        print(f"DVC took this stage's old outs away as it began: {back}", file=sys.stderr, flush=True)
    sys.exit(status)


def can_be_brought_back(stage: str) -> bool:
    """Whether DVC's cache holds outs that dvc.lock names for a stage: of a new clone it holds none."""
    outs = [out["md5"] for out in locked_stages().get(stage, {}).get("outs", []) if "md5" in out] if stage else []
    if not outs:
        return False
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            return any(repo.cache.local.exists(found) for found in outs)
    except DvcException:
        return False
