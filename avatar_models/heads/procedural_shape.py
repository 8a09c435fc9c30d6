"""The sculpture of the procedural head: a smooth skull, face and neck, with nose, lips and eye sockets laid on it.

All lengths here are millimetres in the head's frame (x to the subject's left, y up, z out of the face; only x >= 0 is
sculpted, the other half is its mirror image). The proportions are those of an average adult: pupils 63 mm apart,
pupil to chin 113 mm, nose 20 mm proud of the lips.

The base surface is star-shaped about a vertical axis: a place on it is a pair (theta, v), theta the longitude from the
face's midline, v the height in millimetres along the wall of a cylinder that ends in a dome at DOME_HEIGHT. Its radius
is interpolated between the control points below by a cubic radial basis function.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

AXIS_Z = -40.0
DOME_HEIGHT = 40.0
DOME_RADIUS = 90.0
V_TOP = DOME_HEIGHT + DOME_RADIUS * np.pi / 2
V_BOTTOM = -190.0

EYE_CENTRE = np.array([31.5, 22.0, 21.8])
EYE_RADIUS = 12.0
EYE_INNER, EYE_OUTER = np.array([16.8, 20.4]), np.array([45.0, 22.6])
MOUTH_CORNER = np.array([25.5, -43.0])

# fmt: off
_CONTROL_POINTS = np.array([
    # midline, face without nose and lips, from the crown down to the throat
    (0, 133, -32), (0, 129, 0), (0, 116, 21), (0, 97, 36), (0, 74, 45), (0, 58, 48.5), (0, 44, 49.5), (0, 30, 46.5),
    (0, 15, 46), (0, 0, 48), (0, -15, 51), (0, -27, 53.5), (0, -41, 54.5), (0, -55, 52.5), (0, -63, 50.5),
    (0, -76, 51), (0, -86, 47), (0, -93, 38), (0, -98, 22), (0, -104, 8), (0, -113, 1), (0, -130, 0), (0, -160, 3),
    (0, -190, 8),
    # midline, back
    (0, 120, -88), (0, 92, -126), (0, 50, -143), (0, 10, -139), (0, -30, -120), (0, -60, -106), (0, -90, -100),
    (0, -130, -102), (0, -190, -112),
    # brow, eyes, cheeks
    (15, 74, 43.5), (15, 44, 48.5), (16, 30, 43), (14, 14, 40), (30, 43, 44), (45, 40, 37.5), (55, 35, 27.5),
    (31, 30, 38), (46, 22, 27.5), (31, 11, 34.5), (17, 8, 38), (31, -4, 39), (20, -2, 42), (58, 20, 17), (48, 6, 31),
    (22, -15, 45), (38, -18, 41.5), (24, -28, 47), (50, -3, 35), (61, -10, 20), (66, 0, 4), (69, -4, -20),
    (70, -10, -38), (52, -22, 27), (66, -22, -6),
    # mouth, chin, jaw
    (15, -41, 51), (26, -43, 43), (15, -60, 47), (25, -61, 40.5), (38, -48, 34), (38, -65, 28), (52, -42, 17),
    (18, -80, 45.5), (16, -89, 38), (29, -84, 33), (38, -78, 22.5), (61, -42, -2), (58, -55, -16), (53, -62, 0),
    (46, -70, 11), (52, -70, -22), (34, -89, 8), (18, -97, 16), (43, -80, -8), (32, -98, -10), (47, -88, -35),
    # temples, forehead, sides of the skull
    (64, 41, 0), (58, 50, 18), (30, 74, 38), (48, 70, 22), (61, 70, -2), (69, 52, -18), (34, 118, -5), (58, 100, -18),
    (72, 76, -38), (76, 52, -50), (76, 30, -58), (75, 5, -52), (70, -22, -48),
    # behind the ears, neck
    (64, -42, -58), (56, -70, -62), (46, -50, -97), (52, -20, -107), (60, 20, -111), (56, 60, -116), (56, 92, -92),
    (36, 119, -82), (72, 78, -75), (76, 48, -88), (71, 8, -88),
    (50, -105, -52), (34, -114, -14), (36, -110, -87), (51, -130, -50), (35, -130, -13), (36, -130, -88),
    (55, -160, -50), (38, -160, -10), (39, -160, -92), (64, -190, -52), (44, -190, -6), (44, -190, -100),
], dtype=np.float64)
# fmt: on


def smoothstep(low: float | Array, high: float | Array, x: Array) -> Array:
    """0 below low, 1 above high, a cubic between; low > high runs the other way."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bump(p: Array, centre: tuple[float, ...], sigma: tuple[float, ...]) -> Array:
    """Gaussian weight (N,) of points (N, D) about a centre, one sigma an axis."""
    d = (p[:, : len(centre)] - np.asarray(centre)) / np.asarray(sigma)
    return np.asarray(np.exp(-0.5 * (d * d).sum(1)))


