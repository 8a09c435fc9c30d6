"""Drawing what tracking found over the pictures it was found in. Arrays in, a picture out; nothing is read or written here.

Pictures are (H, W, 3) uint8 RGB, points are in pixels with centres at +0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar_models.mesh_render import rasterise
from avatar_models.shading import shaded
from pipelines.lettering import Color, fitted, text_width, write
from pipelines.tracked import TrackedHead, TrackedSegment

Picture = NDArray[np.uint8]
PAPER, CARD, INK, SOFT = (18, 22, 28), (34, 41, 52), (232, 235, 240), (154, 165, 181)
DETECTED, MODEL = (255, 170, 51), (94, 255, 214)
GOOD, LEFT_OUT = (84, 186, 196), (239, 83, 74)
OUTLINE = (214, 228, 255)
SKIN, EYE, IRIS, TEETH, MOUTH = (0.52, 0.68, 1.0), (1.0, 1.0, 1.0), (0.04, 0.08, 0.25), (0.97, 0.97, 0.94), (0.42, 0.22, 0.40)
IRIS_RADIUS = 0.0058  # metres
OPACITY = 0.62  # of the mesh
CONTRAST = 1.8
"""Exponent on the light's strength: soft light shows no shape under half a picture."""
WIDEST = 16 / 9
"""Of the source's panel, over its height: a wider picture gets bars above and below."""
AREA_BELOW = 0.6
"""Scale below which pictures are averaged over areas: slow, and above it hardly seen."""
LINE = 1.5  # distance of lines of text, over the height of letters


@dataclass(frozen=True)
class Clay:
    """How a head is shown: its triangles and a plain colour for each vertex."""

    faces: NDArray[np.int64]  # (F, 3)
    colors: NDArray[np.float32]  # (V, 3) in [0, 1]
    wet: NDArray[np.bool_]  # (V,) what shines


def clay_of(head: TrackedHead) -> Clay:
    """Skin, and what the model tells apart of eyes, teeth and mouth: eyes have irises, so that a gaze shows."""
    template = head.template
    colors, wet = np.tile(np.asarray(SKIN, np.float32), (len(template), 1)), np.zeros(len(template), bool)
    for name, color in (("mouth", MOUTH), ("teeth", TEETH), ("eyes_left", EYE), ("eyes_right", EYE)):
        if name not in head.masks:
            continue
        part = head.masks[name]
        colors[part] = color
        if name.startswith("eyes"):
            wet |= part
            pole = template[part][template[part][:, 2].argmax()]
            colors[part & (np.linalg.norm(template - pole, axis=1) < IRIS_RADIUS)] = IRIS
    return Clay(head.faces, colors, wet)


def draw_head(
    picture: Picture, clay: Clay, vertices: NDArray[np.floating], K: NDArray[np.floating], viewmat: NDArray[np.floating]
) -> Picture:
    """The picture with the shaded surface (V, 3), in metres, half transparent over it; K in pixels of this picture."""
    height, width = picture.shape[:2]
    faces = _facing(vertices, clay.faces, viewmat)
    surface = rasterise(vertices, faces, K, viewmat, width, height)
    inside = (surface.triangle >= 0).astype(np.uint8)
    light = shaded(vertices, faces, viewmat, np.ones((len(vertices), 1), np.float32), clay.wet)
    color = surface.interpolate(faces, clay.colors * np.clip(light, 0, 1.2) ** CONTRAST * np.float32(255))
    edge = cv2.dilate(inside, np.ones((3, 3), np.uint8)) - inside
    color[edge > 0] = OUTLINE
    cover = cv2.blur((inside + edge).astype(np.float32), (3, 3)) * inside * np.float32(OPACITY) + edge * np.float32(0.8)
    return cv2.blendLinear(color, picture.astype(np.float32), cover, 1 - cover).clip(0, 255).round().astype(np.uint8)  # type: ignore[return-value]


def _facing(vertices: NDArray[np.floating], faces: NDArray[np.int64], viewmat: NDArray[np.floating]) -> NDArray[np.int64]:
    """The triangles whose outside the camera sees: the others are hidden, or the inside of an open neck."""
    camera = vertices @ viewmat[:3, :3].T + viewmat[:3, 3]
    x, y = (camera[:, :2] / np.maximum(camera[:, 2:], 1e-6)).T
    (ax, bx, cx), (ay, by, cy) = ([np.take(values, faces[:, k]) for k in range(3)] for values in (x, y))
    return np.ascontiguousarray(faces[(bx - ax) * (cy - ay) < (by - ay) * (cx - ax)])  # y points down: clockwise in the picture


