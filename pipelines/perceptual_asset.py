"""VGG16's weights, a file that the user may have: whether the loss can compare perceptually, and loudly where it cannot."""

from __future__ import annotations

import sys
from pathlib import Path

from avatar_models.perceptual import VGG16_SHA256, VGG16_URL, load_vgg16
from pipelines.atomic import sha256_file
from pipelines.params import TrainHeadgas

ABSENT = "absent"
ON_TAG = "headwater.perceptual_loss"
"""Tag of a subject's run: whether its avatar was trained with the term."""


def perceptual_asset(options: TrainHeadgas) -> dict[str, str]:
    """sha256 of VGG16's weights, ABSENT where the loss asks for them and they are not there; nothing where it does not."""
    if options.lambda_perceptual == 0:
        return {}
    return {"vgg16": content_of(options.perceptual_weights)}


def content_of(path: str) -> str:
    """sha256 of a file that the user may have named; ABSENT where there is none."""
    return sha256_file(Path(path)) if Path(path).is_file() else ABSENT


def perceptual_is_off(options: TrainHeadgas) -> bool:
    """Whether nothing is compared perceptually: not asked for, or no weights."""
    return options.lambda_perceptual == 0 or not Path(options.perceptual_weights).is_file()


def say_what_is_off(options: TrainHeadgas) -> None:
    """Loudly, once: a loss that the user asked for and does not get. Raises PerceptualWeightsError for weights of no use."""
    if options.lambda_perceptual == 0:
        return
    if not perceptual_is_off(options):
        load_vgg16(Path(options.perceptual_weights))
    else:
        why = why_absent(options.perceptual_weights, "train_headgas.perceptual_weights")
        warn(
            f"the perceptual loss is OFF, lambda_perceptual = {options.lambda_perceptual} notwithstanding: {why}.",
            f"Get {VGG16_URL} (sha256 {VGG16_SHA256[:16]}...) and name it there, or set lambda_perceptual: 0.",
        )


def why_absent(path: str, parameter: str) -> str:
    """Why there is no file that a parameter may name."""
    return f"{path}: no such file" if path else f"{parameter} is empty"


def warn(what: str, way_out: str) -> None:
    print(f"WARNING: {what}\n         {way_out}", file=sys.stderr, flush=True)
