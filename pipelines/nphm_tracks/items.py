"""Who is tracked with the neural head, and under which key."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from avatar_models.model_folder import TENSORS
from pipelines.atomic import sha256_file
from pipelines.fanout import Item, Step
from pipelines.nphm_tracks.tracker import VERSION, NphmTracker
from pipelines.params import Params
from pipelines.training_items import training_items

PRIOR = Path("models/nphm")


def tracking_items(root: Path = Path()) -> list[Item]:
    """An item for each subject with a segment that passed; none where there is no prior."""
    return training_items(root) if (root / PRIOR / TENSORS).exists() else []


def tracking_step(params: Params, root: Path = Path()) -> Step:
    """Where data and prior lie stays out of the key; of the prior the content counts."""
    prior = root / PRIOR
    worker = partial(NphmTracker, prior=str(prior.resolve()), root=root)
    assets = {"nphm": sha256_file(prior / TENSORS)}
    return Step("track_nphm", VERSION, worker, params.track_nphm.as_key(), params.compute.train, assets)
