"""What is known of a video once it was read: facts, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEADER_RATE_TOLERANCE = 0.01
"""Relative difference of the header's and the measured frame rate above which the header is called wrong."""

MAX_PIXELS = 8192 * 8192
"""Larger pictures are refused: a forged header must not make a worker ask for terabytes."""


class ProbeError(Exception):
    """A file that gives no frames. `reason` is one word for the quarantine table, the message says what was found."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def __reduce__(self) -> tuple[type[ProbeError], tuple[str, str]]:
        return type(self), (self.reason, self.message)


@dataclass(frozen=True)
class VideoFacts:
    """Measured facts of one video stream; times in seconds from its first frame, in presentation order."""

    times: NDArray[np.float64]  # (N,) never decreasing, times[0] == 0
    frames_header: int  # what the container promises; 0 where it says nothing
    fps_header: float  # what the container claims; 0 where it says nothing
    width: int  # of the upright picture
    height: int
    rotation: int  # degrees clockwise that bring the stored picture upright: 0, 90, 180 or 270
    codec: str
    damaged: bool  # the container could not be read to its end
    first_pts: int | None = None  # of the first frame, in the stream's ticks; None where frames have no times of their own
    deep: bool = False  # more than 8 bits a channel

    @property
    def frames_found(self) -> int:
        return len(self.times)

    @property
    def fps(self) -> float:
        """Measured rate, (frames - 1) / (last time - first time); the header's where there is one frame only."""
        span = float(self.times[-1])
        return (len(self.times) - 1) / span if span > 0 else self.fps_header

    @property
    def variable_rate(self) -> bool:
        """Whether any frame interval differs from the median interval by more than half of it."""
        if len(self.times) < 3:
            return False
        intervals = np.diff(self.times)
        median = float(np.median(intervals))
        return bool(np.abs(intervals - median).max() > 0.5 * median)

    def remarks(self) -> list[str]:
        """What the header got wrong, in sentences for the catalog's summary; empty for an honest file."""
        found = []
        if self.frames_header and self.frames_header != self.frames_found:
            found.append(f"the header promises {self.frames_header} frames, {self.frames_found} are there")
        if self.damaged:
            found.append(f"the file breaks off or is damaged after {self.frames_found} frames")
        if self.variable_rate:
            found.append(f"the frame rate varies ({self.fps:.3f} on average)")
        elif claims_another_rate(self.fps_header, self.fps):
            found.append(f"the header claims {self.fps_header:.3f} frames/s, the time stamps give {self.fps:.3f}")
        return found


def claims_another_rate(fps_header: float, fps: float) -> bool:
    """Whether a header's rate (0 where it says nothing) is not the measured one."""
    return fps_header > 0 and abs(fps - fps_header) > HEADER_RATE_TOLERANCE * fps_header
