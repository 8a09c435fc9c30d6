"""How a stage's program ends when something expected goes wrong: one clear message, no traceback, exit status 1."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from avatar_models.avatar import AvatarError
from avatar_models.heads.storage import HeadFileError
from avatar_models.perceptual import PerceptualWeightsError
from avatar_models.tracking.landmarker_file import LandmarkerError
from pipelines.atomic import DiskFull
from pipelines.cache import CacheUnusable, DamagedEntry
from pipelines.cluster import ClusterUnreachable
from pipelines.fanout import RunStopped, TooManyQuarantined
from pipelines.fanout.dispatcher import ClusterTooSmall
from pipelines.heads import HeadError
from pipelines.params import ParamsError
from pipelines.sources import SourceError
from pipelines.tables import SchemaError
from pipelines.tracking import TrackingUnreachable
from pipelines.yaml_files import YamlFileError

EXPECTED = (
    AvatarError, CacheUnusable, ClusterTooSmall, ClusterUnreachable, DamagedEntry, DiskFull, HeadError,
    HeadFileError, LandmarkerError, ParamsError, PerceptualWeightsError, RunStopped,
    SchemaError, SourceError, TooManyQuarantined, TrackingUnreachable, YamlFileError,
)  # fmt: skip


def run_stage(main: Callable[[], None]) -> None:
    """Calls main; an expected error is printed alone."""
    try:
        main()
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        if "DVC_STAGE" in os.environ:
            print(
                "DVC took this stage's old outs away as it began: `dvc checkout` brings them back.", file=sys.stderr, flush=True
            )
        sys.exit(1)
