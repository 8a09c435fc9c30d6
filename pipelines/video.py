"""Writing mp4: H.264 that every browser plays, the same bytes from the same frames."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from pipelines.atomic import atomic_path

# One thread, because x264's output depends on how many there are; no mb-tree, because it reads stale memory at some sizes.
ENCODER = {"threads": "1", "x264-params": "sliced-threads=0:lookahead-threads=1:mbtree=0"}


def write_video(
    path: Path, frames: Iterable[NDArray[np.uint8]], fps: float, *, quality: int = 20, preset: str = "medium"
) -> int:
    """Writes frames (H, W, 3) uint8 RGB as mp4, atomically; returns how many. An odd side loses its last pixel row.

    `quality` is x264's crf, lower is better and larger; `preset` its trade of time for size. Raises ValueError for no frames.
    """
    rate = Fraction(max(fps, 1.0)).limit_denominator(1001)  # a segment of one frame has no rate
    count = 0
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        options = {**ENCODER, "crf": str(quality), "preset": preset}
        stream = container.add_stream("libx264", rate=rate, options=options)
        for picture in frames:
            height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
            if count == 0:
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            frame.pts, frame.time_base = count, 1 / rate
            container.mux(stream.encode(frame))
            count += 1
        if count == 0:
            raise ValueError(f"{path}: a video needs at least one frame")
        container.mux(stream.encode(None))
    return count
