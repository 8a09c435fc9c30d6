"""Made-up people: the same from run to run, different from one another, and faces to the detector."""

from __future__ import annotations

import mediapipe as mp
import numpy as np
import pytest

from avatar_models.heads.procedural import procedural_head
from avatar_models.people import Performance, camera_for, film, make_person, perform, viewmats

SIZE = 256
DEMO_SEEDS = (4, 0, 5)


def test_one_seed_is_one_person_and_one_film() -> None:
    K, distance = camera_for(64)
    pictures = []
    for _ in range(2):
        performance = perform(7, 10, 25.0)
        pictures.append(film(make_person(7), performance, 5, 64, viewmats(performance, distance)[5], K))
    np.testing.assert_array_equal(*pictures)
    assert np.abs(make_person(7).identity - make_person(8).identity).max() > 0.5


@pytest.mark.parametrize("seed", DEMO_SEEDS)
def test_what_is_held_out_lives_as_much_as_what_is_trained_on(seed: int) -> None:
    performance = perform(seed, 150, 25.0)
    for part in (slice(0, 120), slice(120, 150)):
        assert performance.jaw[part, 0].max() - performance.jaw[part, 0].min() > 0.05
        assert (np.ptp(performance.expression[part], axis=0) > 0.2).sum() >= 5


def test_motion_has_no_jumps() -> None:
    """Sampled four times as often, the largest step shrinks about as much: a jump would stay as it is."""

    def largest_steps(frames: int, fps: float) -> np.ndarray:
        performance = perform(3, frames, fps)
        signals = (
            performance.rotation,
            performance.translation,
            performance.jaw,
            performance.expression,
            performance.eyes,
        )
        return np.array([np.abs(np.diff(signal, axis=0)).max() for signal in signals])

    assert (largest_steps(597, 100.0) < 0.5 * largest_steps(150, 25.0)).all()


def still(yaw: float, jaw: float, blink: float) -> Performance:
    names = procedural_head().expression_names
    expression = np.zeros((1, len(names)), np.float32)
    expression[0, [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]] = blink
    return Performance(
        25.0, expression, np.array([[jaw, 0, 0]], np.float32), np.zeros((1, 6), np.float32),
        np.array([[0.0, np.radians(yaw), 0.0]]), np.zeros((1, 3)),
    )  # fmt: skip


def test_the_detector_finds_them_turned_open_mouthed_and_blinking() -> None:
    K, distance = camera_for(SIZE)
    found = []
    with mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1) as detector:
        for seed in (*DEMO_SEEDS, 41, 42):
            person = make_person(seed)
            for yaw, jaw, blink in ((-35, 0.0, 0.0), (-20, 0.3, 0.0), (0, 0.0, 1.0), (20, 0.15, 1.0), (35, 0.2, 0.0)):
                performance = still(yaw, jaw, blink)
                picture = film(person, performance, 0, SIZE, viewmats(performance, distance)[0], K)
                found.append(detector.process(picture).multi_face_landmarks is not None)
    assert np.mean(found) >= 0.95
