"""Decoders behind the seam, on the real clips and VFHQ videos beside the repository.

    python -m bench.decoders

Prints milliseconds of wall and CPU time a frame with all pictures held, as preprocess holds them, and whether the pixels of
all decoders are equal. `windows` is decord reading 128 MB at a time, the price of bounding its memory by seeking.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.workspace import real_clips
from pipelines.decode import DecordDecoder, Image, PyavDecoder
from pipelines.probe import probe_video
from pipelines.video_facts import VideoFacts

WINDOW_BYTES = 128 * 1024**2
MAX_FRAMES = 200

Reading = Callable[[Path, VideoFacts, Sequence[int]], Iterator[tuple[int, Image]]]


def decord_whole(path: Path, facts: VideoFacts, indices: Sequence[int]) -> Iterator[tuple[int, Image]]:
    yield from DecordDecoder(path, facts).frames(indices)


def decord_windows(path: Path, facts: VideoFacts, indices: Sequence[int]) -> Iterator[tuple[int, Image]]:
    reader = DecordDecoder(path, facts)
    window = max(1, WINDOW_BYTES // (facts.width * facts.height * 3))
    for start in range(0, len(indices), window):
        yield from reader.frames(indices[start : start + window])


def pyav_stream(path: Path, facts: VideoFacts, indices: Sequence[int]) -> Iterator[tuple[int, Image]]:
    yield from PyavDecoder(path, facts).frames(indices)


READINGS: dict[str, Reading] = {"decord": decord_whole, "windows": decord_windows, "pyav": pyav_stream}


def main() -> None:
    clips = real_clips()
    videos = [*clips, *sorted((clips[0].parent.parent / "vfhq" / "videos").glob("*.mp4"))]
    print(f"{'video':20} {'size':>9} frames  " + "  ".join(f"{name:>8} wall  cpu" for name in READINGS) + "  pixels")
    for path in videos:
        facts = probe_video(path)
        indices = range(min(facts.frames_found, MAX_FRAMES))
        columns, sums = [], []
        for read in READINGS.values():
            wall, cpu = time.perf_counter(), time.process_time()
            pictures = [picture for _, picture in read(path, facts, indices)]
            each = 1e3 / len(pictures)
            columns.append(f"{(time.perf_counter() - wall) * each:13.2f} {(time.process_time() - cpu) * each:4.2f}")
            sums.append([int(picture.sum(dtype=np.int64)) for picture in pictures])
        equal = "equal" if all(other == sums[0] for other in sums) else "differ"
        size = f"{facts.width}x{facts.height}"
        print(f"{path.name:20} {size:>9} {len(indices):6}  " + "  ".join(columns) + f"  {equal}", flush=True)


if __name__ == "__main__":
    main()
