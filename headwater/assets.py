"""The model files that the product loads, and whether they are what they should be."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from avatar_models.heads.procedural import procedural_head
from pipelines.csim_asset import csim_named
from pipelines.lineage import detector_hashes
from pipelines.lpips_asset import Named, named_files
from pipelines.params import PARAMS_FILE, Evaluate, TrainHeadgas, load_params
from pipelines.perceptual_asset import ABSENT, content_of


@dataclass(frozen=True)
class Asset:
    """One file's origin and digest."""

    name: str
    origin: str
    licence: str
    sha256: str


MEDIAPIPE_VERSION = "0.10.21"
MEDIAPIPE = f"mediapipe {MEDIAPIPE_VERSION} (in the wheel)"
REINSTALL = f"pip install --force-reinstall mediapipe=={MEDIAPIPE_VERSION}"
"""The way out where one of the wheel's files has changed: pip leaves a version that is there as it is, unless it is forced."""
DETECTOR = (
    Asset(
        "face_detection_short_range",
        MEDIAPIPE,
        "Apache-2.0",
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    ),
    Asset(
        "face_detection_full_range_sparse",
        MEDIAPIPE,
        "Apache-2.0",
        "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
    ),
    Asset(
        "face_landmark_with_attention",
        MEDIAPIPE,
        "Apache-2.0",
        "e06a804e0144f9929eda782122916b35d60c697c3c9344013ca2bbe76a6ce2b4",
    ),
    Asset(
        "selfie_segmentation",
        MEDIAPIPE,
        "Apache-2.0",
        "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
    ),
)


def is_intact(asset: Asset) -> bool:
    """Whether the installed file is the one that this version was built on."""
    return detector_hashes().get(asset.name) == asset.sha256


LICENCES = {
    "vgg16": "BSD-3-Clause (torchvision)",
    "lpips_vgg": "BSD-2-Clause (PerceptualSimilarity)",
    "csim_sface": "Apache-2.0 (OpenCV Zoo)",
    "csim_arcface": "a network of your own, under its own licence",
}
"""Of the files that a user may add."""


def state_of(file: Named) -> tuple[bool, str]:
    """Whether a file that may be added is there or not asked for, and how it stands with it, as markup."""
    if not file.path:
        return True, f"not in use: {file.parameter} is empty"
    path, content = escape(file.path), content_of(file.path)
    if content == ABSENT:
        return False, f"[red]{path}: no such file; {file.parameter} names it[/red]"
    if not file.sha256:
        return True, f"[green]ok[/green]: {path}, sha256 {content}"
    if content != file.sha256:
        return True, f"[yellow]{path}: not the published file, its sha256 is {content}[/yellow]"
    return True, f"[green]ok[/green]: {path}"


def show_added(console: Console, train: TrainHeadgas, evaluate: Evaluate) -> bool:
    """Prints the files that a user may add, with address and sha256; returns whether those that are named are there."""
    good = True
    console.print("Files that you may add, for the perceptual loss and LPIPS (docs/headgas.md) and for CSIM:")
    for name, file in {**named_files(train, evaluate), f"csim_{evaluate.csim_network}": csim_named(evaluate)}.items():
        there, state = state_of(file)
        good &= there
        published = (f"  {file.url}", f"  sha256 {file.sha256}") if file.sha256 else ()
        for line in (f"{name}, {LICENCES[name]}: {state}", *published):
            console.print(line, highlight=False, soft_wrap=True)
    return good


def show_assets(console: Console) -> bool:
    """Prints every asset with its state; returns whether all are as they should be. Raises ParamsError."""
    table = Table("asset", "from", "licence", "sha256", "state")
    good = True
    for asset in DETECTOR:
        same = is_intact(asset)
        good &= same
        state = "[green]ok[/green]" if same else f"[red]not the file that this version was built on: {REINSTALL}[/red]"
        table.add_row(asset.name, asset.origin, asset.licence, asset.sha256[:16], state)
    table.add_row("head procedural", "this project", "Apache-2.0", procedural_head().hash()[:16], "[green]ok[/green]")
    console.print(table)
    params = load_params() if PARAMS_FILE.exists() else None  # outside of a project no file is named
    train, evaluate = (params.train_headgas, params.evaluate) if params else (TrainHeadgas(), Evaluate())
    return show_added(console, train, evaluate) and good