def _embed(theta: Array, v: Array) -> Array:
    """Places as points of a unit cylinder with a dome, where distances are those along the head."""
    lift = np.clip((v - DOME_HEIGHT) / DOME_RADIUS, 0.0, np.pi / 2)
    height = np.where(v > DOME_HEIGHT, np.sin(lift), (v - DOME_HEIGHT) / DOME_RADIUS)
    return np.stack([np.sin(theta) * np.cos(lift), height, np.cos(theta) * np.cos(lift)], 1)


def places_of(points: Array) -> tuple[Array, Array, Array]:
    """(theta, v, radius) of points (N, 3) about the head's axis."""
    x, y, z = points[:, 0], points[:, 1], points[:, 2] - AXIS_Z
    across = np.hypot(x, z)
    up = y - DOME_HEIGHT
    dome = up > 0
    v = np.where(dome, DOME_HEIGHT + DOME_RADIUS * np.arctan2(up, across), y)
    return np.arctan2(x, z), v, np.where(dome, np.hypot(up, across), across)


@cache
def _radius_coefficients() -> tuple[Array, Array]:
    points = np.concatenate([_CONTROL_POINTS, _CONTROL_POINTS[_CONTROL_POINTS[:, 0] > 0] * [-1, 1, 1]])
    theta, v, radius = places_of(points)
    centres = _embed(theta, v)
    kernel = np.linalg.norm(centres[:, None] - centres[None], axis=-1) ** 3
    linear = np.concatenate([np.ones((len(centres), 1)), centres], 1)
    smoothing = 2e-4
    system = np.block([[kernel - smoothing * np.eye(len(centres)), linear], [linear.T, np.zeros((4, 4))]])
    return centres, np.linalg.solve(system, np.concatenate([radius, np.zeros(4)]))


def base_surface(theta: Array, v: Array) -> Array:
    """Points (N, 3) of the skull, face and neck without nose, lips and sockets."""
    centres, coefficients = _radius_coefficients()
    e = _embed(theta, v)
    kernel = np.linalg.norm(e[:, None] - centres[None], axis=-1) ** 3
    radius = kernel @ coefficients[:-4] + coefficients[-4] + e @ coefficients[-3:]
    lift = np.clip((v - DOME_HEIGHT) / DOME_RADIUS, 0.0, np.pi / 2)
    y = np.where(v > DOME_HEIGHT, DOME_HEIGHT + radius * np.sin(lift), v)
    across = radius * np.cos(lift)
    return np.stack([across * np.sin(theta), y, across * np.cos(theta) + AXIS_Z], 1)


def theta_at(x: Array, y: Array) -> Array:
    """Longitude at which the front of the base surface below the dome has the given x (N,), by bisection."""
    low, high = np.zeros_like(x), np.full_like(x, np.pi / 2)
    for _ in range(40):
        middle = 0.5 * (low + high)
        inside = base_surface(middle, y)[:, 0] < x
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return 0.5 * (low + high)


