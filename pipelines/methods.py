"""The methods that make one avatar of each subject: where their tracks, avatars and figures lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.params import Params, TrainHeadgas, TrainNpga
from pipelines.subject import NPHM_TRACKS_FOLDER, TRACKS_FOLDER


@dataclass(frozen=True)
class Method:
    """A method and its folders, which lie in the project's."""

    judged_by: str
    """The stage."""
    tracks: Path
    models: Path
    evaluation: Path
    metrics: Path
    """Means over the subjects, for DVC."""
    plot: Path
    trained_with: str
    """The block of params.yaml."""

    def options(self, params: Params) -> TrainHeadgas | TrainNpga:
        """What it is trained with: among it the resolution and the background of its pictures."""
        found: TrainHeadgas | TrainNpga = getattr(params, self.trained_with)
        return found

    @property
    def subjects(self) -> Path:
        """Each subject's figures; those that begin with cross_ are means over its drivers."""
        return self.evaluation / "subjects.json"

    @property
    def pairs(self) -> Path:
        """Each pair's, by "target<driver"."""
        return self.evaluation / "pairs.json"


HEADGAS = Method(
    "evaluate", TRACKS_FOLDER, Path("models/headgas"), Path("data/evaluation"), Path("metrics/evaluate.json"),
    Path("plots/evaluate_psnr.csv"), "train_headgas",
)  # fmt: skip
NPGA = Method(
    "evaluate_npga", NPHM_TRACKS_FOLDER, Path("models/npga"), Path("data/evaluation_npga"),
    Path("metrics/evaluate_npga.json"), Path("plots/evaluate_npga_psnr.csv"), "train_npga",
)  # fmt: skip
