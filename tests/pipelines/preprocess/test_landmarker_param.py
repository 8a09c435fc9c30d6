"""preprocess.landmarker_file: the results' keys name the file's content, and the scores reach the landmarks table."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pyarrow as pa
import pytest

from avatar_models.people import camera_for, film, make_person, perform, viewmats
from avatar_models.tracking.blendshapes import NAMES
from avatar_models.tracking.landmarker_file import LandmarkerError
from pipelines import tables
from pipelines.fanout import Item
from pipelines.params import Params, Source
from pipelines.preprocess import preprocess_steps
from pipelines.video import write_video

TASK = Path(__file__).resolve().parents[4] / "shared/assets/face_landmarker.task"


class Tables:
    """Keeps the tables that a step writes."""

    def __init__(self) -> None:
        self.tables: dict[str, pa.Table] = {}

    def write_table(self, name: str, table: pa.Table) -> None:
        self.tables[name] = table


def params(file: str) -> Params:
    found = Params(source=Source(kind="procedural", path="x", watch="x"))
    return found.model_copy(update={"preprocess": found.preprocess.model_copy(update={"landmarker_file": file})})


def made_up_task(path: Path, content: bytes) -> str:
    with ZipFile(path, "w") as task:
        for name in ("face_landmarks_detector.tflite", "face_blendshapes.tflite"):
            task.writestr(name, content)
    return str(path)


def test_the_key_holds_the_content_not_the_place(tmp_path: Path) -> None:
    assets = [
        preprocess_steps(params(file))[0].assets
        for file in ("", made_up_task(tmp_path / "a.task", b"1"), made_up_task(tmp_path / "b.task", b"1"),
                     made_up_task(tmp_path / "c.task", b"2"))
    ]  # fmt: skip
    assert "face_landmarker" not in assets[0] and assets[0] != assets[1] == assets[2] != assets[3]
    assert all("landmarker_file" not in step.params for step in preprocess_steps(params("")))


def test_a_wrong_file_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(LandmarkerError, match=r"preprocess.landmarker_file .*nowhere.task: No such file"):
        preprocess_steps(params(str(tmp_path / "nowhere.task")))
    file = made_up_task(tmp_path / "a.task", b"1")
    worker = preprocess_steps(params(file))[0].worker
    made_up_task(tmp_path / "a.task", b"2")
    with pytest.raises(LandmarkerError, match="another file here than where the run began"):
        worker(params(file).preprocess.as_key())


@pytest.mark.skipif(not TASK.exists(), reason="shared/assets/face_landmarker.task is not here")
def test_scores_are_stored_beside_the_points(tmp_path: Path) -> None:
    person, performance = make_person(5), perform(5, 6, 25.0)
    K, distance = camera_for(256)
    views = viewmats(performance, distance)
    write_video(tmp_path / "v.mp4", (film(person, performance, k, 256, views[k], K) for k in range(6)), 25.0)
    clip = {"clip_id": "v", "source": str(tmp_path / "v.mp4"), "frame_start": 0, "frame_end": 6, "crop": None}
    step = preprocess_steps(params(str(TASK)))[0]
    writer = Tables()
    step.worker(step.params)(Item("v", "0", clip), None, writer)  # type: ignore[arg-type]
    stored = writer.tables["landmarks-0"]
    assert stored.schema.equals(tables.LANDMARKS) and stored.num_rows == 6
    scores = np.array(stored["blendshapes"].to_pylist())
    assert scores.shape == (6, len(NAMES)) and scores.min() >= 0 and 0.1 < scores.max() <= 1
