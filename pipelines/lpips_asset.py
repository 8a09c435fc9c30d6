"""LPIPS's files, which the user may have: whether avatars are judged by it, and loudly where that was asked for in vain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avatar_models.lpips import LPIPS_SHA256, LPIPS_URL, load_lpips
from avatar_models.perceptual import VGG16_SHA256, VGG16_URL
from pipelines.params import Evaluate, Params, TrainHeadgas
from pipelines.perceptual_asset import ABSENT, content_of, warn, why_absent

ON_TAG = "headwater.lpips"
"""Tag of a run: whether its figures have LPIPS."""


@dataclass(frozen=True)
class LpipsFiles:
    """Where the two files lie, absolute."""

    vgg16: Path
    linear: Path


@dataclass(frozen=True)
class Named:
    """A file that a figure needs: the parameter that names it, what it says, and the published file."""

    parameter: str
    path: str
    url: str
    sha256: str


def named_files(train: TrainHeadgas, evaluate: Evaluate) -> dict[str, Named]:
    """By the asset's name."""
    return {
        "vgg16": Named("train_headgas.perceptual_weights", train.perceptual_weights, VGG16_URL, VGG16_SHA256),
        "lpips_vgg": Named("evaluate.lpips_weights", evaluate.lpips_weights, LPIPS_URL, LPIPS_SHA256),
    }


def lpips_assets(params: Params) -> dict[str, str]:
    """sha256 of both files, ABSENT for one that is not there; nothing where LPIPS is not asked for."""
    if not params.evaluate.lpips_weights:
        return {}
    return {name: content_of(file.path) for name, file in named_files(params.train_headgas, params.evaluate).items()}


def lpips_files(params: Params) -> LpipsFiles | None:
    """Both files; None where LPIPS is off: not asked for, or one of them is not there."""
    if not params.evaluate.lpips_weights:
        return None
    paths = [Path(file.path) for file in named_files(params.train_headgas, params.evaluate).values()]
    return LpipsFiles(*(path.resolve() for path in paths)) if all(path.is_file() for path in paths) else None


def say_lpips_is_off(params: Params) -> None:
    """Loudly, once: a figure that was asked for and is not given, or is not the published one.

    Raises PerceptualWeightsError for files of no use.
    """
    files = lpips_files(params)
    if files is not None:
        load_lpips(files.vgg16, files.linear)
    found = lpips_assets(params)
    named = named_files(params.train_headgas, params.evaluate)
    for name, content in found.items():
        file = named[name]
        if content == ABSENT:
            warn_off("LPIPS", named["lpips_vgg"], file)
        elif content != file.sha256 and files is not None:
            warn_not_published("LPIPS is not that of papers", file, content)


def warn_off(figure: str, switch: Named, file: Named) -> None:
    """Of a figure that `switch` asks for, because `file` is not there."""
    warn(
        f"{figure} is OFF, {switch.parameter} = {switch.path} notwithstanding: {why_absent(file.path, file.parameter)}.",
        f"Get {file.url} (sha256 {file.sha256[:16]}...) and name it there, or set {switch.parameter}: ''.",
    )


def warn_not_published(what: str, file: Named, content: str) -> None:
    """`what` is the matter because the file, whose sha256 is `content`, is another than the published one."""
    warn(
        f"{what}: {file.path} is not the published file (sha256 {content[:16]}...).",
        f"Figures to compare need {file.url} (sha256 {file.sha256[:16]}...) as {file.parameter}.",
    )
