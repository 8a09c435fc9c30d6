"""How the procedural head varies: identity and expression modes as displacement fields, joints and skinning weights.

Each mode is written as a few soft bumps over the neutral vertices, in millimetres for a coefficient of 1. Identity
coefficients are standard normal; expression coefficients go from 0 (rest) to 1 (full).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from avatar_models.heads import procedural_shape as shape
from avatar_models.heads.procedural_mesh import (
    EAR,
    EYE_LEFT,
    EYE_RIGHT,
    MOUTH,
    RIM,
    SKIN,
    TEETH_LOWER,
    TEETH_UPPER,
    HeadMesh,
)
from avatar_models.heads.procedural_shape import bump, smoothstep
from avatar_models.heads.skinning import JAW, LEFT_EYE, NECK, NUM_JOINTS, RIGHT_EYE, ROOT

Array = NDArray[np.float64]
Field = Callable[[HeadMesh], Array]  # displacement (V, 3) in mm
JOINTS_MM = np.array([[0, -190, -50], [0, -110, -55], [0, -8, -36], [31.5, 22.0, 21.8], [-31.5, 22.0, 21.8]])
EYE_REGION = (31.0, 22.0)
LID_OVERLAP = 3.0  # mm
LID_CLEARANCE = 1.9  # mm


def _sided(mesh: HeadMesh, side: float) -> Array:
    """Vertices mirrored so that the wanted side lies at x > 0."""
    return mesh.vertices * [side, 1.0, 1.0]


def _push(
    mesh: HeadMesh, side: float, centre: tuple[float, float], sigma: tuple[float, float], by: tuple[float, float, float],
    only: NDArray[np.bool_] | None = None,
) -> Array:  # fmt: skip
    """A bump at (x, y) on one side of the face's front (side = 1 left, -1 right)."""
    p = _sided(mesh, side)
    weight = bump(p, centre, sigma) * smoothstep(-40.0, 0.0, p[:, 2]) * np.isin(mesh.part, (SKIN, MOUTH))
    if only is not None:
        weight = weight * only
    return weight[:, None] * (np.asarray(by) * [side, 1.0, 1.0])


def _both(mesh: HeadMesh, centre: tuple[float, float], sigma: tuple[float, float], by: tuple[float, float, float],
          only: NDArray[np.bool_] | None = None) -> Array:  # fmt: skip
    """The same bump on both sides; near the midline the two are averaged, so that they do not add up there."""
    left, right = _push(mesh, 1.0, centre, sigma, by, only), _push(mesh, -1.0, centre, sigma, by, only)
    if centre[0] == 0.0:
        return left * [0.0, 1.0, 1.0] if by[0] == 0 else left
    return left * smoothstep(-6.0, 6.0, mesh.vertices[:, :1]) + right * smoothstep(6.0, -6.0, mesh.vertices[:, :1])


def _lips_upper(mesh: HeadMesh) -> NDArray[np.bool_]:
    return ~mesh.lower_lip & (mesh.vertices[:, 1] < -25.0)


# -- expressions ------------------------------------------------------------------------------------------------------


