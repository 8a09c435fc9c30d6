"""ONNX files of one node, written without the onnx package: what a test of a network's file needs."""

from __future__ import annotations

from pathlib import Path

from avatar_models.face_embedding import SIDE


def field(number: int, value: bytes | int) -> bytes:
    """One field of a protobuf message: a number as varint, bytes with their length."""
    if isinstance(value, int):
        return varint(8 * number) + varint(value)
    return varint(8 * number + 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def tensor_info(name: str, *shape: int) -> bytes:
    dims = b"".join(field(1, field(1, size)) for size in shape)
    return field(1, name.encode()) + field(2, field(1, field(1, 1) + field(2, dims)))


def network_of(path: Path, operator: bytes = b"GlobalAveragePool") -> Path:
    """An ONNX file (onnx.proto, opset 11) of one node, which gives the mean of each channel if not told otherwise."""
    node = field(1, b"face") + field(2, b"mean") + field(3, b"only") + field(4, operator)
    graph = field(1, node) + field(2, b"colours") + field(11, tensor_info("face", 1, 3, SIDE, SIDE))
    graph += field(12, tensor_info("mean", 1, 3, 1, 1))
    path.write_bytes(field(1, 7) + field(7, graph) + field(8, field(2, 11)))
    return path
