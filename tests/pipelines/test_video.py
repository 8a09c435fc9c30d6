"""What is written as mp4 reads back as it was, with the sound that belongs to it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.video import Sound, fits_mp4, sound_codec, write_video


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


def talking(path: Path, first_picture: float = 0.0) -> Path:
    """Two seconds of a tone, with 25 pictures a second from `first_picture` on."""
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=16000)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for k, picture in enumerate(pictures(round(25 * (2 - first_picture)))):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k + round(25 * first_picture), Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        wave = np.sin(np.arange(32000) * np.linspace(0.1, 0.4, 32000)).astype(np.float32)[None]
        for start in range(0, 32000, 1000):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, start : start + 1000]), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


def heard(path: Path) -> list[tuple[float, bytes]]:
    """(time in seconds, bytes) of each packet of sound."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(float(packet.pts * packet.time_base), bytes(packet)) for packet in packets if packet.size]


@pytest.mark.parametrize("first_picture", [0.0, 0.4])
def test_the_packets_of_a_stretch_of_sound_are_copied_in_time(tmp_path: Path, first_picture: float) -> None:
    source = talking(tmp_path / "talk.mkv", first_picture)
    assert sound_codec(source) == "aac"
    write_video(tmp_path / "a.mp4", pictures(20), 25, sound=Sound(source, 0.4, 1.2))
    found = heard(tmp_path / "a.mp4")
    wanted = [(time - 0.4 - first_picture, data) for time, data in heard(source)]
    wanted = [(time, data) for time, data in wanted if 0 <= time < 0.8]
    assert [data for _, data in found] == [data for _, data in wanted] and len(found) > 10
    assert [time for time, _ in found] == pytest.approx([time for time, _ in wanted], abs=2e-3)  # mkv counts milliseconds
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20


def test_a_file_without_sound_is_known_and_so_is_sound_that_no_mp4_holds(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pictures(2), 25)
    assert sound_codec(tmp_path / "a.mp4") == ""
    assert fits_mp4("aac") and fits_mp4("mp3") and not fits_mp4("wmav2")