def _lids(mesh: HeadMesh, side: float, upper: float, lower: float) -> Array:
    """Lids that slide over the eyeball: the upper by `upper`, the lower by `lower`, as shares of the way to where they meet."""
    p = _sided(mesh, side)
    x, y = p[:, 0], p[:, 1]
    open_, shut = shape.eye_opening(40), shape.eye_opening(40, blink=1.0)
    s = np.clip(x, shape.EYE_INNER[0], shape.EYE_OUTER[0])
    up = np.interp(s, open_[:41, 0], open_[:41, 1])
    down_line = open_[np.r_[0, len(open_) - 1 : 40 : -1, 40]]
    down = np.interp(s, down_line[:, 0], down_line[:, 1])
    meet = np.interp(s, shut[:41, 0], shut[:41, 1])
    outside = np.exp(-(((x - s) / 4.0) ** 2))
    skin = (mesh.part == SKIN) & (p[:, 2] > 0)
    above = np.where(y >= (up + down) / 2, np.exp(-((np.clip(y - up, 0, None) / 5.0) ** 2)), 0.0) * outside * skin
    below = np.where(y < (up + down) / 2, np.exp(-((np.clip(down - y, 0, None) / 5.0) ** 2)), 0.0) * outside * skin
    # The edges follow the grid, up to a millimetre off the drawn opening: the upper lid goes that much past the meeting line.
    moved_y = y + above * upper * (meet - LID_OVERLAP - up) + below * lower * (meet - down)
    # A coefficient moves the lid along a chord of the ball; the shell at its end is wide enough that the chord stays outside.
    radius = np.hypot(x - shape.EYE_CENTRE[0], moved_y - shape.EYE_CENTRE[1])
    shell = shape.EYE_RADIUS + LID_CLEARANCE
    on_ball = shape.EYE_CENTRE[2] + np.sqrt(np.clip(shell**2 - np.minimum(radius, 0.98 * shell) ** 2, 0.0, None))
    moved = smoothstep(0.0, 0.12, above * abs(upper) + below * abs(lower))
    moved_z = p[:, 2] + moved * np.clip(on_ball - p[:, 2], 0.0, None)
    return np.stack([0 * x, moved_y - y, moved_z - p[:, 2]], 1)


def _sided_expressions() -> dict[str, Callable[[HeadMesh, float], Array]]:
    return {
        "eyeBlink": lambda m, s: _lids(m, s, 1.0, 0.15),
        "eyeWide": lambda m, s: _lids(m, s, -0.3, 0.0),
        "eyeSquint": lambda m, s: _lids(m, s, 0.12, 0.45) + _push(m, s, (36, -2), (14, 10), (0, 3, 1)),
        "browDown": lambda m, s: _push(m, s, (22, 40), (13, 8), (-2.5, -6, 1)),
        "browOuterUp": lambda m, s: _push(m, s, (42, 42), (13, 14), (0, 7, 0)),
        "noseSneer": lambda m, s: _push(m, s, (13, -8), (8, 10), (0.5, 4.5, 1)),
        "mouthSmile": lambda m, s: _push(m, s, (27, -43), (12, 11), (7, 7, -4)) + _push(m, s, (38, -18), (14, 12), (1, 3, 3)),
        "mouthFrown": lambda m, s: _push(m, s, (27, -45), (11, 10), (1.5, -7, -2)),
        "mouthStretch": lambda m, s: _push(m, s, (28, -45), (12, 13), (9, -2, -5)),
        "mouthUpperUp": lambda m, s: _push(m, s, (10, -35), (9, 8), (0, 5.5, 1), _lips_upper(m)),
        "mouthLowerDown": lambda m, s: _push(m, s, (10, -49), (9, 8), (0, -5.5, 1), m.lower_lip),
    }


def _whole_expressions() -> dict[str, Field]:
    def lips(m: HeadMesh, by: tuple[float, float, float]) -> Array:
        p = m.vertices
        weight = bump(p, (0, -42), (26, 13)) * smoothstep(-10.0, 15.0, p[:, 2]) * np.isin(m.part, (SKIN, MOUTH))
        return weight[:, None] * np.asarray(by)

    return {
        "browInnerUp": lambda m: _both(m, (9, 42), (9, 13), (0, 7.5, 0)),
        "cheekPuff": lambda m: _both(m, (44, -36), (14, 14), (6, 0, 6)),
        "mouthPucker": lambda m: _both(m, (24, -43), (13, 11), (-9, 0, 2)) + lips(m, (0, 0, 6)),
        "mouthFunnel": lambda m: (
            _both(m, (24, -43), (12, 11), (-5, 0, 1)) + lips(m, (0, 0, 4))
            + _both(m, (0, -37), (13, 7), (0, 4, 1), _lips_upper(m)) + _both(m, (0, -48), (13, 7), (0, -4, 1), m.lower_lip)
        ),
        "mouthLeft": lambda m: lips(m, (8, 0, -1)),
        "mouthRight": lambda m: lips(m, (-8, 0, -1)),
        "mouthRollUpper": lambda m: _both(m, (0, -38), (16, 4.5), (0, -2.5, -5), _lips_upper(m)),
        "mouthRollLower": lambda m: _both(m, (0, -46), (16, 5), (0, 3, -5), m.lower_lip),
        "mouthShrug": lambda m: _both(m, (0, -48), (18, 9), (0, 4, 2.5), m.lower_lip) + _both(m, (0, -72), (16, 12), (0, 4, 1))
        + _both(m, (0, -38), (16, 7), (0, 2.5, 1.5), _lips_upper(m)),
    }  # fmt: skip


