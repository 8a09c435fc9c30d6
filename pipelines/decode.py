"""Decoding behind one seam: upright RGB pictures of wanted frame indices, in order, with bounded memory.

decord does the work. Its traps, each measured, and what is done here:

- Its thread decodes to the end of the file while the consumer is busy (600 MB within 2 s for a 1080p clip). A window
  of frames is drained at full speed, then `seek(0)` stops the thread and drops what it had queued.
- A picture stored turned by 90 or 270 degrees comes out garbled, a file that breaks off is refused as a whole, and
  frames that an edit list hides are counted. Those files are streamed through PyAV, which is as fast: what decord
  says of a file must agree with the packets (:mod:`pipelines.probe`) before it is trusted.
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

from pipelines.probe import VideoFacts, decoded_frames, turn_of, video_stream

os.environ.setdefault("DECORD_EOF_RETRY_MAX", "2000000")
os.environ.setdefault("DECORD_LOGGING_LEVEL", "quiet")
import decord

decord.logging.set_level(decord.logging.QUIET)

Image = NDArray[np.uint8]  # (H, W, 3) RGB, C-contiguous
MATCHING_TIMES_S = 2e-3
"""decord's times are float32 and some containers tick in milliseconds."""


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
        wanted = set(indices)
        last = max(wanted, default=-1)
        with av.open(str(self.path), metadata_errors="replace") as container:
            stream = video_stream(container)
            stream.codec_context.thread_count = 1
            first_pts: int | None = None
            expected = 0
            for frame in decoded_frames(container, stream):
                if frame.pts is not None and first_pts is None:
                    first_pts = frame.pts
                index = self._index(frame, first_pts, expected)
                expected = index + 1
                if index in wanted:
                    yield index, _upright(frame.to_ndarray(format="rgb24"), turn_of(frame))
                if index >= last:
                    return

    def _index(self, frame: av.VideoFrame, first_pts: int | None, expected: int) -> int:
        if frame.pts is None or first_pts is None:
            return expected
        times = self.facts.times
        time = (frame.pts - first_pts) * float(frame.time_base)
        if expected < len(times) and abs(times[expected] - time) <= MATCHING_TIMES_S:
            return expected  # the usual case, and the only one that tells frames of equal times apart
        return max(expected, int(np.abs(times - time).argmin()))


class DecordDecoder:
    """decord, read in windows of at most `window_bytes` of decoded pictures."""

    name = "decord"

    def __init__(self, path: Path, facts: VideoFacts, window_bytes: int) -> None:
        self.facts = facts
        self.window = max(1, window_bytes // (facts.width * facts.height * 3))
        self.reader = decord.VideoReader(str(path), num_threads=1)

    def agrees_with_packets(self) -> bool:
        """Whether decord counts the same frames at the same times as the container's packets."""
        if len(self.reader) != self.facts.frames_found:
            return False
        times = self.reader.get_frame_timestamp(np.arange(len(self.reader)))[:, 0].astype(np.float64)
        return bool(np.abs(times - times[0] - self.facts.times).max() <= MATCHING_TIMES_S)

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[int, Image]]:
        for start in range(0, len(indices), self.window):
            pictures = self._drain(indices[start : start + self.window])
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
            raise decord.DECORDError(f"a picture of shape {picture.shape} where {expected} was expected")
        return picture


class CheckedDecoder:
    """decord where it agrees with the packets; PyAV for the frames that decord refuses."""

    def __init__(self, path: Path, facts: VideoFacts, window_bytes: int) -> None:
        self.fallback = PyavDecoder(path, facts)
        self.decord = None if facts.rotation % 180 else _trusted_decord(path, facts, window_bytes)
        self.name = self.decord.name if self.decord else self.fallback.name

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[int, Image]]:
        done = 0
        if self.decord:
            try:
                for index, picture in self.decord.frames(indices):
                    yield index, picture
                    done += 1
                return
            except (decord.DECORDError, StopIteration, RuntimeError):
                self.name = "decord, then pyav"
        yield from self.fallback.frames(indices[done:])


def open_decoder(path: Path, facts: VideoFacts, window_bytes: int) -> Decoder:
    """The project's decoder of one probed video; it holds at most about `window_bytes` of decoded pictures."""
    return CheckedDecoder(path, facts, window_bytes)


def pick_frames(times: NDArray[np.float64], max_fps: float, max_frames: int) -> NDArray[np.int64]:
    """Indices of the frames to keep, so that no more than max_fps a second are kept, and max_frames at most.

    The frames nearest to the ticks of a clock of max_fps: a slower clip is kept whole, a faster one is thinned evenly.
    `times` (N,) in seconds, never decreasing.
    """
    if not len(times):
        return np.empty(0, np.int64)
    ticks = np.arange(times[0], times[-1] + 0.5 / max_fps, 1.0 / max_fps)
    after = np.searchsorted(times, ticks).clip(1, max(len(times) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(times) - 1)
    nearest = np.where(np.abs(times[after] - ticks) < np.abs(ticks - times[before]), after, before)
    return np.unique(nearest)[:max_frames].astype(np.int64)


def _trusted_decord(path: Path, facts: VideoFacts, window_bytes: int) -> DecordDecoder | None:
    try:
        decoder = DecordDecoder(path, facts, window_bytes)
        return decoder if decoder.agrees_with_packets() else None
    except (decord.DECORDError, RuntimeError):
        return None


def _upright(picture: Image, turn: int) -> Image:
    return np.ascontiguousarray(np.rot90(picture, -turn // 90))
