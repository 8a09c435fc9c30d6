"""Line charts as inline SVG, with the colours of the page's style sheet and a title on every point's hover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

WIDTH, HEIGHT = 560, 240
BARS, BAR = 160, 40  # of a confidence chart: most bars, and how high a confidence of 1 is
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34


@dataclass(frozen=True)
class Line:
    """One curve."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False
    points: bool = False
    """Points alone, which no line joins."""


def line_chart(lines: Sequence[Line], x_label: str, y_label: str) -> Markup:
    """An SVG of the lines on common axes; an empty string for no points."""
    xs = [value for line in lines for value in line.x]
    ys = [value for line in lines for value in line.y]
    if not xs:
        return Markup("")
    x0, x1 = min(xs), max(max(xs), min(xs) + 1e-9)
    low, high = min(ys), max(ys)
    pad = 0.06 * (high - low) or 0.5
    y0, y1 = low - pad, high + pad

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        return across, TOP + (y1 - y) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} over {escape(x_label)}">'
    ]
    for k in range(5):
        value = y0 + (y1 - y0) * k / 4
        _, y = place(x0, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        at = x0 + (x1 - x0) * k / 4
        parts.append(f'<text x="{place(at, y0)[0]:.1f}" y="{HEIGHT - 16}" text-anchor="middle">{at:.4g}</text>')
    parts.append(f'<text x="{(WIDTH + LEFT) / 2:.0f}" y="{HEIGHT - 2}" text-anchor="middle">{escape(x_label)}</text>')
    for index, line in enumerate(lines):
        points = [place(x, y) for x, y in zip(line.x, line.y, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = ' stroke-dasharray="4 4"' if line.dashed else ""
        if not line.points:
            title = escape(line.name)
            parts.append(f'<polyline class="line c{index % 6}" points="{path}"{dash}><title>{title}</title></polyline>')
        kind = f"point c{index % 6}" if line.points else "dot"
        for (x, y), xv, yv in zip(points, line.x, line.y, strict=True):
            title = f"{escape(line.name)}: {escape(x_label)} {xv:g}, {escape(y_label)} {yv:.4g}"
            circle = f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{4 if line.points else 5}">'
            parts.append(f"{circle}<title>{title}</title></circle>")
    legend = "".join(
        f'<span><i class="key c{index % 6}{" dashed" if line.dashed else ""}"></i>{escape(line.name)}</span>'
        for index, line in enumerate(lines)
    )
    return Markup("".join(parts) + f'</svg><div class="legend">{legend}</div>')


def confidence_chart(
    confidence: NDArray[np.floating], good: NDArray[np.bool_], seconds: float, played: tuple[float, float]
) -> Markup:
    """An SVG of M moments of a clip of that length: bars as high as the confidence, red where training leaves one out.

    NaN is a moment without a face, and no bar. Of the moments that share a bar the lowest confidence counts, and red wins.
    `played` is the piece that a video beside it shows, as shares of the whole; a line in it follows the video.
    """
    count = len(confidence)
    bars = min(BARS, count)
    paths = {True: "", False: ""}
    for k in range(bars):
        part = slice(k * count // bars, (k + 1) * count // bars)
        found = ~np.isnan(confidence[part])
        if found.any():
            height = max(1, round(BAR * float(np.clip(confidence[part][found].min(), 0, 1))))
            paths[bool(good[part][found].all())] += f"M{k} {BAR}v-{height}h1v{height}z"
    first, last = (share * bars for share in played)
    return Markup(
        f'<svg class="track" viewBox="0 0 {bars} {BAR}" preserveAspectRatio="none" role="img" '
        f'aria-label="confidence over {seconds:.1f} seconds; {int((~good).sum())} of {count} frames are left out">'
        f'<path class="left" d="{paths[False]}"/><path class="read" d="{paths[True]}"/>'
        f'<rect class="window" x="{first:.2f}" y="0" width="{last - first:.2f}" height="{BAR}"/>'
        f'<rect class="now" data-from="{first:.2f}" data-to="{last:.2f}" x="{first:.2f}" y="0" width="0" height="{BAR}"/></svg>'
    )
