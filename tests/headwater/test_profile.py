"""Switching profiles keeps what a user has set."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.profile import ProfileError, apply_profile

DEMO, LAPTOP = "source: {kind: procedural}\ntrain: {steps: 10}\n", "source: {kind: folder}\ntrain: {steps: 20}\n"


@pytest.fixture
def params(tmp_path: Path) -> Path:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "demo.yaml").write_text(DEMO)
    (tmp_path / "profiles" / "laptop.yaml").write_text(LAPTOP)
    path = tmp_path / "params.yaml"
    path.write_text("# mine\n" + DEMO)
    return path


def switch(params: Path, name: str, force: bool = False) -> dict[str, object]:
    return {key: after for key, _, after in apply_profile(params, params.parent / "profiles", name, force=force)}


def test_comments_stay(params: Path) -> None:
    assert switch(params, "laptop") == {"source.kind": "folder", "train.steps": 20}
    assert params.read_text().startswith("# mine\n") and switch(params, "laptop") == {}


def test_own_values_are_kept_and_each_old_file_too(params: Path) -> None:
    for turn, backup in enumerate(("params.yaml.bak", "params.yaml.bak1")):
        own = params.read_text().replace("steps: 10", f"steps: {70 + turn}").replace("steps: 20", f"steps: {70 + turn}")
        params.write_text(own)
        with pytest.raises(ProfileError, match=rf"you have set train.steps = 7{turn}.*{backup}\)"):
            switch(params, "laptop")
        switch(params, "laptop", force=True)
        assert (params.parent / backup).read_text() == own


def test_missing_blocks_are_made(params: Path) -> None:
    params.write_text("other: 1\n")
    assert switch(params, "demo") == {"source.kind": "procedural", "train.steps": 10}


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "mapping"), ("- a\n", "mapping"), ("a: 1\na: 2\n", "duplicate key"), ("train: 3\n", "train = 3, a block with steps")],
)
def test_a_broken_file_is_left_as_it_is(params: Path, text: str, told: str) -> None:
    params.write_text(text)
    with pytest.raises(ProfileError, match=rf"params\.yaml: .*{told}"):
        switch(params, "laptop")
    assert params.read_text() == text
