"""Gaussians as PLY files: the layout of 3DGS that viewers read, and PlayCanvas's compressed one, about a quarter of its size.

Both hold the numbers before activation: scales as logarithms, opacities as logits, colours as spherical harmonics.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from avatar_models.gaussians import Gaussians, unusable

SH_C0 = 0.28209479177387814
MIN_OPACITY = 1e-6
"""Opacities are held this far from 0 and 1, whose logits are infinite."""

CHUNK = 256  # Gaussians that share one range in a compressed file
MAX_LOG_SCALE = 20.0


def write_ply(path: Path, gaussians: Gaussians) -> None:
    """Writes Gaussians with quats and scales in the layout of 3DGS (Kerbl et al. 2023), binary.

    Colours (N, 3) become SH of degree 0. Raises ValueError for covariances, for other numbers of channels, for none
    at all, and for values that are not finite.
    """
    columns = _columns(gaussians)
    table = np.zeros(len(gaussians), [(name, "<f4") for name in columns])
    for name, values in columns.items():
        table[name] = values
    _write(path, {"vertex": table})


def write_compressed_ply(path: Path, gaussians: Gaussians) -> None:
    """Writes the compressed layout of SuperSplat and PlayCanvas: 16 bytes a Gaussian, and a byte for each SH coefficient.

    Positions, log scales and colours are quantised within the range of each 256 Gaussians, which are taken in Morton order
    so that ranges are small. Raises ValueError as :func:`write_ply` does.
    """
    columns = _columns(gaussians)
    order = _morton_order(np.stack([columns[name] for name in "xyz"], 1))
    columns = {name: values[order] for name, values in columns.items()}
    count = len(gaussians)
    positions = np.stack([columns[name] for name in "xyz"], 1)
    scales = np.stack([columns[f"scale_{i}"] for i in range(3)], 1).clip(-MAX_LOG_SCALE, MAX_LOG_SCALE)
    colors = 0.5 + SH_C0 * np.stack([columns[f"f_dc_{i}"] for i in range(3)], 1)
    alpha = 1 / (1 + np.exp(-columns["opacity"]))

    ranges, parts = [], []
    for values, axes in ((positions, "x y z"), (scales, "scale_x scale_y scale_z"), (colors, "r g b")):
        low, high = _ranges(values)
        ranges += [(f"min_{axis}", low[:, i]) for i, axis in enumerate(axes.split())]
        ranges += [(f"max_{axis}", high[:, i]) for i, axis in enumerate(axes.split())]
        owner = np.arange(count) // CHUNK
        span = (high - low)[owner]
        parts.append(np.where(span < 1e-5, 0.0, (values - low[owner]) / np.maximum(span, 1e-5)))
    chunks = np.zeros(-(-count // CHUNK), [(name, "<f4") for name, _ in ranges])
    for name, values in ranges:
        chunks[name] = values

    vertices = np.zeros(count, [(f"packed_{name}", "<u4") for name in ("position", "rotation", "scale", "color")])
    vertices["packed_position"] = _pack(parts[0], (11, 10, 11))
    vertices["packed_rotation"] = _pack_rotations(np.stack([columns[f"rot_{i}"] for i in range(4)], 1))
    vertices["packed_scale"] = _pack(parts[1], (11, 10, 11))
    vertices["packed_color"] = _pack(np.concatenate([parts[2], alpha[:, None]], 1), (8, 8, 8, 8))
    elements = {"chunk": chunks, "vertex": vertices}
    rest = [name for name in columns if name.startswith("f_rest_")]
    if rest:
        harmonics = np.zeros(count, [(name, "u1") for name in rest])
        for name in rest:
            harmonics[name] = np.clip((columns[name] / 8 + 0.5) * 256, 0, 255).astype(np.uint8)
        elements["sh"] = harmonics
    _write(path, elements)


def read_ply(path: Path) -> Gaussians:
    """Gaussians from either layout, colours as SH coefficients (N, K, 3).

    Raises ValueError, naming the file, for one that is not a PLY of Gaussians.
    """
    try:
        elements = _read(path.read_bytes())
        vertex = elements["vertex"]
        columns = _decompressed(elements) if "chunk" in elements else {name: vertex[name] for name in vertex.dtype.names or ()}
        return _gaussians(columns)
    except (IndexError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a binary PLY file of Gaussians ({error})") from None


def read_points(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Points (N, 3) float32 of a binary PLY file, such as COLMAP's fused.ply, and their normals (N, 3) where it has some.

    What stands behind the vertices is passed over. Raises ValueError, naming the file, for one that holds no points.
    """
    try:
        vertex = _read(path.read_bytes(), last="vertex")["vertex"]
        points, normals = (
            np.stack([np.asarray(vertex[name], np.float32) for name in names], 1)
            if set(names) <= set(vertex.dtype.names)
            else None
            for names in (("x", "y", "z"), ("nx", "ny", "nz"))
        )
        if points is None:
            raise ValueError("its vertices have no x, y, z")
    except (IndexError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a binary PLY file of points ({error})") from None
    return points, normals


def read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float32 and triangles (F, 3) int64 of a binary PLY file. Raises ValueError that names the file."""
    try:
        elements = _read(path.read_bytes(), last="face")
        vertex, face = elements["vertex"], elements["face"]
        names = [name for name in face.dtype.names or () if face.dtype[name].shape == (TRIANGLE,)]
        if not names or not (face[COUNT_OF + names[0]] == TRIANGLE).all():
            raise ValueError("its faces are no triangles")
        vertices = np.stack([np.asarray(vertex[axis], np.float32) for axis in "xyz"], 1)
    except (IndexError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a binary PLY file of a mesh ({error})") from None
    faces = face[names[0]].astype(np.int64)
    if not len(faces) or faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError(f"{path}: its triangles name vertices that it does not have")
    return vertices, faces


TRIANGLE, COUNT_OF = 3, "count of "
_KINDS = {
    "float": "<f4",
    "double": "<f8",
    "uchar": "u1",
    "char": "i1",
    "ushort": "<u2",
    "short": "<i2",
    "uint": "<u4",
    "int": "<i4",
}


def _write(path: Path, elements: dict[str, np.ndarray]) -> None:
    """A binary little-endian PLY; each element is a structured array."""
    kinds = {np.dtype(code): name for name, code in _KINDS.items()}
    lines = ["ply", "format binary_little_endian 1.0"]
    for name, table in elements.items():
        lines.append(f"element {name} {len(table)}")
        lines += [f"property {kinds[table.dtype[column]]} {column}" for column in table.dtype.names or ()]
    header = "\n".join([*lines, "end_header\n"]).encode()
    path.write_bytes(b"".join([header, *(table.tobytes() for table in elements.values())]))


def _read(data: bytes, last: str = "") -> dict[str, np.ndarray]:
    """The elements of a binary little-endian PLY, up to one if it is named. Raises ValueError for anything else."""
    header, found, _ = data.partition(b"end_header\n")
    lines = header.decode("ascii", "replace").split("\n")
    if not found or lines[0] != "ply" or lines[1] != "format binary_little_endian 1.0":
        raise ValueError("no header of a binary little-endian PLY")
    layout: list[tuple[str, int, list[tuple[str, str]]]] = []
    for words in (line.split() for line in lines[2:]):
        if words[:1] == ["element"]:
            if layout and layout[-1][0] == last:
                break
            layout.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"]:
            if words[1] == "list":  # of three values each, as triangles are
                of_count, of_value, name = words[2:]
                layout[-1][2].extend([(COUNT_OF + name, _KINDS[of_count]), (name, f"({TRIANGLE},){_KINDS[of_value]}")])
                continue
            if words[1] not in _KINDS:
                raise ValueError(f"a property of type {words[1]}")
            layout[-1][2].append((words[2], _KINDS[words[1]]))
    elements, place = {}, len(header) + len(found)
    for name, count, columns in layout:
        kind = np.dtype(columns)
        if len(data) < place + count * kind.itemsize:
            raise ValueError(f"it ends within its {count} rows of {name}")
        elements[name] = np.frombuffer(data, kind, count, place)
        place += count * kind.itemsize
    return elements


def _columns(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """The properties of 3DGS's layout in its order, float32."""
    if gaussians.quats is None or gaussians.scales is None:
        raise ValueError("a PLY file holds quats and scales; these Gaussians have covariances")
    if not len(gaussians):
        raise ValueError("there are no Gaussians to write")
    if bad := unusable(gaussians):
        raise ValueError(bad)
    to = lambda tensor: tensor.detach().cpu().float().numpy()  # noqa: E731
    colors = to(gaussians.colors)
    if colors.ndim == 2:
        if colors.shape[1] != 3:
            raise ValueError(f"a PLY file holds colours of 3 channels; these Gaussians have {colors.shape[1]}")
        colors = ((colors - 0.5) / SH_C0)[:, None]
    opacities = to(gaussians.opacities).astype(np.float64).clip(MIN_OPACITY, 1 - MIN_OPACITY)
    means, quats = to(gaussians.means), to(gaussians.quats)
    log_scales = np.log(to(gaussians.scales).clip(1e-30))
    rest = colors[:, 1:].transpose(0, 2, 1).reshape(len(colors), -1)  # all of red, all of green, all of blue
    columns = {name: means[:, i] for i, name in enumerate("xyz")}
    columns |= {name: np.zeros_like(means[:, 0]) for name in ("nx", "ny", "nz")}  # viewers expect normals, and read them over
    columns |= {f"f_dc_{i}": colors[:, 0, i] for i in range(3)}
    columns |= {f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])}
    columns |= {"opacity": np.log(opacities / (1 - opacities)).astype(np.float32)}
    columns |= {f"scale_{i}": log_scales[:, i] for i in range(3)}
    return columns | {f"rot_{i}": quats[:, i] for i in range(4)}


