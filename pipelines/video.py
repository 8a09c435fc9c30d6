"""Writing mp4: H.264 that every browser plays, the same bytes from the same frames."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from pipelines.atomic import atomic_path
from pipelines.probe import probe_video, video_stream

# One thread, because x264's output depends on how many there are; no mb-tree, because it reads stale memory at some sizes.
ENCODER = {"threads": "1", "x264-params": "sliced-threads=0:lookahead-threads=1:mbtree=0"}


@dataclass(frozen=True)
class Sound:
    """A stretch of a video file's sound, in seconds from that file's first picture."""

    path: Path
    start: float
    end: float


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: float,
    *,
    quality: int = 20,
    preset: str = "medium",
    sound: Sound | None = None,
) -> int:
    """Writes frames (H, W, 3) uint8 RGB as mp4, atomically; returns how many. An odd side loses its last pixel row.

    `quality` is x264's crf, lower is better and larger; `preset` its trade of time for size. The packets of `sound` are copied
    as they are; its codec must be one that :func:`fits_mp4`. Raises ValueError for no frames.
    """
    rate = Fraction(max(fps, 1.0)).limit_denominator(1001)  # a segment of one frame has no rate
    count = 0
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        options = {**ENCODER, "crf": str(quality), "preset": preset}
        stream = container.add_stream("libx264", rate=rate, options=options)
        with _copied(sound, container) as copy_sound_until:
            for picture in frames:
                height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
                if count == 0:
                    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
                frame.pts, frame.time_base = count, 1 / rate
                container.mux(stream.encode(frame))
                count += 1
                copy_sound_until(count / rate)
            if count == 0:
                raise ValueError(f"{path}: a video needs at least one frame")
            container.mux(stream.encode(None))
    return count


@contextmanager
def _copied(sound: Sound | None, container: av.container.OutputContainer) -> Iterator[Callable[[float | Fraction], None]]:
    """A function that copies what is heard before a time (seconds in the new video) and has not been copied yet."""
    if sound is None:
        yield lambda until: None
        return
    with av.open(str(sound.path), metadata_errors="replace") as source:
        stream = source.streams.audio[0]
        packets = _stretch(source, stream, sound, container.add_stream_from_template(stream))
        waiting = next(packets, None)

        def copy_until(until: float | Fraction) -> None:
            nonlocal waiting
            while waiting is not None and waiting.pts * waiting.time_base < until:
                container.mux(waiting)
                waiting = next(packets, None)

        yield copy_until


def _stretch(
    source: av.container.InputContainer, stream: av.AudioStream, sound: Sound, target: av.AudioStream
) -> Iterator[av.Packet]:
    """The packets that begin within the stretch, their times counted from its start; fewer where the file breaks off."""
    first_pts = probe_video(sound.path).first_pts or 0
    start = first_pts * video_stream(source).time_base + Fraction(sound.start)
    packets = source.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:
            return
        if packet is None:
            return
        if packet.pts is None or not packet.size:
            continue
        time = packet.pts * packet.time_base - start
        if time >= sound.end - sound.start:
            return
        if time >= 0:
            packet.pts = packet.dts = round(time / packet.time_base)
            packet.stream = target
            yield packet


def sound_codec(path: Path) -> str:
    """The codec of a video file's sound; empty where it has none."""
    with av.open(str(path), metadata_errors="replace") as container:
        streams = container.streams.audio
        if not streams or streams[0].codec_context is None:
            return ""
        return str(streams[0].codec_context.codec.canonical_name)


@cache
def fits_mp4(codec: str) -> bool:
    """Whether an mp4 file may hold sound of a codec."""
    with av.open(io.BytesIO(), "w", format="mp4") as container:
        return codec in container.supported_codecs
