"""FaceLandmarker as the tracker's landmark model, where its file is there."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from avatar_models.heads.procedural import procedural_head
from avatar_models.people import Performance, camera_for, film, make_person, viewmats
from avatar_models.tracking.blendshapes import NAMES, expression_guess, gaze_guess, jaw_guess
from avatar_models.tracking.detect import FaceTracker
from avatar_models.tracking.landmarker_file import LandmarkerError, read_landmarker
from avatar_models.tracking.quality import INNER, inter_ocular

TASK = Path(__file__).resolve().parents[4] / "shared/assets/face_landmarker.task"
needs_task = pytest.mark.skipif(not TASK.exists(), reason="shared/assets/face_landmarker.task is not here")


def picture(jaw: float = 0.0, yaw: float = 0.0, **expressions: float) -> np.ndarray:
    names = procedural_head().expression_names
    values = np.zeros((1, len(names)), np.float32)
    for name, value in expressions.items():
        values[0, names.index(name)] = value
    gaze = np.array([[0, yaw, 0, 0, yaw, 0]], np.float32)
    still = Performance(25.0, values, np.array([[jaw, 0, 0]], np.float32), gaze, np.zeros((1, 3)), np.zeros((1, 3)))
    K, distance = camera_for(384)
    return film(make_person(5), still, 0, 384, viewmats(still, distance)[0], K)


@needs_task
def test_its_points_and_scores_are_those_of_the_picture() -> None:
    """Known expressions come back on the right side, and the points lie near FaceMesh's."""
    head, task = procedural_head(), read_landmarker(TASK)
    shown = [picture(), picture(jaw=0.3), picture(eyeBlinkLeft=1.0), picture(yaw=0.4), picture(mouthSmileRight=1.0)]
    with closing(FaceTracker(1.0, task=task)) as tracker, closing(FaceTracker(1.0)) as mesh:
        seen = [tracker.observe(frame, float(k)) for k, frame in enumerate(shown)]
        by_mesh = mesh.observe(shown[0], 0.0)
    assert by_mesh is not None and by_mesh.blendshapes is None
    assert seen[0] is not None
    away = np.linalg.norm((seen[0].points - by_mesh.points)[INNER, :2], axis=1)
    assert np.median(away) < 0.06 * inter_ocular(by_mesh.points[None])[0]
    scores = np.stack([one.blendshapes for one in seen if one is not None and one.blendshapes is not None])
    assert scores.shape == (5, len(NAMES)) and scores.dtype == np.float32
    jaw, gaze = jaw_guess(scores)[:, 0], gaze_guess(scores)
    guess = {name: column for name, column in zip(head.expression_names, expression_guess(head, scores).T, strict=True)}
    assert jaw[0] < 0.05 and jaw[1] == pytest.approx(0.3, abs=0.12)
    assert guess["eyeBlinkLeft"][2] > guess["eyeBlinkRight"][2] + 0.2
    assert gaze[3, 1] > gaze[0, 1] + 0.2 and gaze[3, 4] > gaze[0, 4] + 0.2
    assert guess["mouthSmileRight"][4] > guess["mouthSmileLeft"][4] + 0.2


def test_a_file_that_is_not_there_or_something_else_is_told_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "face_landmarker.task"
    way_out = r"get it from https://storage.googleapis.com/.*Apache-2.0.*or leave the name empty"
    with pytest.raises(LandmarkerError, match=f"face_landmarker.task: No such file.*{way_out}"):
        read_landmarker(path)
    path.write_bytes(b"hello")
    with pytest.raises(LandmarkerError, match=f"not MediaPipe's face_landmarker.task, which is a zip.*{way_out}"):
        read_landmarker(path)
    with ZipFile(path, "w") as task:
        task.writestr("face_landmarks_detector.tflite", b"x")
    with pytest.raises(LandmarkerError, match=f"has no face_blendshapes.tflite.*{way_out}"):
        read_landmarker(path)
