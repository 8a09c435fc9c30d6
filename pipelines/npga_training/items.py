"""Who gets an NPGA, and under which key."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from avatar_models.model_folder import TENSORS
from pipelines.atomic import sha256_file
from pipelines.fanout import Item, Step
from pipelines.npga_training.trainer import VERSION, NpgaTrainer
from pipelines.params import Params
from pipelines.subject import NPHM_PRIOR, NPHM_TRACKS_FOLDER
from pipelines.training_items import training_items

FORWARD = Path("models/nphm_forward")


def npga_items(params: Params, root: Path = Path()) -> list[Item]:
    """An item for each subject that was tracked with the neural head; none where no steps are wanted or no field is there."""
    if not params.train_npga.steps or not (root / FORWARD / TENSORS).exists():
        return []
    return training_items(root, NPHM_TRACKS_FOLDER)


def npga_step(params: Params, root: Path = Path()) -> Step:
    """Where data and models lie, and how often a checkpoint is written, stay out of the key; of models the content counts."""
    options = params.train_npga.as_key()
    every = options.pop("checkpoint_every")
    own = {"train_npga": options, "test_fraction": params.catalog.test_fraction}
    prior, forward = (root / NPHM_PRIOR).resolve(), (root / FORWARD).resolve()
    worker = partial(NpgaTrainer, checkpoint_every=every, prior=prior, forward=forward, root=root)
    assets = {"nphm": sha256_file(prior / TENSORS), "nphm_forward": sha256_file(forward / TENSORS)}
    return Step("train_npga", VERSION, worker, own, params.compute.train, assets)
