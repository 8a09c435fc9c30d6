"""Clips that judge alone, by their camera or their sequence."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.params import Catalog
from pipelines.sources import Listing, SourceError, VideoClip
from pipelines.sources.held_out import hold_out

LISTING = Listing(
    [VideoClip(f"ann-{seq}-{cam}", "ann", cam, Path("a.mp4"), sequence=seq) for seq in ("s0", "s1") for cam in ("cam0", "cam1")]
)


def test_clips_of_held_out_cameras_and_sequences_are_for_judging() -> None:
    found = hold_out(LISTING, Catalog(held_out_cameras=["cam1"], held_out_sequences=["s1"]))
    assert [clip.clip_id for clip in found.clips if clip.split == "train"] == ["ann-s0-cam0"]
    assert hold_out(LISTING, Catalog()) == LISTING
    assert Catalog.model_validate({"held_out_cameras": [222200037]}).held_out_cameras == ["222200037"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out_cameras": ["cam2"]}, r"held_out_cameras: no clip has 'cam2'. Did you mean 'cam[01]'\? There are"),
        ({"held_out_sequences": ["cam0"]}, "held_out_sequences: no clip has 'cam0'"),
        ({"held_out_sequences": ["s0", "s1"]}, r"leave \['ann'\] no clip to train on"),
    ],
)
def test_a_name_that_is_not_there_and_too_many_are_refused(options: dict[str, list[str]], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        hold_out(LISTING, Catalog.model_validate(options))
