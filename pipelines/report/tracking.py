"""The page's tracking section: a short video of each segment with what was found drawn in, and its confidence over time."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pipelines.overlay import Clay, Picture, clay_of, draw_tracked, nothing_found, resized_crop
from pipelines.report.charts import confidence_chart
from pipelines.subject import Tables
from pipelines.tracked import Moment, TrackedSegment, moments_of_crops, rate, read_tracked
from pipelines.video import write_video

SIDE = 224  # pixels of a video
SECONDS, RATE = 4.0, 12.5  # of a video: at most so long, at most so many frames a second
QUALITY = 26
"""x264's crf: a video is some 80 kB, and there may be as many as report.max_subjects."""


@dataclass(frozen=True)
class Excerpt:
    """A piece of a segment: every `step`-th of the moments from start to stop."""

    start: int
    stop: int
    step: int


def segment_cards(data: Tables, shown: int) -> Iterator[dict[str, Any]]:
    """The first `shown` segments: their figures, a video and a chart."""
    clip_ids = data.segments["clip_id"].to_pylist()[:shown]
    for segment in read_tracked(data, clip_ids):
        moments = moments_of_crops(segment)
        good = np.array([moment.row is not None and bool(segment.good[moment.row]) for moment in moments])
        confidence = np.array([np.nan if moment.row is None else segment.confidence[moment.row] for moment in moments])
        excerpt = telling_excerpt(good, rate(moments))
        yield {
            **segment.row,
            "video": excerpt_video(data, segment, moments, excerpt),
            "chart": chart(confidence, good, moments, excerpt),
            "excerpt": told(excerpt, moments, good),
        }


def telling_excerpt(good: NDArray[np.bool_], fps: float) -> Excerpt:
    """The SECONDS of a segment's moments in which most are not good; of equal ones the first."""
    step = max(1, round(fps / RATE))
    length = min(len(good), max(1, round(SECONDS * max(fps, 1.0))))
    bad = np.concatenate([[0], np.cumsum(~good)])
    start = int((bad[length:] - bad[:-length]).argmax())
    return Excerpt(start, start + length, step)


def excerpt_video(data: Tables, segment: TrackedSegment, moments: list[Moment], excerpt: Excerpt) -> str:
    """A data URI of the excerpt, drawn over the stored crops."""
    clay = clay_of(segment.head)
    picked = moments[excerpt.start : excerpt.stop : excerpt.step]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "excerpt.mp4"
        frames = (excerpt_frame(data, segment, moment, clay) for moment in picked)
        write_video(path, frames, rate(moments) / excerpt.step, quality=QUALITY)
        return f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"


def excerpt_frame(data: Tables, segment: TrackedSegment, moment: Moment, clay: Clay) -> Picture:
    if moment.row is None:
        return nothing_found(SIDE, SIDE)
    crop = data.frames.decode(segment.row["clip_id"], moment.row).image
    return draw_tracked(resized_crop(crop, SIDE), segment, moment.row, clay)


def chart(confidence: NDArray[np.floating], good: NDArray[np.bool_], moments: list[Moment], excerpt: Excerpt) -> Markup:
    seconds = moments[-1].time - moments[0].time
    return confidence_chart(confidence, good, seconds, (excerpt.start / len(good), excerpt.stop / len(good)))


def told(excerpt: Excerpt, moments: list[Moment], good: NDArray[np.bool_]) -> str:
    """Which piece the video shows."""
    if excerpt.stop - excerpt.start == len(moments):
        return "the whole of it"
    first, last = moments[excerpt.start].time, moments[excerpt.stop - 1].time
    return f"{first:.1f} to {last:.1f} s" + ("" if good.all() else ", where most frames are left out")
