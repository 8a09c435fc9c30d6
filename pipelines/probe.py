"""What a video file really holds, found by reading its packets and decoding one frame: no promise is believed.

A container's header may promise frames that are not there (a cut-off download), a frame rate that its own time stamps
contradict (variable rate, a re-encoded copy), or a picture that is stored turned (a telephone held upright). Every
frame index and every time of the tables is an index into, and an entry of, :attr:`VideoFacts.times`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from pipelines.pictures import probe_pictures
from pipelines.video_facts import MAX_PIXELS, ProbeError, VideoFacts

MAX_STEP_BACK_S = 0.25
"""Decoding times never fall in a sound file; small steps back are a muxer's rounding."""


def probe_video(path: Path) -> VideoFacts:
    """Reads all packets of the first real video stream and decodes one frame; a folder of pictures counts as a video.

    Raises ProbeError with one of the reasons missing_video, not_a_file, unreadable, empty_file, not_a_video,
    no_video_stream, no_frames, broken_times, undecodable, too_large, ambiguous_pictures.
    """
    if path.is_dir():
        return probe_pictures(path)
    _check_file(path)
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = video_stream(container)
            times, first_pts, damaged = _packet_times(container, stream)
            frames_header = stream.frames
            fps_header = float(stream.average_rate or 0)
            codec = stream.codec_context.name
        width, height, rotation, deep = _first_picture(path)
    except FFmpegError as error:
        raise ProbeError("not_a_video", f"no container that can be read: {error.strerror}") from None
    except PermissionError as error:
        raise ProbeError("unreadable", f"cannot be opened: {error.strerror}") from None
    return VideoFacts(times, frames_header, fps_header, width, height, rotation, codec, damaged, first_pts, deep)


def video_stream(container: av.container.InputContainer) -> av.video.stream.VideoStream:
    """The stream that holds the clip: the first one that is not a cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic and stream.codec_context is not None:
            return stream
    kinds = sorted({stream.type for stream in container.streams})
    raise ProbeError("no_video_stream", f"holds no video stream, only: {', '.join(kinds) or 'nothing'}")


def _check_file(path: Path) -> None:
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ProbeError("missing_video", "there is no such file (or the link to it points nowhere)") from None
    except OSError as error:
        raise ProbeError("unreadable", f"cannot be opened: {error.strerror}") from None
    if not stat.S_ISREG(facts.st_mode):
        raise ProbeError("not_a_file", "is not a regular file")
    if not os.access(path, os.R_OK):
        raise ProbeError("unreadable", "no permission to read it")
    if facts.st_size == 0:
        raise ProbeError("empty_file", "holds no bytes")


def _packet_times(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> tuple[NDArray[np.float64], int | None, bool]:
    """Times (N,) in seconds from the first frame, its presentation time where there is one, and whether the file broke off."""
    shown: list[int | None] = []
    decoded: list[int | None] = []
    damaged = False
    try:
        for packet in container.demux(stream):
            # Flush packets are empty; discarded ones lie before an edit list's start and are never shown.
            if packet.size and not packet.is_discard:
                shown.append(packet.pts)
                decoded.append(packet.dts)
    except FFmpegError:
        damaged = True
    if not shown:
        raise ProbeError("no_frames", "its video stream holds no frames")
    runs = np.array([stamp for stamp in decoded if stamp is not None], np.float64) * float(stream.time_base)
    if len(runs) and np.diff(runs, prepend=runs[0]).min() < -MAX_STEP_BACK_S:
        at = int(np.diff(runs).argmin()) + 1
        raise ProbeError(
            "broken_times",
            f"its time stamps jump back at frame {at}, as when files are joined end to end; cut it there, or join the parts "
            "with `ffmpeg -f concat`",
        )
    for stamps in (shown, decoded):  # AVI and raw streams may give decoding times only
        known = [stamp for stamp in stamps if stamp is not None]
        if len(known) == len(shown):
            ticks = np.sort(np.asarray(known, np.int64))
            first_pts = int(ticks[0]) if stamps is shown else None
            return (ticks - ticks[0]) * float(stream.time_base), first_pts, damaged
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    return np.arange(len(shown)) / rate, None, damaged


def _first_picture(path: Path) -> tuple[int, int, int, bool]:
    """Width and height upright, the turn that makes it so, and whether a channel has more than 8 bits."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream = video_stream(container)
        pixels = (stream.codec_context.width or 0) * (stream.codec_context.height or 0)
        if pixels > MAX_PIXELS:
            raise ProbeError("too_large", f"its pictures have {pixels / 1e6:.0f} million pixels")
        stream.codec_context.thread_count = 1
        for frame in decoded_frames(container, stream):
            rotation = turn_of(frame)
            upright = (frame.width, frame.height) if rotation % 180 == 0 else (frame.height, frame.width)
            deep = any(part.bits > 8 for part in frame.format.components)
            return upright[0], upright[1], rotation, deep
    raise ProbeError("undecodable", "not one frame of its video stream can be decoded")


def turn_of(frame: av.VideoFrame) -> int:
    """Degrees clockwise, a multiple of 90, by which a decoded frame must be turned to stand upright."""
    return int(round(-frame.rotation / 90) * 90) % 360


def decoded_frames(container: av.container.InputContainer, stream: av.video.stream.VideoStream):  # type: ignore[no-untyped-def]
    """Yields av.VideoFrame in presentation order; damaged packets are passed over, a broken container ends it."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:
            packet = None
        try:
            yield from stream.decode(packet)  # None drains what the decoder still holds
        except FFmpegError:
            if packet is not None:
                continue
        except EOFError:
            return
        if packet is None or not packet.size:
            return
