"""A head in a file comes back as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_models.heads.embedding import EmbeddingError, load_embedding, save_embedding
from avatar_models.heads.procedural import procedural_head
from avatar_models.heads.storage import HeadFileError, read_head, save_head


def test_a_head_comes_back_the_same(tmp_path: Path) -> None:
    head = procedural_head()
    save_head(tmp_path / "head.npz", head)
    found = read_head(tmp_path / "head.npz")
    assert found.hash() == head.hash() and (found.name, found.one_sided) == (head.name, head.one_sided)
    assert found.expression_names == head.expression_names and found.identity_names == head.identity_names
    assert found.masks.keys() == head.masks.keys() and torch.equal(found.masks["face"], head.masks["face"])
    save_head(tmp_path / "again.npz", found)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "head.npz").read_bytes()


def test_what_is_no_head_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadFileError, match=r"head\.npz: not found. `dvc repro` makes it"):
        read_head(tmp_path / "head.npz")
    (tmp_path / "head.npz").write_bytes(b"PK half")
    with pytest.raises(HeadFileError, match=r"head\.npz: not a head"):
        read_head(tmp_path / "head.npz")
    np.savez(tmp_path / "head.npz", format=np.array(9))
    with pytest.raises(HeadFileError, match="format 9, this code reads 1"):
        read_head(tmp_path / "head.npz")


def test_an_embedding_of_another_head_is_refused(tmp_path: Path) -> None:
    head = procedural_head()
    save_embedding(tmp_path / "e.npz", head.embedding)
    assert torch.equal(load_embedding(tmp_path / "e.npz", len(head.faces)).faces, head.embedding.faces)
    with pytest.raises(EmbeddingError, match="the head has 10; it is of another head"):
        load_embedding(tmp_path / "e.npz", 10)
    np.savez(tmp_path / "e.npz", faces=np.zeros(3))
    with pytest.raises(EmbeddingError, match="not a landmark embedding"):
        load_embedding(tmp_path / "e.npz", 10)
    (tmp_path / "e.npz").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(EmbeddingError, match="not a landmark embedding"):
        load_embedding(tmp_path / "e.npz", 10)
