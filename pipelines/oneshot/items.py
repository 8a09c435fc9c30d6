"""What train_oneshot and evaluate_oneshot do, and under which keys."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from avatar_models.gagavatar.storage import DINOV2_URL
from avatar_models.model_folder import FACTS, TENSORS
from avatar_models.perceptual import VGG16_URL
from pipelines import tables
from pipelines.atomic import sha256_file
from pipelines.cache import UNFINISHED, absolute_uri
from pipelines.csim_asset import csim_assets, csim_file
from pipelines.fanout import Item, Step
from pipelines.fleet.ray_train import item_workers
from pipelines.keys import digest
from pipelines.lpips_asset import lpips_assets, lpips_files
from pipelines.oneshot.evaluation import VERSION as JUDGING_VERSION
from pipelines.oneshot.evaluation import JudgeOneshot
from pipelines.oneshot.people import train_and_test
from pipelines.oneshot.setup import OF_A_FRESH_MODEL, Recipe
from pipelines.oneshot.trainer import VERSION, OneshotTrainer
from pipelines.params import Params, ParamsError
from pipelines.perceptual_asset import ABSENT, content_of, warn, why_absent
from pipelines.splits import subjects_that_passed
from pipelines.subject import TRACKS_FOLDER

MODEL = "model"
ELSEWHERE = ("checkpoint_every", "backbone_weights", "start_from", "test_subjects")
"""Options of which the content counts (who is trained on is in the item), or that change nothing."""


def model_item(params: Params, root: Path = Path()) -> Item:
    """The item: it depends on the segments of those who are trained on. Raises ParamsError."""
    segments = segments_of(root)
    train, _ = train_and_test(subjects_that_passed(segments), params.train_oneshot.test_subjects)
    return Item(MODEL, digest(data_of(segments, train)))


def segments_of(root: Path = Path()) -> pa.Table:
    return tables.read_table(root / TRACKS_FOLDER / "segments.parquet", tables.SEGMENTS)


def data_of(segments: pa.Table, subjects: Sequence[str]) -> list[str]:
    """What the segments of some subjects that passed hold."""
    theirs = pc.is_in(segments["subject_id"], pa.array(subjects, pa.string()))
    return sorted(segments["fingerprint"].filter(pc.and_(segments["passed"], theirs)).to_pylist())


def model_step(params: Params, root: Path = Path()) -> Step:
    """Where data and weights lie, and on how many processes it is done, stay out of the key. Raises ParamsError."""
    options: dict[str, Any] = params.train_oneshot.as_key()
    assets = weights_of(params)
    perceptual = params.train_headgas.perceptual_weights if assets.get("vgg16", ABSENT) != ABSENT else ""
    recipe = Recipe(options, str(Path(perceptual).resolve()) if perceptual else "", str(root.resolve()))
    fleet = params.compute.oneshot
    worker = partial(OneshotTrainer, recipe=recipe, fleet=fleet, storage=f"{absolute_uri(params.compute.cache)}/{UNFINISHED}")
    idle = ELSEWHERE + (OF_A_FRESH_MODEL if params.train_oneshot.start_from else ())
    key = {name: value for name, value in options.items() if name not in idle}
    return Step("train_oneshot", VERSION, worker, key, item_workers(fleet), assets)


def judging_step(params: Params) -> Step:
    """A step of JudgeOneshot. Where the files of LPIPS and CSIM lie stays out of the key; their content is in it."""
    judge = partial(JudgeOneshot, lpips_files=lpips_files(params), csim_file=csim_file(params.evaluate))
    assets = lpips_assets(params) | csim_assets(params.evaluate)
    options = {"max_frames": params.evaluate.max_frames}
    return Step("evaluate_oneshot", JUDGING_VERSION, judge, options, params.compute.render, assets)


def weights_of(params: Params) -> dict[str, str]:
    """sha256 of each file of weights that training reads; the perceptual loss's may be absent. Raises ParamsError."""
    options = params.train_oneshot
    found = {}
    if options.lambda_perceptual > 0:
        found["vgg16"] = content_of(params.train_headgas.perceptual_weights)
    if options.backbone_weights:
        found["dinov2"] = _needed(Path(options.backbone_weights), "backbone_weights")
    if options.start_from:
        for name in (TENSORS, FACTS):
            found[name] = _needed(Path(options.start_from) / name, "start_from")
    return found


def say_what_is_off(params: Params) -> None:
    """Loudly, once: what a user would expect of the options and does not get. Raises PerceptualWeightsError."""
    options = params.train_oneshot
    if weights_of(params).get("vgg16") == ABSENT:
        why = why_absent(params.train_headgas.perceptual_weights, "train_headgas.perceptual_weights")
        warn(
            f"the perceptual loss is OFF, lambda_perceptual = {options.lambda_perceptual} notwithstanding: {why}.",
            f"Get {VGG16_URL} and name it there, or set lambda_perceptual: 0.",
        )
    if options.start_from:
        print(
            f"train_oneshot starts from {options.start_from}, whose sizes, variant and vertices stay, whatever params.yaml says"
        )
    if options.sizes == "published" and not options.backbone_weights and not options.start_from:
        warn(
            "the transformer of the published size is trained from nothing: train_oneshot.backbone_weights is empty.",
            f"The published training has DINOv2's weights, {DINOV2_URL} (346 MB): name the file there.",
        )


def _needed(path: Path, option: str) -> str:
    if not path.is_file():
        raise ParamsError(f"train_oneshot.{option}: {path} is not there; name what is, or leave it empty")
    return sha256_file(path)
