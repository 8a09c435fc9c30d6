"""CSIM's file, which the user may have: whether avatars are judged by it, by which network, and loudly where that was asked for
in vain.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from avatar_models.face_embedding import SFACE_SHA256, SFACE_URL, FaceEmbedder, load_arcface, load_sface
from pipelines.atomic import write_bytes_atomic
from pipelines.lpips_asset import Named, warn_not_published, warn_off
from pipelines.params import CsimNetwork, Evaluate
from pipelines.perceptual_asset import ABSENT, content_of, warn, why_absent

NETWORK_TAG = "headwater.csim"
"""Tag of a run: the network that its CSIM is of, or `off`."""
RECORD = "csim.json"
"""Beside figures in a stage's out: the network that their CSIM is of, and its file's sha256; empty where CSIM is off."""
LOADERS: Mapping[CsimNetwork, Callable[[Path], FaceEmbedder]] = {"sface": load_sface, "arcface": load_arcface}
TITLES: Mapping[str, str] = {"sface": "SFace", "arcface": "ArcFace"}


@dataclass(frozen=True)
class CsimFile:
    """A network's file that is there: where it lies, absolute, and what it is."""

    path: Path
    network: CsimNetwork

    def load(self) -> FaceEmbedder:
        """Raises FaceNetworkError for a file of no use."""
        return LOADERS[self.network](self.path)


@dataclass(frozen=True)
class CsimRecord:
    """What a stage's CSIM is of: the network as people call it, and its file."""

    title: str
    sha256: str


def csim_named(evaluate: Evaluate) -> Named:
    """The file as params.yaml names it; of ArcFace there is no single published file, so its address and sha256 are empty."""
    published = (SFACE_URL, SFACE_SHA256) if evaluate.csim_network == "sface" else ("", "")
    return Named("evaluate.csim_weights", evaluate.csim_weights, *published)


def csim_assets(evaluate: Evaluate) -> dict[str, str]:
    """sha256 of the file by its network's name, ABSENT where it is not there; nothing where CSIM is not asked for."""
    return {f"csim_{evaluate.csim_network}": content_of(evaluate.csim_weights)} if evaluate.csim_weights else {}


def csim_file(evaluate: Evaluate) -> CsimFile | None:
    """The file; None where CSIM is off: not asked for, or the file is not there."""
    path = Path(evaluate.csim_weights)
    return CsimFile(path.resolve(), evaluate.csim_network) if path.is_file() else None


def csim_tag(evaluate: Evaluate) -> dict[str, str]:
    """NETWORK_TAG of a run that judges."""
    file = csim_file(evaluate)
    return {NETWORK_TAG: "off" if file is None else file.network}


def write_csim_record(folder: Path, evaluate: Evaluate) -> None:
    """Says beside a stage's figures what their CSIM is of."""
    file = csim_file(evaluate)
    found = {} if file is None else {"network": file.network, "sha256": content_of(str(file.path))}
    write_bytes_atomic(folder / RECORD, (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())


def read_csim_record(folder: Path) -> CsimRecord | None:
    """What CSIM in a stage's out is of; None where it is off."""
    found = json.loads((folder / RECORD).read_text())
    return CsimRecord(TITLES[found["network"]], found["sha256"]) if found else None


def say_csim_is_off(evaluate: Evaluate) -> None:
    """Loudly, once: a figure that was asked for and is not given, or is of another network than one might think.

    Raises FaceNetworkError for a file of no use.
    """
    there = csim_file(evaluate)
    if there is not None:
        there.load()
    say = {"sface": _say_of_sface, "arcface": _say_of_arcface}[evaluate.csim_network]
    for content in csim_assets(evaluate).values():
        say(csim_named(evaluate), content)


def _say_of_sface(file: Named, content: str) -> None:
    if content == ABSENT:
        warn_off("CSIM", file, file)
    elif content != SFACE_SHA256:
        warn_not_published("CSIM is not SFace's (evaluate.csim_network can be arcface too)", file, content)


def _say_of_arcface(file: Named, content: str) -> None:
    if content == ABSENT:
        warn(
            f"CSIM is OFF, {file.parameter} = {file.path} notwithstanding: {why_absent(file.path, file.parameter)}.",
            f"Name an ONNX file of a network of the ArcFace kind there, or set {file.parameter}: ''.",
        )
    elif content == SFACE_SHA256:
        warn(f"CSIM feeds SFace with ArcFace's colours: {file.path} is OpenCV's SFace.", "Set evaluate.csim_network: sface.")
    else:
        told = f"CSIM is of {file.path}, a network of the ArcFace kind (sha256 {content}); there is no single published one, "
        print(f"{told}so it compares with figures of this file alone.", file=sys.stderr, flush=True)
