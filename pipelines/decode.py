"""Decoding behind one seam: upright RGB pictures of wanted frame indices, in order, with bounded memory.

decord does the work. Its traps, each measured, and what is done here:

- Its thread decodes to the end of the file while the consumer is busy (600 MB within 2 s for a 1080p clip). The wanted
  frames are drained at full speed, then `seek(0)` stops the thread and drops what it had queued. What does not fit the
  memory is streamed through PyAV: reading it in windows decodes from the last key frame again for each.
- A picture stored turned by 90 or 270 degrees comes out garbled, a file that breaks off is refused as a whole, and
  frames that an edit list hides are counted. Those files are streamed through PyAV, which is as fast (python -m
  bench.decoders): what decord says of a file must agree with the packets (:mod:`pipelines.probe`) to be trusted.
- It repeats the nearest frame in place of one that is missing. It is told to refuse, and PyAV leaves such frames out.
- It gives up with an error when the last frames take long on a busy machine; DECORD_EOF_RETRY_MAX is raised.
- It leaks a little with each reader, and may crash: the fan-out replaces its process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from numpy.typing import NDArray

from pipelines.pictures import PicturesDecoder
from pipelines.probe import decoded_frames, turn_of, video_stream
from pipelines.video_facts import VideoFacts

os.environ.setdefault("DECORD_EOF_RETRY_MAX", "2000000")
os.environ.setdefault("DECORD_LOGGING_LEVEL", "quiet")
import decord
from decord._ffi.base import DECORDError, DECORDLimitReachedError

decord.logging.set_level(decord.logging.QUIET)
REFUSALS = (DECORDError, DECORDLimitReachedError, StopIteration, RuntimeError)

Image = NDArray[np.uint8]  # (H, W, 3) RGB, C-contiguous
MATCHING_TIMES_S = 2e-3
"""decord's times are float32 and some containers tick in milliseconds."""
EARLY = 0.4
"""Slack of pick_frames in frame intervals: time stamps are rounded, and uneven ones should not drop frames."""
MADE_UP_FRAMES = 1
"""Where frames are missing decord repeats the nearest ones; after so many it is told to refuse (0 would mean no limit)."""
SEEK_MARGIN_S = 1.0
"""PyAV seeks to a key frame so much before the wanted frame: containers index by decoding time, which runs ahead."""


class Decoder(Protocol):
    """Gives the pictures of one video. Frame i is the i-th entry of VideoFacts.times."""

    name: str

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[int, Image]]:
        """Yields (index, picture) for rising indices. Frames that cannot be decoded are left out, never made up."""


class PyavDecoder:
    """Streams frame by frame; a picture is placed by its own presentation time, so a lost one shifts no other."""

    name = "pyav"

    def __init__(self, path: Path, facts: VideoFacts) -> None:
        self.path = path
        self.facts = facts

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[int, Image]]:
        if not len(indices):
            return
        sought = self.facts.first_pts is not None and self.facts.times[indices[0]] > SEEK_MARGIN_S
        pictures = self._decode(indices, sought)
        first = next(pictures, None)
        if sought and (first is None or first[0] != indices[0]):  # a broken index led past it
            pictures = self._decode(indices, False)
            first = next(pictures, None)
        if first is not None:
            yield first
            yield from pictures

    def _decode(self, indices: Sequence[int], sought: bool) -> Iterator[tuple[int, Image]]:
        wanted = set(indices)
        with av.open(str(self.path), metadata_errors="replace") as container:
            stream = video_stream(container)
            stream.codec_context.thread_count = 1
            if sought and self.facts.first_pts is not None:
                seconds = self.facts.times[indices[0]] - SEEK_MARGIN_S
                container.seek(self.facts.first_pts + int(seconds / stream.time_base), stream=stream)
            expected = 0
            for frame in decoded_frames(container, stream):
                index = self._index(frame, expected)
                expected = index + 1
                if index in wanted:
                    yield index, _upright(frame.to_ndarray(format="rgb24"), turn_of(frame))
                if index >= indices[-1]:
                    return

    def _index(self, frame: av.VideoFrame, expected: int) -> int:
        if frame.pts is None or self.facts.first_pts is None:
            return expected
        times = self.facts.times
        time = (frame.pts - self.facts.first_pts) * float(frame.time_base)
        if expected < len(times) and abs(times[expected] - time) <= MATCHING_TIMES_S:
            return expected  # the usual case, and the only one that tells frames of equal times apart
        return max(expected, int(np.abs(times - time).argmin()))