def mouth_line(x: Array) -> Array:
    """Height of the closed lips' line at lateral distance x >= 0."""
    s = np.clip(x / MOUTH_CORNER[0], 0.0, 1.4)
    return -41.6 + 0.5 * np.exp(-((s / 0.45) ** 2)) * s - (s**2) * 1.4


def lip_heights(x: Array) -> tuple[Array, Array]:
    """Heights of the upper and the lower lip's red (N,) above and below the mouth line, with a cupid's bow."""
    s = np.clip(np.abs(x) / MOUTH_CORNER[0], 0.0, 1.0)
    bow = -1.1 * np.exp(-((s / 0.10) ** 2)) + 0.5 * np.exp(-(((s - 0.2) / 0.12) ** 2))
    return (7.2 + bow) * (1 - s**1.7) ** 0.85, 10.0 * (1 - s**2.0) ** 0.75


def eye_opening(samples: int, blink: float = 0.0) -> Array:
    """The lids' edge (2 * samples, 2) in x, y: from the inner corner over the upper lid, then back under the eye."""
    s = np.linspace(0.0, 1.0, samples + 1)
    chord = EYE_INNER + s[:, None] * (EYE_OUTER - EYE_INNER)
    arch = np.sin(np.pi * s**0.92) ** 0.75
    sag = np.sin(np.pi * s**1.1) ** 0.85
    closed = chord[:, 1] - 3.4 * sag
    upper = chord[:, 1] + 5.6 * arch
    lower = chord[:, 1] - 4.7 * sag
    upper, lower = upper + blink * (closed - upper), lower + blink * (closed - lower)
    return np.concatenate([np.stack([chord[:, 0], upper], 1)[:-1], np.stack([chord[:, 0], lower], 1)[:0:-1]])


def distance_outside_eye(x: Array, y: Array) -> Array:
    """Distance (N,) to the lids' opening, zero inside of it."""
    contour = eye_opening(24)
    following = np.roll(contour, -1, 0)
    p = np.stack([x, y], 1)[:, None]
    edge = following - contour
    t = np.clip(((p - contour) * edge).sum(-1) / (edge * edge).sum(-1), 0.0, 1.0)
    distance = np.linalg.norm(p - contour - t[..., None] * edge, axis=-1).min(1)
    middle = 0.5 * (EYE_INNER + EYE_OUTER)
    across = (x - EYE_INNER[0]) / (EYE_OUTER[0] - EYE_INNER[0])
    s = np.clip(across, 0.0, 1.0)
    chord = middle[1] + (across - 0.5) * (EYE_OUTER[1] - EYE_INNER[1])
    upper = chord + 5.6 * np.sin(np.pi * s**0.92) ** 0.75
    lower = chord - 4.7 * np.sin(np.pi * s**1.1) ** 0.85
    inside = (across > 0) & (across < 1) & (y < upper) & (y > lower)
    return np.where(inside, 0.0, distance)


def _nose(x: Array, y: Array) -> Array:
    heights = np.array([-29.5, -26.5, -24.0, -21.5, -18.5, -15.0, -9.0, 0.0, 10.0, 20.0, 28.0, 36.0])
    proud = np.array([0.0, 1.0, 5.0, 13.0, 19.0, 21.0, 19.3, 14.8, 9.6, 4.6, 1.6, 0.0])
    widths = np.array([8.0, 8.5, 9.5, 10.5, 11.0, 10.8, 9.6, 8.2, 7.6, 7.6, 8.5, 9.0])
    ridge = _smooth_interp(y, heights, proud)
    width = _smooth_interp(y, heights, widths)
    nose = ridge * np.exp(-((np.abs(x) / width) ** 2.0))
    p = np.stack([np.abs(x), y], 1)
    nose += 8.5 * bump(p, (12.8, -16.0), (4.0, 4.6)) - 1.6 * bump(p, (20.5, -15.0), (2.2, 6.0))
    nose += 2.0 * bump(p, (0.0, -16.0), (6.5, 4.5)) - 2.0 * bump(p, (6.5, -22.5), (2.6, 1.6))
    return np.asarray(nose)


