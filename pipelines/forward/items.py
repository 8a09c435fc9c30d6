"""What distill_forward does, and under which key."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from avatar_models.model_folder import TENSORS
from pipelines.atomic import sha256_file
from pipelines.cache import UNFINISHED, absolute_uri
from pipelines.fanout import Item, Step
from pipelines.fleet.ray_train import item_workers
from pipelines.forward.setup import Recipe
from pipelines.forward.trainer import ELSEWHERE, VERSION, ForwardTrainer
from pipelines.keys import digest
from pipelines.params import Params
from pipelines.subject import NPHM_PRIOR

FIELD = "field"


def forward_items(params: Params, root: Path = Path()) -> list[Item]:
    """The one item, which depends on the prior; none where there is no prior or nothing is wanted."""
    weights = root / NPHM_PRIOR / TENSORS
    return [Item(FIELD, digest(sha256_file(weights)))] if params.distill_forward.steps and weights.exists() else []


def forward_step(params: Params, root: Path = Path()) -> Step:
    """Where the prior lies, and on how many processes it is done, stay out of the key."""
    options, fleet = params.distill_forward.as_key(), params.compute.forward
    recipe = Recipe(options, str((root / NPHM_PRIOR).resolve()))
    storage = f"{absolute_uri(params.compute.cache)}/{UNFINISHED}"
    worker = partial(ForwardTrainer, recipe=recipe, fleet=fleet, storage=storage)
    key = {name: value for name, value in options.items() if name not in ELSEWHERE}
    return Step("distill_forward", VERSION, worker, key, item_workers(fleet), {})