def draw_points(picture: Picture, points: NDArray[np.floating], color: Color, radius: float) -> None:
    """Round dots at points (P, 2), into the picture; a pixel takes as much of the colour as the dot covers of it."""
    height, width = picture.shape[:2]
    reach = np.arange(-int(radius + 1), int(radius + 1) + 1)
    nearest = np.floor(np.clip(points, -1e4, 1e4)).astype(np.int64)
    y = (nearest[:, 1, None] + reach)[:, :, None]
    x = (nearest[:, 0, None] + reach)[:, None, :]
    away = np.hypot(x + 0.5 - points[:, 0, None, None], y + 0.5 - points[:, 1, None, None])
    share = np.clip(radius + 0.5 - away, 0, 1) * ((x >= 0) & (x < width) & (y >= 0) & (y < height))
    dot, down, across = np.nonzero(share)
    place = y[dot, down, 0] * width + x[dot, 0, across]
    cover = np.zeros(height * width, np.float32)
    np.maximum.at(cover, place, share[dot, down, across].astype(np.float32))
    touched = np.flatnonzero(cover)
    at, ink = np.divmod(touched, width), cover[touched, None]
    picture[at] = np.round(picture[at] * (1 - ink) + ink * np.asarray(color, np.float32))


def draw_pairs(picture: Picture, detected: NDArray[np.floating], model: NDArray[np.floating], radius: float) -> None:
    """The detector's points as orange dots, the fitted head's as smaller green ones over them, lines where they lie apart."""
    apart = np.linalg.norm(detected - model, axis=1) > 2 * radius
    ends = np.stack([detected[apart], model[apart]], 1) - 0.5  # OpenCV's pixel centres are whole numbers
    cv2.polylines(picture, list(np.round(np.clip(ends, -1e4, 1e4) * 16).astype(np.int32)), False, DETECTED, 1, cv2.LINE_AA, 4)
    draw_points(picture, detected, DETECTED, radius)
    draw_points(picture, model, MODEL, 0.6 * radius)


