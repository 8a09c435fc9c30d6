"""The head model that params.yaml names, with its landmark embedding, which is computed once and kept."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from torch import Tensor

from avatar_models.heads.embedding import EmbeddingError, LandmarkEmbedding, load_embedding, save_embedding
from avatar_models.heads.flame import FlameFileError, FlameModel, read_flame, with_eyelids
from avatar_models.heads.flame_landmarks import MEDIAPIPE_FILE, SurfacePoints, read_mediapipe_landmarks
from avatar_models.heads.ict import IctFileError, IctModel, read_ict
from avatar_models.heads.interface import Head
from avatar_models.heads.procedural import procedural_head
from avatar_models.heads.skinning import Rig
from pipelines.atomic import atomic_path
from pipelines.keys import digest_arrays

EMBEDDINGS = Path(".headwater/heads")
FLAME_COMPANIONS = (MEDIAPIPE_FILE, "FLAME_masks.pkl")
"""What may lie beside a FLAME model in its folder and is none."""
VERSION = 2  # raised when embeddings come out otherwise


class HeadError(ValueError):
    """The head that params.yaml names cannot be had; the message says why and what to do."""


@cache
def load_head(name: str, file: str) -> Head:
    """The head: procedural, or ict or flame from the user's file. A new one is shown to the detector, for a minute.

    Raises HeadError.
    """
    if name == "procedural":
        return procedural_head()
    model = read_model(name, file)
    rig = model.rig.to(dtype=model.rig.template.float().dtype)
    known = _known_places(Path(file), len(model.faces)) if name == "flame" else None
    given = () if known is None else (known[0], known[1].faces, known[1].barycentric)
    key = digest_arrays([array.numpy() for array in (*rig.arrays(), model.faces, *given)])
    path = EMBEDDINGS / f"{name}-{key[:16]}-v{VERSION}.npz"
    try:
        embedding = load_embedding(path, len(model.faces))
    except (FileNotFoundError, EmbeddingError) as error:
        if not isinstance(error, FileNotFoundError):  # a power cut may have cut it short
            print(f"{error}", flush=True)
        embedding = _embedded(name, file, rig, model, known, path)
    return Head(name, rig, model.faces, model.expression_names, name == "ict", embedding, model.masks)


def read_model(name: str, file: str) -> IctModel | FlameModel:
    """The model ict or flame from the user's file, without an embedding. Raises HeadError."""
    if not file:
        raise HeadError(f"preprocess.head = {name} needs preprocess.head_file in params.yaml: {_wanted(name)}")
    try:
        return read_ict(Path(file)) if name == "ict" else _flame(Path(file))
    except (IctFileError, FlameFileError) as error:
        raise HeadError(str(error)) from None
    except OSError as error:
        raise HeadError(f"preprocess.head_file {file}: {error.strerror}; {_wanted(name)}") from None


def _known_places(folder: Path, num_faces: int) -> tuple[Tensor, SurfacePoints] | None:
    """Where FLAME's owners say that some of the detector's points are, if their file lies beside the model."""
    path = folder / MEDIAPIPE_FILE
    if not folder.is_dir() or not path.exists():
        return None
    try:
        return read_mediapipe_landmarks(path, num_faces)
    except FlameFileError as error:
        raise HeadError(f"{error}. Take it away, and its points are found as the others are") from None


def _embedded(
    name: str, file: str, rig: Rig, model: IctModel | FlameModel, places: tuple[Tensor, SurfacePoints] | None, path: Path
) -> LandmarkEmbedding:
    """Shows the head to the detector and keeps what comes of it, with its report."""
    from avatar_models.tracking.embedding import KnownPlaces, embed

    known = None
    if places is not None:
        known = KnownPlaces(places[0].numpy(), places[1].faces.numpy(), places[1].barycentric.numpy())
    print(f"{name}: finding the detector's points on the head, once for this file (about a minute)...", flush=True)
    try:
        embedding, report = embed(rig, model.faces, model.masks, name == "ict", known=known)
    except ValueError as error:
        raise HeadError(f"preprocess.head_file {file}: {error}") from None
    with atomic_path(path) as temporary:
        save_embedding(temporary, embedding)
    path.with_suffix(".txt").write_text("\n".join(report.lines()) + "\n")
    print("\n".join(report.lines()), flush=True)
    return embedding


def _flame(path: Path) -> FlameModel:
    """FLAME from its file, or from a folder with that one file, its companions and, if there, l_eyelid.npy and r_eyelid.npy."""
    if not path.is_dir():
        return read_flame(path)
    models = sorted(
        found for found in path.iterdir() if found.suffix in (".pkl", ".npz") and found.name not in FLAME_COMPANIONS
    )
    if len(models) != 1:
        names = ", ".join(found.name for found in models) or "none"
        raise HeadError(f"preprocess.head_file {path}: one .pkl or .npz was expected in the folder, found {names}")
    lids = path / "l_eyelid.npy", path / "r_eyelid.npy"
    model, there = read_flame(models[0]), [lid for lid in lids if lid.exists()]
    if len(there) == 1:
        raise HeadError(f"preprocess.head_file {path}: holds {there[0].name} alone; both eyelids or neither")
    return with_eyelids(model, *lids) if there else model


def _wanted(name: str) -> str:
    if name == "ict":
        return "ict_facekit.npz, or the folder FaceXModel of ICT-FaceKit (MIT licence)"
    return "generic_model.pkl or flame2023.pkl, from flame.is.tue.mpg.de after registration; flame2023_Open.pkl needs none"
