"""SFace's file, which the user may have: whether avatars are judged by CSIM, and loudly where that was asked for in vain."""

from __future__ import annotations

from pathlib import Path

from avatar_models.face_embedding import SFACE_SHA256, SFACE_URL, FaceEmbedder, load_sface
from pipelines.lpips_asset import Named, warn_not_published, warn_off
from pipelines.params import Evaluate
from pipelines.perceptual_asset import ABSENT, content_of


def csim_file(evaluate: Evaluate) -> Named:
    return Named("evaluate.sface_weights", evaluate.sface_weights, SFACE_URL, SFACE_SHA256)


def csim_assets(evaluate: Evaluate) -> dict[str, str]:
    """sha256 of the file, ABSENT where it is not there; nothing where CSIM is not asked for."""
    return {"sface": content_of(evaluate.sface_weights)} if evaluate.sface_weights else {}


def face_embedder(evaluate: Evaluate) -> FaceEmbedder | None:
    """SFace; None where CSIM is off: not asked for, or the file is not there. Raises FaceNetworkError for a file of no use."""
    path = Path(evaluate.sface_weights)
    return load_sface(path) if path.is_file() else None


def say_csim_is_off(evaluate: Evaluate) -> None:
    """Loudly, once: a figure that was asked for and is not given, or is not that of the published file.

    Raises FaceNetworkError for a file of no use.
    """
    face_embedder(evaluate)
    file = csim_file(evaluate)
    for content in csim_assets(evaluate).values():
        if content == ABSENT:
            warn_off("CSIM", file, file)
        elif content != file.sha256:
            warn_not_published("CSIM is not SFace's", file, content)