def _smooth_interp(x: Array, knots: Array, values: Array) -> Array:
    """Piecewise linear interpolation averaged over +-2 mm: smooth, and no overshoot."""
    offsets = np.linspace(-2.0, 2.0, 7)
    return np.mean([np.interp(x + d, knots, values) for d in offsets], axis=0)


def _lips(x: Array, y: Array) -> Array:
    ax = np.abs(x)
    taper = np.clip(1.0 - (ax / 28.0) ** 2, 0.0, 1.0) ** 0.7
    t = y - mouth_line(ax)
    upper = 4.8 * np.exp(-(((t - 4.2) / 3.0) ** 2))
    lower = 5.8 * np.exp(-(((t + 5.4) / 3.8) ** 2))
    groove = 3.0 * np.exp(-((t / np.where(t > 0, 1.3, 1.6)) ** 2))
    lips = taper * (upper + lower) - groove * np.clip(1.0 - (ax / 31.0) ** 4, 0.0, 1.0)
    p = np.stack([ax, y], 1)
    lips -= 1.8 * bump(p, (28.0, -43.5), (2.6, 3.5))
    lips -= 0.9 * bump(p, (0.0, -29.5), (2.4, 3.6)) - 0.5 * bump(p, (5.0, -31.0), (1.8, 3.6))
    return np.asarray(lips)


def lid_height(from_eye: Array) -> Array:
    """Height z of the lids at a distance in x, y from the eyeball's middle: on the ball, then straight out into the socket."""
    shell = EYE_RADIUS + 1.0
    dome = EYE_CENTRE[2] + np.sqrt(np.clip(shell**2 - np.minimum(from_eye, 0.93 * shell) ** 2, 0.0, None))
    return np.asarray(dome - np.clip(from_eye - 0.93 * shell, 0.0, None) * 0.55)


def add_relief(points: Array) -> Array:
    """Nose, lips, sockets, lids and soft folds laid on base points (N, 3)."""
    x, y, z = points.T
    front = smoothstep(-5.0, 12.0, z)
    p = np.stack([np.abs(x), y], 1)
    z = z + front * (_nose(x, y) + _lips(x, y))
    fold_x = np.interp(y, [-46.0, -32.0, -14.0], [33.0, 29.0, 21.0])
    fold = np.exp(-0.5 * ((p[:, 0] - fold_x) / 2.6) ** 2) * smoothstep(-52, -38, y) * smoothstep(-8, -18, y)
    z = z - front * 0.9 * fold
    z = z + front * (1.6 * bump(p, (0.0, -78.0), (10.0, 8.0)) - 1.6 * bump(p, (0.0, -62.0), (12.0, 4.5)))
    z = z + front * (1.4 * bump(p, (36.0, 36.0), (14.0, 4.0)) + 0.8 * bump(p, (36.0, -8.0), (11.0, 8.0)))
    # the lids lie on the eyeball and run out into the socket
    distance = distance_outside_eye(np.abs(x), y)
    from_eye = np.hypot(np.abs(x) - EYE_CENTRE[0], y - EYE_CENTRE[1])
    dome = lid_height(from_eye)
    on_eye = front * smoothstep(8.5, 1.2, distance) * (np.abs(x) < 70)
    z = on_eye * dome + (1.0 - on_eye) * z
    crease = smoothstep(0.8, 1.6, distance) * smoothstep(5.5, 3.4, distance) * smoothstep(20.0, 25.0, y)
    z = z - front * 0.9 * crease * (np.abs(p[:, 0] - 31) < 17)
    return np.stack([x, y, z], 1)
