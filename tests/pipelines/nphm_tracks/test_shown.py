"""A neural head as an overlay draws it: where its own track has it, with the landmarks that the tracker measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_models.model_folder import TENSORS, ModelError
from avatar_models.tracking.quality import reprojection_error
from pipelines.nphm_tracks.assemble import write_tracks
from pipelines.nphm_tracks.shown import neural_segment
from pipelines.overlay import clay_of, draw_tracked
from pipelines.subject import NPHM_TRACKS_FOLDER, read_tables
from pipelines.tracked import read_tracked
from tests.pipelines.nphm_tracks.project import CLIPS, STEPS
from tests.pipelines.nphm_tracks.test_tracker import params, project, tracked  # noqa: F401


@pytest.fixture
def shown(project: Path, tmp_path: Path) -> Path:  # noqa: F811
    write_tracks(tracked(project, tmp_path, params(clouds="head")), 1, project)
    return project


def test_it_lies_where_its_tracks_have_it(shown: Path) -> None:
    data = read_tables(shown)
    segment, fitted = neural_segment(data, CLIPS[0]), next(read_tracked(data, [CLIPS[0]]))
    assert len(segment) == STEPS and segment.head.template.shape[1] == 3 and segment.head.masks == {}
    projected = np.stack([segment.posed(row)[1] for row in range(STEPS)])
    own = reprojection_error(projected, segment.detected)
    assert np.median(own) < np.median(reprojection_error(np.zeros_like(projected), segment.detected))
    assert not np.allclose(segment.clip.viewmat, fitted.clip.viewmat)
    stored = read_tables(shown, NPHM_TRACKS_FOLDER).tracks
    assert set(np.asarray(stored["head"])) == {"nphm"}

    drawn = draw_tracked(np.zeros((64, 64, 3), np.uint8), segment, 0, clay_of(segment.head))
    assert drawn.any()


def test_another_prior_is_refused(shown: Path) -> None:
    weights = shown / "models/nphm" / TENSORS
    before = weights.read_bytes()
    try:
        weights.write_bytes(before[:-4] + bytes(4))
        with pytest.raises(ModelError, match="is not the prior that .* was tracked with"):
            neural_segment(read_tables(shown), CLIPS[0])
    finally:
        weights.write_bytes(before)
    torch.manual_seed(0)