class DecordDecoder:
    """decord, drained at full speed into memory: the wanted pictures must fit there."""

    name = "decord"

    def __init__(self, path: Path, facts: VideoFacts) -> None:
        self.facts = facts
        self.reader = decord.VideoReader(str(path), num_threads=1, fault_tol=MADE_UP_FRAMES)

    def agrees_with_packets(self) -> bool:
        """Whether decord counts the same frames at the same times as the container's packets."""
        if len(self.reader) != self.facts.frames_found:
            return False
        times = self.reader.get_frame_timestamp(np.arange(len(self.reader)))[:, 0].astype(np.float64)
        return bool(np.abs(times - times[0] - self.facts.times).max() <= MATCHING_TIMES_S)

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[int, Image]]:
        pictures = self._drain(indices) if len(indices) else []
        pictures.reverse()
        while pictures:
            yield pictures.pop()  # not kept here once the consumer has it

    def _drain(self, indices: Sequence[int]) -> list[tuple[int, Image]]:
        self.reader.seek_accurate(int(indices[0]))
        pictures = [(int(indices[0]), self._next())]
        for before, index in pairwise(indices):
            if index - before > 1:
                self.reader.skip_frames(int(index - before - 1))
            pictures.append((int(index), self._next()))
        self.reader.seek(0)
        return pictures

    def _next(self) -> Image:
        picture: Image = self.reader.next().asnumpy()
        expected = (self.facts.height, self.facts.width, 3)
        if picture.shape != expected:
            raise DECORDError(f"a picture of shape {picture.shape} where {expected} was expected")
        return picture


class CheckedDecoder:
    """decord for what fits the memory and agrees with the packets, PyAV for the rest."""

    def __init__(self, path: Path, facts: VideoFacts, memory_bytes: int) -> None:
        self.path, self.facts, self.memory_bytes = path, facts, memory_bytes
        self.name = "none yet"

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[int, Image]]:
        done = 0
        reader = self._trusted_decord(len(indices))
        self.name = reader.name if reader else PyavDecoder.name
        if reader:
            try:
                for index, picture in reader.frames(indices):
                    yield index, picture
                    done += 1
                return
            except REFUSALS:
                self.name = "decord, then pyav"
        yield from PyavDecoder(self.path, self.facts).frames(indices[done:])

    def _trusted_decord(self, count: int) -> DecordDecoder | None:
        facts = self.facts
        if count * facts.width * facts.height * 3 > self.memory_bytes or facts.rotation % 180 or facts.deep:
            return None
        try:
            reader = DecordDecoder(self.path, facts)
            return reader if reader.agrees_with_packets() else None
        except REFUSALS:
            return None


def open_decoder(path: Path, facts: VideoFacts, memory_bytes: int) -> Decoder:
    """The project's decoder of one probed video; it holds at most about `memory_bytes` of decoded pictures.

    How much it may hold changes no pixel: where decord and PyAV differ (more than 8 bits), PyAV alone is used. A folder of
    numbered pictures is decoded picture by picture. Raises ProbeError where that folder's pictures have changed their names.
    """
    if path.is_dir():
        return PicturesDecoder(path, facts)
    return CheckedDecoder(path, facts, memory_bytes)


def pick_frames(times: NDArray[np.float64], max_fps: float, max_frames: int) -> NDArray[np.int64]:
    """Indices of the frames to keep, so that no more than max_fps a second are kept, and max_frames at most.

    A clip of max_fps or less is kept whole (29.97 under a limit of 30 too), a faster one is thinned evenly: a frame is
    kept when it comes no earlier than EARLY intervals before one is due, and the due times advance by exactly
    1 / max_fps. `times` (N,) in seconds, never decreasing. Frames are counted, not seconds: a forged time stamp may
    claim a century.
    """
    interval = 1.0 / max_fps
    kept: list[int] = []
    due = -np.inf
    for index, time in enumerate(times.tolist()):
        if time >= due - EARLY * interval - 1e-9:
            kept.append(index)
            if len(kept) == max_frames:
                break
            due = max(due, time - EARLY * interval) + interval if kept[1:] else time + interval
    return np.asarray(kept, np.int64)


def _upright(picture: Image, turn: int) -> Image:
    return np.ascontiguousarray(np.rot90(picture, -turn // 90))
