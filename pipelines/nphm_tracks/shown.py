"""A segment with its neural head, as an overlay draws it.

N frames, V vertices, in the neural head's frame. Metres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar_models.heads.nphm import Codes, Nphm, surface_at_rest
from avatar_models.heads.nphm.carried import carried, places_at_rest
from avatar_models.heads.nphm.poses import Poses
from avatar_models.heads.nphm.storage import read_nphm
from avatar_models.heads.nphm.surface import Surface
from avatar_models.model_folder import TENSORS, ModelError
from pipelines.atomic import sha256_file
from pipelines.subject import (
    NPHM_PRIOR,
    NPHM_TRACKS_FOLDER,
    Tables,
    find_neural_segment,
    read_tables,
    subject_identity,
)
from pipelines.tracked import TrackedSegment, read_tracked

SPACING_M = 0.004
"""Of the drawn surface's vertices: each frame asks where all of them go."""


@dataclass(frozen=True)
class NeuralHead:
    """The neural head of a segment; a :class:`pipelines.tracked.TrackedHead`."""

    model: Nphm
    codes: Codes  # of one identity, and an expression of each frame
    at_rest: Surface
    landmarks: Tensor  # (478, 3) at rest

    @property
    def template(self) -> NDArray[np.float32]:
        return np.asarray(self.at_rest.vertices.numpy())

    @property
    def faces(self) -> NDArray[np.int64]:
        return np.asarray(self.at_rest.faces.numpy())

    @property
    def masks(self) -> Mapping[str, NDArray[np.bool_]]:
        """It tells nothing apart."""
        return {}

    def posed(self, row: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        own = replace(self.codes, expression=self.codes.expression[row : row + 1])
        both = carried(self.model, own, Poses.still(1), torch.cat([self.at_rest.vertices, self.landmarks]))[0]
        vertices, landmarks = both.split([len(self.at_rest.vertices), len(self.landmarks)])
        return vertices.double().numpy(), landmarks.double().numpy()


def neural_segment(data: Tables, clip_id: str) -> TrackedSegment:
    """A segment of the linear head's tables with what track_nphm has found.

    Raises UnknownSegment, SchemaError, ModelError; SurfaceError where the identity has no surface.
    """
    fitted = next(read_tracked(data, [clip_id]))
    neural = read_tables(data.root, NPHM_TRACKS_FOLDER)
    segment, identity = find_neural_segment(neural, clip_id), subject_identity(neural, clip_id)
    prior = data.root / NPHM_PRIOR
    model = read_nphm(prior).model.eval()
    if sha256_file(prior / TENSORS) != identity["head_hash"]:
        raise ModelError(f"{prior}: is not the prior that {clip_id} was tracked with; `dvc repro track_nphm` tracks it anew")
    rows = neural.tracks.filter(pc.equal(neural.tracks["clip_id"], clip_id)).sort_by("frame")
    geometry = torch.tensor(identity["identity"])[None]
    codes = Codes(geometry, torch.zeros_like(geometry), torch.tensor(rows["expression"].to_pylist()))
    viewmat = np.array(rows["viewmat"].to_pylist(), np.float64).reshape(-1, 4, 4)
    in_linear = torch.from_numpy(np.linalg.inv(fitted.clip.viewmat) @ viewmat).float()
    marks = torch.from_numpy(np.stack([fitted.head.posed(row)[1] for row in range(len(fitted))])).float()
    at_rest = places_at_rest(model, codes, Poses(in_linear[:, :3, :3], in_linear[:, :3, 3]), marks)
    return replace(
        fitted,
        row=segment,
        clip=replace(fitted.clip, viewmat=viewmat),
        head=NeuralHead(model, codes, surface_at_rest(model, geometry[0], SPACING_M), at_rest),
        reprojection=rows["reprojection"].to_numpy(),
        good=rows["good"].to_numpy(zero_copy_only=False),
    )
