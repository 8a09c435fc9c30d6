"""Where the detector's 478 points lie on a head's surface, and how they slide on it as the view changes.

Computed for any head by :mod:`avatar_models.tracking.embedding` and kept as an npz file.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

NUM_LANDMARKS = 478
NUM_VIEW_TERMS = 5
_SHAPES = {
    "faces": (NUM_LANDMARKS,), "barycentric": (NUM_LANDMARKS, 3), "weights": (NUM_LANDMARKS,),
    "offsets": (NUM_LANDMARKS, 3), "slides": (NUM_VIEW_TERMS, NUM_LANDMARKS, 3),
}  # fmt: skip


class EmbeddingError(ValueError):
    """The file does not hold a landmark embedding for this head; the message names it and the way out."""


@dataclass(frozen=True)
class LandmarkEmbedding:
    """The detector's points on one head."""

    faces: Tensor  # (478,) int64, index into the head's faces
    barycentric: Tensor  # (478, 3), rows sum to 1
    weights: Tensor  # (478,) in [0, 1]: how well a detected point is tied to one place of the surface
    offsets: Tensor  # (478, 3) metres, from the place on the surface to what the detector shows from in front
    slides: Tensor  # (5, 478, 3) metres per view term, see tracking.landmark_head.view_terms

    def points(self, vertices: Tensor, head_faces: Tensor) -> Tensor:
        """The places on the surface (B, 478, 3) of vertices (B, V, 3); offsets and slides are not the head's."""
        corners = vertices[:, head_faces[self.faces].flatten()].reshape(len(vertices), NUM_LANDMARKS, 3, 3)
        return (corners * self.barycentric.to(vertices)[..., None]).sum(2)

    def arrays(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))


def load_embedding(path: Path, num_faces: int) -> LandmarkEmbedding:
    """Reads an embedding for a head of so many triangles. Raises EmbeddingError, FileNotFoundError."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in _SHAPES}
    except FileNotFoundError:
        raise
    except (BadZipFile, EOFError, KeyError, OSError, TypeError, ValueError, zlib.error) as error:
        raise EmbeddingError(f"{path}: not a landmark embedding ({error}); delete it, and it is made again") from None
    for name, shape in _SHAPES.items():
        if arrays[name].shape != shape:
            raise EmbeddingError(f"{path}: {name} has the shape {arrays[name].shape}, {shape} was expected")
    if arrays["faces"].min() < 0 or arrays["faces"].max() >= num_faces:
        raise EmbeddingError(f"{path}: names triangle {arrays['faces'].max()}, the head has {num_faces}; it is of another head")
    tensors = {
        name: torch.from_numpy(array.astype(np.int64 if name == "faces" else np.float32)) for name, array in arrays.items()
    }
    return LandmarkEmbedding(**tensors)


def save_embedding(path: Path, embedding: LandmarkEmbedding) -> None:
    with path.open("wb") as file:  # by its name, numpy would add an ending
        np.savez_compressed(file, **{field.name: getattr(embedding, field.name).numpy() for field in fields(embedding)})