def expression_modes(mesh: HeadMesh) -> tuple[tuple[str, ...], Array]:
    """Names and displacements (E, V, 3) in mm; the inside of the mouth follows the lips only at its rim."""
    names, fields = [], []
    for name, sided in _sided_expressions().items():
        for suffix, side in (("Left", 1.0), ("Right", -1.0)):
            names.append(name + suffix)
            fields.append(sided(mesh, side))
    for name, field in _whole_expressions().items():
        names.append(name)
        fields.append(field(mesh))
    return tuple(names), np.stack(fields)


# -- identities -------------------------------------------------------------------------------------------------------


def hair_region(vertices: Array) -> Array:
    """How much (V,) a vertex in mm is covered by hair: the skull above the hairline, behind the temples, down to the nape."""
    x, y, z = np.abs(vertices[:, 0]), vertices[:, 1], vertices[:, 2]
    hairline = np.interp(z, [-150, -100, -75, -40, -20, 0, 20, 60], [-75, -62, -38, 22, 34, 52, 70, 86])
    return smoothstep(-4.0, 5.0, y - hairline - 0.05 * (x - 40))


def _identity_fields() -> dict[str, Field]:
    def of_head(m: HeadMesh, axis: int, amount: float, about: float) -> Array:
        d = np.zeros_like(m.vertices)
        d[:, axis] = amount * (m.vertices[:, axis] - about)
        return d

    def eye_region(m: HeadMesh) -> Array:
        p = np.abs(m.vertices * [1, 0, 0]) + m.vertices * [0, 1, 1]
        soft = bump(p, EYE_REGION, (13, 11)) * smoothstep(-20.0, 5.0, p[:, 2])
        return np.where(np.isin(m.part, (EYE_LEFT, EYE_RIGHT, RIM)), 1.0, np.where(m.part == SKIN, soft, 0.0))

    def eyes_apart(m: HeadMesh) -> Array:
        return eye_region(m)[:, None] * np.sign(m.vertices[:, :1]) * [2.0, 0, 0]

    def eyes_size(m: HeadMesh) -> Array:
        sign = np.sign(m.vertices[:, :1])
        offset = m.vertices - np.concatenate([sign * 31.0, 0 * sign + 22.0, 0 * sign + 33.0], 1)
        return 0.09 * (eye_region(m) * np.isin(m.part, (SKIN, RIM)))[:, None] * offset * [1, 1, 0.3]

    def jaw_wide(m: HeadMesh) -> Array:
        return (
            (smoothstep(-20.0, -75.0, m.vertices[:, 1]) * smoothstep(-130, -95, m.vertices[:, 1]))[:, None]
            * m.vertices
            * [0.08, 0, 0]
        )

    def chin_long(m: HeadMesh) -> Array:
        return (smoothstep(-45.0, -85.0, m.vertices[:, 1]) * smoothstep(-60, 10, m.vertices[:, 2]))[:, None] * [
            0,
            -5.0,
            0,
        ]

    def face_flat(m: HeadMesh) -> Array:
        return -0.10 * np.clip(m.vertices - [0, 0, 5], 0, None) * [0, 0, 1]

    def hair_volume(m: HeadMesh) -> Array:
        centre = np.array([0.0, 20.0, -45.0])
        away = m.vertices - centre
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        ears = 4.0 * (m.part == EAR)[:, None] * np.sign(m.vertices[:, :1]) * [1.0, 0, 0]  # else they sink into the hair
        return 6.0 * (hair_region(m.vertices) * (m.part == SKIN))[:, None] * away + ears

    def neck_wide(m: HeadMesh) -> Array:
        return (smoothstep(-85.0, -125.0, m.vertices[:, 1]))[:, None] * (m.vertices + [0, 0, 50.0]) * [0.1, 0, 0.1]

    def face_narrow(m: HeadMesh) -> Array:
        front = (
            smoothstep(-30, 30, m.vertices[:, 2])
            * smoothstep(-120, -80, m.vertices[:, 1])
            * smoothstep(70, 20, m.vertices[:, 1])
        )
        return front[:, None] * m.vertices * [-0.05, 0, 0]

    return {
        "headWidth": lambda m: of_head(m, 0, 0.045, 0.0),
        "headDepth": lambda m: of_head(m, 2, 0.05, 0.0),
        "faceNarrow": face_narrow,
        "faceFlat": face_flat,
        "jawWidth": jaw_wide,
        "chinLength": chin_long,
        "chinForward": lambda m: _both(m, (0, -82), (22, 16), (0, 0, 4.5)),
        "cheekbones": lambda m: _both(m, (52, -2), (14, 14), (2.5, 0, 3)),
        "cheekFullness": lambda m: _both(m, (44, -38), (15, 17), (3, 0, 3)),
        "noseLength": lambda m: _both(m, (0, -16), (13, 14), (0, -3.5, 0)),
        "noseWidth": lambda m: _both(m, (12, -14), (8, 10), (2.6, 0, 0)),
        "noseHeight": lambda m: _both(m, (0, -12), (12, 13), (0, 0, 4)),
        "noseBridge": lambda m: _both(m, (0, 14), (8, 13), (0, 0, 3)),
        "eyeDistance": eyes_apart,
        "eyeSize": eyes_size,
        "eyeHeight": lambda m: eye_region(m)[:, None] * np.array([0, 2.2, 0]),
        "browHeight": lambda m: _both(m, (28, 42), (22, 9), (0, 2.8, 0)),
        "browRidge": lambda m: _both(m, (26, 40), (20, 8), (0, 0, 2.5)),
        "mouthWidth": lambda m: _both(m, (26, -43), (10, 10), (3, 0, -1)),
        "mouthHeight": lambda m: _both(m, (0, -42), (30, 13), (0, 3, 0)),
        "lipUpper": lambda m: _both(m, (0, -34.5), (18, 4), (0, 1.8, 1.0), _lips_upper(m)),
        "lipLower": lambda m: _both(m, (0, -51), (17, 4.5), (0, -1.8, 1.0), m.lower_lip),
        "lipsForward": lambda m: _both(m, (0, -42), (22, 12), (0, 0, 3)),
        "foreheadSlope": lambda m: _both(m, (0, 85), (45, 26), (0, 0, -5)),
        "neckWidth": neck_wide,
        "hairVolume": hair_volume,
    }


