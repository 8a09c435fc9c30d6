"""What is written as mp4 reads back as it was."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.video import write_video


def pictures(count: int, height: int = 64, width: int = 96) -> list[np.ndarray]:
    across = np.linspace(0, 200, width)[None, :, None]
    return [np.broadcast_to(across + 5 * k, (height, width, 3)).astype(np.uint8) for k in range(count)]


def test_frames_rate_and_colours_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    assert write_video(path, pictures(10), 29.97) == 10
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(29.97, rel=1e-4)
        found = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(stream)]
    assert len(found) == 10
    assert max(np.abs(f - p).mean() for f, p in zip(found, pictures(10), strict=True)) < 4  # of 255: H.264 at 4:2:0


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, pictures(12, 66, 98), 25)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_an_odd_side_loses_its_last_row(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pictures(2, 65, 97), 25)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (96, 64)


def test_no_frames_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.mp4: a video needs at least one frame"):
        write_video(tmp_path / "a.mp4", [], 25)
    assert not list(tmp_path.iterdir())
