"""The model files that the product loads, and whether they are what they should be."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from avatar_models.heads.procedural import procedural_head
from pipelines.lineage import detector_hashes


@dataclass(frozen=True)
class Asset:
    """One file's origin and digest."""

    name: str
    origin: str
    licence: str
    sha256: str


MEDIAPIPE = "mediapipe 0.10.21 (in the wheel)"
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


def show_assets(console: Console) -> bool:
    """Prints every asset with its state; returns whether all are as they should be."""
    table = Table("asset", "from", "licence", "sha256", "state")
    good = True
    for asset in DETECTOR:
        same = is_intact(asset)
        good &= same
        state = (
            "[green]ok[/green]"
            if same
            else "[red]not the file that this version was built on: pip install mediapipe==0.10.21[/red]"
        )
        table.add_row(asset.name, asset.origin, asset.licence, asset.sha256[:16], state)
    table.add_row("head procedural", "this project", "Apache-2.0", procedural_head().hash()[:16], "[green]ok[/green]")
    console.print(table)
    return good