def draw_tracked(picture: Picture, segment: TrackedSegment, row: int, clay: Clay) -> Picture:
    """A crop, at any size, with the head and the landmarks of a row, framed in red where training leaves it out."""
    size = len(picture)
    scale = size / segment.side
    vertices, model = segment.posed(row)
    drawn = draw_head(picture, clay, vertices, segment.clip.K[row] * [[scale], [scale], [1]], segment.clip.viewmat[row])
    draw_pairs(drawn, segment.detected[row] * scale, model * scale, max(0.8, size / 230))
    if not segment.good[row]:
        draw_frame(drawn, LEFT_OUT, max(2, size // 80))
    return drawn


def resized_crop(picture: Picture, size: int) -> Picture:
    """A square picture at size x size."""
    if len(picture) == size:
        return picture
    smooth = cv2.INTER_CUBIC if size > len(picture) else cv2.INTER_AREA
    return cv2.resize(picture, (size, size), interpolation=smooth)  # type: ignore[return-value]


def draw_frame(picture: Picture, color: Color, width: int) -> None:
    """A border of `width` pixels, into the picture."""
    for edge in (picture[:width], picture[-width:], picture[:, :width], picture[:, -width:]):
        edge[:] = color


@dataclass(frozen=True)
class SourcePanel:
    """Where a clip's source frames lie in their panel. All crops fit in, too: they may reach out of the picture."""

    width: int  # of the panel, pixels
    height: int
    scale: float  # panel pixels per source pixel
    left: float  # panel x of the source's x = 0
    top: float

    def show(self, picture: Picture, square: tuple[float, float, float] | None, color: Color) -> Picture:
        """The panel with a source frame and the square (x0, y0, side), in source pixels, of its crop."""
        panel = _blank(self.height, self.width, PAPER).copy()
        x0, y0 = round(self.left), round(self.top)
        h, w = (round(side * self.scale) for side in picture.shape[:2])
        size = min(self.width - x0, w), min(self.height - y0, h)
        smooth = cv2.INTER_AREA if self.scale < AREA_BELOW else cv2.INTER_LINEAR
        panel[y0 : y0 + size[1], x0 : x0 + size[0]] = cv2.resize(picture, size, interpolation=smooth)
        if square is not None:
            x, y = self.left + square[0] * self.scale - 0.5, self.top + square[1] * self.scale - 0.5
            side = square[2] * self.scale
            first, last = ((round(a * 16), round(b * 16)) for a, b in ((x, y), (x + side, y + side)))
            for tone, width in (((0, 0, 0), 4), (color, 2)):  # a dark rim, to show on any ground
                cv2.rectangle(panel, first, last, tone, width, cv2.LINE_AA, 4)
        return panel


def source_panel(size: tuple[int, int], squares: NDArray[np.floating], height: int) -> SourcePanel:
    """The panel for source frames of (width, height) and all the clip's squares (N, 3), x0, y0, side in source pixels."""
    corner, side = squares[:, :2], squares[:, 2:]
    low = np.minimum(0, corner.min(0))
    w, h = np.maximum(size, (corner + side).max(0)) - low
    scale = min(height / h, WIDEST * height / w)
    width = max(1, int(np.ceil(w * scale)))
    return SourcePanel(width, height, scale, -low[0] * scale, -low[1] * scale + (height - h * scale) / 2)


@lru_cache(maxsize=8)
def _blank(height: int, width: int, color: Color) -> Picture:
    """A picture of one colour, to be copied: filling one costs as much as drawing all the landmarks."""
    picture = np.full((height, width, 3), color, np.uint8)
    picture.flags.writeable = False
    return picture


def nothing_found(height: int, width: int) -> Picture:
    """The panel of a frame in which no face was found."""
    panel = _blank(height, width, CARD).copy()
    letters = max(9, round(height / 22))
    write(panel, "no face", ((width - text_width("no face", letters)) // 2, (height - letters) // 2), letters, SOFT)
    return panel


def timeline(confidence: NDArray[np.floating], good: NDArray[np.bool_], width: int, height: int) -> Picture:
    """A bar for each of M moments: as high as its confidence, red where training leaves it out; NaN is no face, and no bar.

    Where there are more moments than pixels, the lowest confidence among those of a pixel is shown, and red wins.
    """
    strip = np.full((height, width, 3), CARD, np.uint8)
    count = len(confidence)
    for x in range(width):
        part = slice(x * count // width, max(x * count // width + 1, (x + 1) * count // width))
        found = ~np.isnan(confidence[part])
        if found.any():
            level = float(confidence[part][found].min())
            top = min(height - 1, round((1 - np.clip(level, 0, 1)) * (height - 1)))
            strip[top:, x] = GOOD if good[part][found].all() else LEFT_OUT
    return strip


LEGEND = (
    ("mesh", "fitted head"), ("detected", "points that the detector saw"), ("model", "those points on the fitted head"),
    ("square", "stored crop"), ("good", "confidence over time"), ("left_out", "left out of training"), ("no_face", "no face"),
)  # fmt: skip
Words = list[tuple[str, Color]]


@dataclass(frozen=True)
class Sheet:
    """What stands still on the pictures of a clip: a place for the panels, the clip's confidence over time, the legend."""

    base: Picture
    panels: int  # their height, at the top
    letters: int  # height of a line of text
    strip: tuple[int, int, int, int]  # x, y, width, height of the timeline
    moments: int

    def filled(self, panels: list[Picture], moment: int, name: str, verdict: tuple[str, Color], figures: Words) -> Picture:
        """The picture of one moment: panels side by side, below them the clip's name, the verdict, and figures."""
        picture = self.base.copy()
        x = 0
        for panel in panels:
            picture[: self.panels, x : x + panel.shape[1]] = panel
            x += panel.shape[1]
        left, top, width, height = self.strip
        y, gap = self.panels + self.letters // 2, self.letters
        room = width - text_width(verdict[0], self.letters)
        write(picture, fitted(name, self.letters, room - gap), (left, y), self.letters, INK)
        write(picture, verdict[0], (left + room, y), self.letters, verdict[1])
        x, y = left, y + round(LINE * self.letters)
        for text, tone in figures:
            x = write(picture, text, (x, y), self.letters, tone) + gap
        at = left + int((moment + 0.5) / self.moments * width)
        picture[top - 3 : top + height + 3, max(0, at - 1) : at + 1] = INK
        return picture


def sheet(width: int, panels: int, confidence: NDArray[np.floating], good: NDArray[np.bool_], *, with_source: bool) -> Sheet:
    """The sheet of a clip of M moments, for panels of that height and together that wide."""
    letters = max(9, round(panels / 34))
    line = round(LINE * letters)
    strip = (letters, panels + letters + 2 * line, width - 2 * letters, 2 * letters)
    x, y, places = letters, strip[1] + strip[3] + letters, []
    for kind, text in LEGEND:
        if kind == "square" and not with_source:
            continue
        wide = round(1.7 * letters) + text_width(text, letters)
        if x + wide > width - letters and x > letters:
            x, y = letters, y + line
        places.append((kind, text, x, y))
        x += wide + round(1.3 * letters)
    base = np.full(((y + 2 * letters) // 2 * 2, width, 3), PAPER, np.uint8)
    x, y, w, h = strip
    base[y : y + h, x : x + w] = timeline(confidence, good, w, h)
    for kind, text, x, y in places:
        _swatch(base[y : y + round(1.3 * letters), x : x + round(1.2 * letters)], kind)
        write(base, text, (x + round(1.7 * letters), y), letters, SOFT)
    return Sheet(base, panels, letters, strip, len(confidence))


def _swatch(place: Picture, kind: str) -> None:
    """A sign of the legend, drawn into its place."""
    h, w = place.shape[:2]
    middle = np.array([[w / 2, h / 2]])
    if kind == "detected":
        draw_points(place, middle, DETECTED, 0.3 * h)
    elif kind == "model":
        draw_points(place, middle, MODEL, 0.2 * h)
    elif kind == "square":
        cv2.rectangle(place, (1, 2), (w - 3, h - 3), INK, 2)
    else:
        clay = tuple(round(190 * value) for value in SKIN)
        place[h // 6 : -(h // 6)] = {"mesh": clay, "good": GOOD, "left_out": LEFT_OUT, "no_face": CARD}[kind]
