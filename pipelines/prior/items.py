"""What train_nphm does, and under which key."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pipelines.atomic import sha256_file
from pipelines.cache import UNFINISHED, absolute_uri
from pipelines.fanout import Item, Step
from pipelines.fleet.ray_train import item_workers
from pipelines.keys import digest
from pipelines.params import Params, ParamsError
from pipelines.prior.setup import Recipe
from pipelines.prior.trainer import ELSEWHERE, VERSION, PriorTrainer

PRIOR = "prior"


def prior_item() -> Item:
    """All that it depends on is in the step's key."""
    return Item(PRIOR, digest([]))


def prior_step(params: Params) -> Step:
    """Where the head's file lies, and on how many processes it is done, stay out of the key. Raises ParamsError."""
    options = params.train_nphm.as_key()
    file = params.train_nphm.head_file
    fleet = params.compute.nphm
    recipe = Recipe(options, str(Path(file).resolve()) if file else "")
    worker = partial(PriorTrainer, recipe=recipe, fleet=fleet, storage=f"{absolute_uri(params.compute.cache)}/{UNFINISHED}")
    key = {name: value for name, value in options.items() if name not in ELSEWHERE}
    return Step("train_nphm", VERSION, worker, key, item_workers(fleet), head_asset(params))


def head_asset(params: Params) -> dict[str, str]:
    """sha256 of the head's file; of a folder of files, of all of them. Raises ParamsError."""
    options = params.train_nphm
    if options.scans == "procedural":
        return {}
    path = Path(options.head_file)
    if not options.head_file or not path.exists():
        raise ParamsError(f"train_nphm.head_file = {options.head_file!r}: {options.scans} needs its file there; it is not")
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {options.scans: digest([sha256_file(file) for file in files if file.is_file()])}
