"""Scores of expression as a head's coefficients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_models.heads.ict import read_ict
from avatar_models.heads.procedural import procedural_head
from avatar_models.tracking.blendshapes import FULL_JAW, FULL_LOOK, NAMES, expression_guess, gaze_guess, jaw_guess

ICT = Path(__file__).resolve().parents[4] / "shared/assets/ict_facekit.npz"


def scores(**named: float) -> np.ndarray:
    row = np.zeros((1, len(NAMES)), np.float32)
    for name, value in named.items():
        row[0, NAMES.index(name)] = value
    return row


def test_the_procedural_heads_names_are_filled() -> None:
    head = procedural_head()
    column = head.expression_names.index
    guess = expression_guess(head, scores(eyeBlinkLeft=0.8, browInnerUp=0.5, mouthShrugLower=0.4, jawOpen=1.0))[0]
    assert guess[column("eyeBlinkLeft")] == pytest.approx(0.8) and guess[column("browInnerUp")] == pytest.approx(0.5)
    assert guess[column("mouthShrug")] == pytest.approx(0.2)
    assert np.count_nonzero(guess) == 3
    everything = expression_guess(head, np.ones((2, len(NAMES)), np.float32))
    assert everything.shape == (2, head.num_expression) and (everything == 1).all()


@pytest.mark.skipif(not ICT.exists(), reason="shared/assets/ict_facekit.npz is not here")
def test_icts_names_are_filled() -> None:
    names = read_ict(ICT).expression_names
    rig = replace(procedural_head().rig, expression_basis=torch.zeros(len(names), 1, 3))
    head = replace(procedural_head(), expression_names=names, rig=rig)
    guess = expression_guess(head, scores(mouthSmileLeft=0.6, browInnerUp=0.4, cheekPuff=0.3, mouthClose=0.2))[0]
    found = {name: round(float(value), 6) for name, value in zip(names, guess, strict=True) if value}
    halves = {"browInnerUp_L": 0.4, "browInnerUp_R": 0.4, "cheekPuff_L": 0.3, "cheekPuff_R": 0.3}
    assert found == {"mouthSmile_L": 0.6, "mouthClose": 0.2, **halves}
    assert (expression_guess(head, np.ones((1, len(NAMES)))) == 1).all()


def test_a_pca_has_no_names_and_gets_nothing() -> None:
    head = replace(procedural_head(), one_sided=False)
    assert not expression_guess(head, np.ones((3, len(NAMES)))).any()


def test_jaw_and_gaze_turn_the_right_way() -> None:
    """Against the surface: the chin goes down, the pupils go where the scores' names say."""
    head = procedural_head()

    def landmarks(row: np.ndarray) -> np.ndarray:
        zero = lambda size: torch.zeros(1, size, dtype=torch.float64)  # noqa: E731
        jaw, eyes = torch.tensor(jaw_guess(row)), torch.tensor(gaze_guess(row))
        return head.landmarks(head.vertices(zero(head.num_identity), zero(head.num_expression), zero(3), jaw, eyes))[0].numpy()

    rest = landmarks(scores())
    assert rest[152, 1] - landmarks(scores(jawOpen=0.5))[152, 1] > 0.01
    left, right = 473, 468
    moved = landmarks(scores(eyeLookOutLeft=1.0, eyeLookInRight=1.0, eyeLookUpLeft=0.5)) - rest
    assert moved[left, 0] > 0.003 and moved[right, 0] > 0.003 and moved[left, 1] > 0.001
    moved = landmarks(scores(eyeLookInLeft=1.0, eyeLookOutRight=1.0, eyeLookDownRight=0.5)) - rest
    assert moved[left, 0] < -0.003 and moved[right, 0] < -0.003 and moved[right, 1] < -0.001
    assert jaw_guess(scores(jawOpen=1.0)).tolist() == [[FULL_JAW, 0, 0]]
    np.testing.assert_allclose(gaze_guess(scores(eyeLookOutRight=1.0))[0, 3:], [0, -FULL_LOOK, 0])


def test_other_shapes_are_told() -> None:
    with pytest.raises(ValueError, match=r"blendshapes must be \(N, 52\), are \(2, 51\)"):
        jaw_guess(np.zeros((2, 51)))
