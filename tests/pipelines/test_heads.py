"""The head that params.yaml names."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avatar_models.heads.procedural import procedural_head
from avatar_models.tracking.embedding import EmbeddingReport
from pipelines import heads
from pipelines.heads import HeadError, load_head
from tests.avatar_models.heads.test_flame import flame_arrays
from tests.avatar_models.heads.test_flame_landmarks import mediapipe_arrays


def test_the_procedural_head_needs_no_file() -> None:
    assert load_head("procedural", "") is procedural_head()


@pytest.mark.parametrize(
    ("name", "file", "says"),
    [
        ("ict", "", "preprocess.head = ict needs preprocess.head_file in params.yaml: ict_facekit.npz"),
        ("flame", "", "needs preprocess.head_file in params.yaml: generic_model.pkl or flame2023.pkl"),
        ("ict", "nowhere.npz", "preprocess.head_file nowhere.npz: No such file"),
        ("flame", "nowhere.pkl", "preprocess.head_file nowhere.pkl: No such file"),
    ],
)
def test_a_head_that_is_not_there_is_told_with_the_way_out(name: str, file: str, says: str) -> None:
    with pytest.raises(HeadError, match=says):
        load_head(name, file)


def test_a_flame_folder_may_hold_eyelids(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match="one .pkl or .npz was expected in the folder, found none"):
        load_head("flame", str(tmp_path))
    arrays = flame_arrays()
    np.savez(tmp_path / "flame.npz", **{**arrays, "J_regressor": arrays["J_regressor"].toarray()})
    assert len(heads._flame(tmp_path).expression_names) == 100
    np.save(tmp_path / "l_eyelid.npy", np.zeros((len(arrays["v_template"]), 3)))
    with pytest.raises(HeadError, match="holds l_eyelid.npy alone; both eyelids or neither"):
        heads._flame(tmp_path)
    for side in "lr":
        np.save(tmp_path / f"{side}_eyelid.npy", np.full((len(arrays["v_template"]), 3), 0.001))
    assert heads._flame(tmp_path).expression_names[-2:] == ("eyelid_left", "eyelid_right")


def test_a_heads_points_are_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arrays = flame_arrays()
    np.savez(tmp_path / "flame.npz", **{**arrays, "J_regressor": arrays["J_regressor"].toarray()})
    asked = []

    def embed(rig, faces, masks, one_sided, known):  # type: ignore[no-untyped-def]
        asked.append((len(rig.identity_basis), len(rig.expression_basis), one_sided))
        embedding = procedural_head().embedding
        return replace(embedding, faces=embedding.faces % len(faces)), EmbeddingReport(1, 1.0, 0, 0, 0, 0, np.ones(478))

    monkeypatch.setattr("avatar_models.tracking.embedding.embed", embed)
    for _ in range(2):
        load_head.cache_clear()
        head = load_head("flame", "flame.npz")
    assert asked == [(300, 100, False)] and head.num_expression == 100 and not head.one_sided
    (kept,) = heads.EMBEDDINGS.glob("flame-*.npz")
    assert kept.with_suffix(".txt").read_text().startswith("the detector found 100.0%")
    for damage in (kept.read_bytes()[:1000], b""):  # cut short by a power cut: made again
        kept.write_bytes(damage)
        load_head.cache_clear()
        assert load_head("flame", "flame.npz").hash() == head.hash()
    assert len(asked) == 3
    np.savez(tmp_path / "flame.npz", **{**flame_arrays(seed=1), "J_regressor": arrays["J_regressor"].toarray()})
    load_head.cache_clear()
    load_head("flame", "flame.npz")  # another head under the same name
    assert len(asked) == 4


def test_mediapipes_embedding_beside_flame_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder as FLAME 2023 Open with its companions makes it; without the file, or with another, the points are others."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "flame"
    folder.mkdir()
    (folder / "flame2023_Open.pkl").write_bytes(pickle.dumps(flame_arrays(), 2))
    (folder / "FLAME_masks.pkl").write_bytes(pickle.dumps({"face": np.arange(3)}, 2))
    asked = []

    def embed(rig, faces, masks, one_sided, known):  # type: ignore[no-untyped-def]
        asked.append(known)
        embedding = procedural_head().embedding
        report = EmbeddingReport(1, 1.0, 0, 0, 0, 0, np.ones(478), 0 if known is None else len(known.points))
        return replace(embedding, faces=embedding.faces % len(faces)), report

    monkeypatch.setattr("avatar_models.tracking.embedding.embed", embed)
    for given in (None, mediapipe_arrays(1), mediapipe_arrays(2)):
        if given is not None:
            np.savez(folder / "mediapipe_landmark_embedding.npz", **given)
        for _ in range(2):
            load_head.cache_clear()
            load_head("flame", str(folder))
    assert len(asked) == 3 and asked[0] is None
    assert asked[2].points.tolist() == mediapipe_arrays(2)["landmark_indices"].tolist()
    told = [path.read_text().startswith("105 points lie where") for path in sorted(heads.EMBEDDINGS.glob("*.txt"))]
    assert sorted(told) == [False, True, True]
    np.savez(folder / "mediapipe_landmark_embedding.npz", **{**mediapipe_arrays(), "lmk_face_idx": np.full(105, 10**6)})
    load_head.cache_clear()
    with pytest.raises(HeadError, match=r"names triangle 1000000.*Take it away, and its points are found as the others are"):
        load_head("flame", str(folder))


@pytest.mark.parametrize("name", ["ict", "flame"])
@pytest.mark.parametrize("content", ["nothing", "an array", "words"])
def test_a_file_that_is_something_else_is_told(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / "head.npz"
    if content == "an array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_text("" if content == "nothing" else "hello")
    with pytest.raises(HeadError, match=r"head\.npz"):
        load_head(name, str(path))