def _gaussians(columns: dict[str, np.ndarray]) -> Gaussians:
    stack = lambda *names: torch.from_numpy(np.stack([np.asarray(columns[n], np.float32) for n in names], 1))  # noqa: E731
    dc = stack("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    rest = sum(name.startswith("f_rest_") for name in columns)
    colors = dc
    if rest:
        colors = torch.cat([dc, stack(*(f"f_rest_{i}" for i in range(rest))).reshape(len(dc), 3, -1).mT], 1)
    return Gaussians(
        means=stack("x", "y", "z"),
        quats=stack("rot_0", "rot_1", "rot_2", "rot_3"),
        scales=stack("scale_0", "scale_1", "scale_2").exp(),
        opacities=torch.sigmoid(stack("opacity")[:, 0]),
        colors=colors.contiguous(),
    )


def _decompressed(elements: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The properties of 3DGS's layout from the compressed one."""
    chunks, vertices = elements["chunk"], elements["vertex"]
    owner = np.arange(len(vertices)) // CHUNK
    columns: dict[str, np.ndarray] = {}

    def spread(packed: str, bits: tuple[int, ...], axes: tuple[str, ...], names: tuple[str, ...]) -> None:
        shares = _unpack(vertices[packed], bits)
        for i, (axis, name) in enumerate(zip(axes, names, strict=True)):
            low, high = chunks[f"min_{axis}"][owner], chunks[f"max_{axis}"][owner]
            columns[name] = low + (high - low) * shares[:, i]

    spread("packed_position", (11, 10, 11), ("x", "y", "z"), ("x", "y", "z"))
    spread("packed_scale", (11, 10, 11), ("scale_x", "scale_y", "scale_z"), ("scale_0", "scale_1", "scale_2"))
    spread("packed_color", (8, 8, 8), ("r", "g", "b"), ("f_dc_0", "f_dc_1", "f_dc_2"))
    for i in range(3):
        columns[f"f_dc_{i}"] = (columns[f"f_dc_{i}"] - 0.5) / SH_C0
    alpha = (vertices["packed_color"] & 255).astype(np.float64) / 255
    alpha = alpha.clip(MIN_OPACITY, 1 - MIN_OPACITY)
    columns["opacity"] = np.log(alpha / (1 - alpha))
    quats = _unpack_rotations(vertices["packed_rotation"])
    columns |= {f"rot_{i}": quats[:, i] for i in range(4)}
    if "sh" in elements:
        for name in elements["sh"].dtype.names or ():
            columns[name] = (elements["sh"][name].astype(np.float32) + 0.5) / 256 * 8 - 4
    return columns


def _ranges(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest (chunks, 3) of each CHUNK rows."""
    starts = np.arange(0, len(values), CHUNK)
    return np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)


def _pack(shares: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """Columns in [0, 1] as unsigned integers side by side, the first in the highest bits."""
    packed = np.zeros(len(shares), np.uint32)
    for i, width in enumerate(bits):
        top = (1 << width) - 1
        packed = (packed << np.uint32(width)) | np.clip(np.floor(shares[:, i] * top + 0.5), 0, top).astype(np.uint32)
    return packed


def _unpack(packed: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """The inverse of _pack for the highest bits of 32."""
    columns, place = [], 32
    for width in bits:
        place -= width
        top = (1 << width) - 1
        columns.append(((packed >> np.uint32(place)) & np.uint32(top)) / top)
    return np.stack(columns, 1)


def _pack_rotations(quats: np.ndarray) -> np.ndarray:
    """Unit quaternions wxyz: the place of the largest part in 2 bits, the other three in 10 each."""
    quats = quats / np.linalg.norm(quats, axis=1, keepdims=True)
    rows, largest = np.arange(len(quats)), np.abs(quats).argmax(1)
    quats = quats * np.where(quats[rows, largest] < 0, -1.0, 1.0)[:, None]
    others = quats[rows[:, None], _others(largest)]
    return _pack(others * np.sqrt(0.5) + 0.5, (10, 10, 10)) | (largest.astype(np.uint32) << np.uint32(30))


def _unpack_rotations(packed: np.ndarray) -> np.ndarray:
    largest = (packed >> np.uint32(30)).astype(np.int64)
    others = (_unpack(packed << np.uint32(2), (10, 10, 10)) - 0.5) / np.sqrt(0.5)
    quats = np.empty((len(packed), 4), np.float32)
    rows = np.arange(len(packed))
    quats[rows[:, None], _others(largest)] = others
    quats[rows, largest] = np.sqrt(np.maximum(0.0, 1 - (others**2).sum(1)))
    return quats


def _others(largest: np.ndarray) -> np.ndarray:
    """(N, 3) the three other places, ascending."""
    return np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])[largest]


def _morton_order(positions: np.ndarray) -> np.ndarray:
    """Indices along a space-filling curve: neighbours in the order are neighbours in space."""
    low, high = positions.min(0), positions.max(0)
    cells = ((positions - low) / np.maximum(high - low, 1e-12) * 1023).astype(np.uint64)
    code = np.zeros(len(positions), np.uint64)
    for bit in range(10):
        for axis in range(3):
            code |= ((cells[:, axis] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(3 * bit + axis)
    return np.argsort(code, kind="stable")