def _keep_lids_on_eyes(mesh: HeadMesh, mode: Array, lids: bool) -> None:
    """Makes a mode move each eyeball as a whole, and the lids' edges with it, in place: else the ball cuts through them."""
    x, y, z = mesh.vertices.T
    near = smoothstep(8.0, 2.5, shape.distance_outside_eye(np.abs(x), y)) * smoothstep(0.0, 15.0, z) * (mesh.part == SKIN)
    for side, part in ((1.0, EYE_LEFT), (-1.0, EYE_RIGHT)):
        carried = mode[mesh.part == part].mean(0)
        mode[mesh.part == part] = carried
        if lids:
            mode[(mesh.part == RIM) & (side * x > 0)] = carried
            share = (near * (side * x > 0))[:, None]
            mode += share * (carried - mode)


def identity_modes(mesh: HeadMesh) -> tuple[tuple[str, ...], Array, Array]:
    """Names, displacements (I, V, 3) and joint displacements (I, 5, 3), all in mm."""
    fields = _identity_fields()
    modes = np.stack([field(mesh) for field in fields.values()])
    joints = np.zeros((len(modes), NUM_JOINTS, 3))
    scales = [(0, "headWidth", 0.045), (2, "headDepth", 0.05)]  # a height beside them would be growth less both
    for axis, name, amount in scales:
        joints[list(fields).index(name), : JAW + 1, axis] = amount * JOINTS_MM[: JAW + 1, axis]
    for name, mode, of_joints in zip(fields, modes, joints, strict=True):
        motion = _motion_of_face(mesh, mode)
        mode -= motion(mesh.vertices)
        of_joints -= motion(JOINTS_MM)
        _keep_lids_on_eyes(mesh, mode, lids=name != "eyeSize")
    # An eye turns about the middle of its ball, wherever a mode carries it.
    for joint, part in ((LEFT_EYE, EYE_LEFT), (RIGHT_EYE, EYE_RIGHT)):
        joints[:, joint] = modes[:, mesh.part == part].mean(1)
    return tuple(fields), modes, joints


