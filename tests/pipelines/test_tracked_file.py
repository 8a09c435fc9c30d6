"""A file is tracked once, wherever it lies, and as preprocess would do it. Tests on a real photo skip where it is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.cache import Cache
from pipelines.fanout import ItemRejected
from pipelines.fanout.item import chain_keys
from pipelines.params import Params, load_params
from pipelines.preprocess import preprocess_steps
from pipelines.preprocess.observe import ObserveClip
from pipelines.tracked_file import file_item, tracked
from pipelines.video import write_video
from tests.conftest import ROOT


def params_of(folder: Path) -> Params:
    """The project's own, with a cache of the test's."""
    params = load_params(ROOT / "params.yaml")
    return params.model_copy(update={"compute": params.compute.model_copy(update={"cache": str(folder / "cache")})})


def photo_in(shared: Path, folder: Path) -> Path:
    folder.mkdir()
    shutil.copyfile(shared / "photos" / "art_8.jpg", folder / "0.jpg")
    return folder


def test_the_same_bytes_elsewhere_are_found_in_the_cache(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params, threads = params_of(tmp_path), torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        first = tracked(photo_in(shared, tmp_path / "here"), params)
        assert torch.get_num_threads() == threads + 1  # a worker has a process of its own, and takes one thread
    finally:
        torch.set_num_threads(threads)
    (segment,) = first.segments
    side = params.preprocess.crop.side
    assert len(segment) == first.frames == 1 and segment.crop(0).image.shape == (side, side, 3)
    assert 0.2 < segment.camera.viewmat[0, 2, 3] < 3  # metres from the camera

    def busy(*_: object) -> None:
        raise AssertionError("is tracked again")

    monkeypatch.setattr(ObserveClip, "__call__", busy)
    again = tracked(photo_in(shared, tmp_path / "there"), params)
    assert np.array_equal(again.segments[0].tracks.viewmat, segment.tracks.viewmat)
    assert torch.equal(again.segments[0].identity, segment.identity)


def test_what_is_damaged_is_made_again(shared: Path, tmp_path: Path) -> None:
    params, photo = params_of(tmp_path), photo_in(shared, tmp_path / "here")
    first = tracked(photo, params)
    _, key = chain_keys(preprocess_steps(params), file_item(photo, params))
    path = Cache(params.compute.cache).store.local_path(f"{key[:2]}/{key}/tracks-0")
    assert path is not None
    data = path.read_bytes()
    path.write_bytes(data[:-64] + bytes(64))  # of the right size: only the digest tells
    again = tracked(photo, params)
    assert np.array_equal(again.segments[0].tracks.viewmat, first.segments[0].tracks.viewmat)
    assert path.read_bytes() == data


def test_why_a_file_has_no_tracks_is_told(tmp_path: Path) -> None:
    params, path = params_of(tmp_path), tmp_path / "gray.mp4"
    write_video(path, [np.full((96, 96, 3), 128, np.uint8)] * 3, 25)
    with pytest.raises(ItemRejected, match="no face in any of 3 frames"):
        tracked(path, params)
    path.write_bytes(b"not a video")
    with pytest.raises(ItemRejected, match=f"{path}: no container that can be read"):
        tracked(path, params)
