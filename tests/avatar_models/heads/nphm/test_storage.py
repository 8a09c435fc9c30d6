"""A neural head on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from avatar_models.heads.nphm.storage import Codebooks, nphm_files, read_nphm
from avatar_models.model_folder import FACTS, TENSORS, ModelError
from tests.avatar_models.heads.nphm.tiny import codes, points, tiny


def books() -> Codebooks:
    given = codes(4)
    return Codebooks(given.geometry, given.appearance, given.expression[:3])


def stored(folder: Path) -> Path:
    for name, data in nphm_files(tiny(), books(), {"imported": "a file"}).items():
        (folder / name).write_bytes(data)
    return folder


def test_a_head_comes_back_with_its_codes_and_the_same_distances(tmp_path: Path) -> None:
    found = read_nphm(stored(tmp_path))
    assert found.facts["imported"] == "a file" and found.model.sizes == tiny().sizes
    assert all(torch.equal(found.codes.tensors()[name], tensor) for name, tensor in books().tensors().items())
    with torch.no_grad():
        assert torch.equal(found.model.sdf(points(2, 9), codes(2)), tiny().sdf(points(2, 9), codes(2)))


def test_the_same_head_gives_the_same_bytes() -> None:
    assert nphm_files(tiny(), books(), {}) == nphm_files(tiny(), books(), {})


def test_damage_is_told_with_the_folders_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model, model.json is missing"):
        read_nphm(tmp_path)
    stored(tmp_path)
    facts = json.loads((tmp_path / FACTS).read_text())
    for change, message in (
        ({"format": 9}, "model format 9, this code reads 1"),
        ({"kind": "other"}, "its kind is 'other', not 'nphm'"),
        ({"sizes": {}}, "damaged"),
        ({"sizes": {**facts["sizes"], "expression_code": 4}}, r"codes of expression are \(3, 5\), not \(3, 4\)"),
        ({"sizes": {**facts["sizes"], "link": 3}}, "size mismatch"),
    ):
        (tmp_path / FACTS).write_text(json.dumps({**facts, **change}))
        with pytest.raises(ModelError, match=f"{tmp_path}.*{message}"):
            read_nphm(tmp_path)
    (tmp_path / FACTS).write_text(json.dumps(facts))
    (tmp_path / TENSORS).write_bytes(b"not tensors")
    with pytest.raises(ModelError, match="damaged"):
        read_nphm(tmp_path)