def _motion_of_face(mesh: HeadMesh, mode: Array) -> Callable[[Array], Array]:
    """The shift, turn and growth of the whole head that is nearest to what a mode does to the face, as a field over points.

    One camera cannot tell a larger head from a nearer one, nor a mode that turns the face from a turn of the head: a shape
    space without them (as after Procrustes' alignment) leaves each to the pose alone.
    """
    y, z = mesh.vertices[:, 1], mesh.vertices[:, 2]
    face = (mesh.part == SKIN) & (z > 0) & (y > -95) & (y < 70)

    def motions(points: Array) -> Array:  # (N, 3, 7): shifts, turns about the axes, growth
        turns = np.cross(np.eye(3)[None], points[:, None]).transpose(0, 2, 1)
        return np.concatenate([np.broadcast_to(np.eye(3), (len(points), 3, 3)), turns, points[:, :, None]], 2)

    A = motions(mesh.vertices[face]).reshape(-1, 7)
    # einsum adds up in one order; a product of matrices does so in another with each number of threads.
    amounts = np.linalg.solve(np.einsum("nk,nl->kl", A, A), np.einsum("nk,n->k", A, mode[face].ravel()))
    return lambda points: motions(points) @ amounts


# -- skinning ---------------------------------------------------------------------------------------------------------


def skinning_weights(mesh: HeadMesh) -> Array:
    """(V, 5): the jaw carries the lower lip, chin and cheeks' lower part, the neck joint the head, the root what is below."""
    x, y, z = np.abs(mesh.vertices[:, 0]), mesh.vertices[:, 1], mesh.vertices[:, 2]
    t = y - shape.mouth_line(np.minimum(x, 30.0))
    side = smoothstep(22.0, -30.0, t)  # beside the mouth the jaw's pull fades in slowly
    corner = smoothstep(0.55, 1.02, x / shape.MOUTH_CORNER[0])
    jaw = np.where(mesh.lower_lip, 1.0 - (1.0 - side) * corner, side * corner)
    jaw = jaw * smoothstep(-48.0, -8.0, z + 0.25 * np.clip(-60.0 - y, 0, None)) * smoothstep(-122.0, -96.0, y)
    jaw[mesh.part == TEETH_LOWER] = 1.0
    jaw[np.isin(mesh.part, (TEETH_UPPER, EYE_LEFT, EYE_RIGHT, EAR))] = 0.0
    neck = smoothstep(-178.0, -112.0, y)
    weights = np.zeros((len(x), NUM_JOINTS))
    weights[:, JAW] = jaw * neck
    for joint, part in ((LEFT_EYE, EYE_LEFT), (RIGHT_EYE, EYE_RIGHT)):
        weights[mesh.part == part, joint] = 1.0
    weights[:, NECK] = neck * (1.0 - weights[:, [JAW, LEFT_EYE, RIGHT_EYE]].sum(1))
    weights[:, ROOT] = 1.0 - weights[:, 1:].sum(1)
    return weights
