"""PLY files: what is written is read back, and the bytes are those that viewers expect."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_models.gaussians import Gaussians
from avatar_models.ply import read_ply, read_points, write_compressed_ply, write_ply


def cloud(count: int = 600, sh: int = 16) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    return Gaussians(
        means=torch.randn(count, 3, generator=g) * 0.1,
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=1),
        scales=torch.exp(torch.randn(count, 3, generator=g) - 5),
        opacities=torch.sigmoid(torch.randn(count, generator=g)),
        colors=torch.randn(count, sh, 3, generator=g) * 0.4,
    )


@pytest.mark.parametrize("sh", [1, 4, 16])
def test_what_is_written_is_read_back(tmp_path: Path, sh: int) -> None:
    wanted = cloud(sh=sh)
    write_ply(tmp_path / "a.ply", wanted)
    found = read_ply(tmp_path / "a.ply")
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert torch.allclose(getattr(found, name), getattr(wanted, name), rtol=1e-5, atol=1e-6), name


def test_the_layout_is_that_of_3dgs(tmp_path: Path) -> None:
    gaussians = cloud(2, sh=4)
    write_ply(tmp_path / "a.ply", gaussians)
    head, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    names = [line.split()[-1] for line in head.decode().splitlines() if line.startswith("property float")]
    rest = [f"f_rest_{i}" for i in range(9)]
    wanted = [*"xyz", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, "opacity"]
    assert names == [*wanted, "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    second = dict(zip(names, struct.unpack(f"<{len(names)}f", body[len(body) // 2 :]), strict=True))
    assert second["f_rest_4"] == pytest.approx(float(gaussians.colors[1, 2, 1]))  # coefficient 2 of green
    assert second["scale_2"] == pytest.approx(float(gaussians.scales[1, 2].log()), rel=1e-6)  # type: ignore[index]
    assert second["rot_0"] == pytest.approx(float(gaussians.quats[1, 0]))  # type: ignore[index]


def test_the_compressed_file_is_small_and_close(tmp_path: Path) -> None:
    wanted = cloud(5000)
    write_ply(tmp_path / "full.ply", wanted)
    write_compressed_ply(tmp_path / "small.ply", wanted)
    assert (tmp_path / "small.ply").stat().st_size < 0.27 * (tmp_path / "full.ply").stat().st_size
    found = read_ply(tmp_path / "small.ply")
    distance, partner = torch.cdist(found.means, wanted.means).min(1)
    assert len(set(partner.tolist())) == 5000 and distance.max() < 1e-3
    dots = (found.quats * wanted.quats[partner]).sum(1).abs()  # type: ignore[index, operator]
    assert dots.min() > 0.99999
    assert (found.scales.log() - wanted.scales[partner].log()).abs().max() < 0.01  # type: ignore[index, union-attr]
    assert (found.opacities - wanted.opacities[partner]).abs().max() < 0.0021
    assert (found.colors - wanted.colors[partner]).abs().max() < 0.017


def test_colours_become_harmonics_and_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    plain = replace(cloud(3), colors=torch.full((3, 3), 0.25))
    write_ply(tmp_path / "a.ply", plain)
    assert torch.allclose(read_ply(tmp_path / "a.ply").colors[:, 0] * 0.28209479177387814 + 0.5, torch.tensor(0.25))
    with pytest.raises(ValueError, match="32"):
        write_ply(tmp_path / "b.ply", replace(plain, colors=torch.zeros(3, 32)))
    (tmp_path / "no.ply").write_bytes(b"not a ply")
    with pytest.raises(ValueError, match=r"no\.ply"):
        read_ply(tmp_path / "no.ply")
    np.testing.assert_array_equal(sorted(p.name for p in tmp_path.iterdir()), ["a.ply", "no.ply"])


def cloud_bytes(normals: bool, form: str = "binary_little_endian", faces: bool = False) -> bytes:
    """Two points as COLMAP's fused.ply has them, written by hand."""
    names = ["x", "y", "z", *(["nx", "ny", "nz"] if normals else [])]
    lines = [
        "ply",
        f"format {form} 1.0",
        "comment made by hand",
        "element vertex 2",
        *(f"property float {name}" for name in names),
    ]
    lines += [f"property uchar {name}" for name in ("red", "green", "blue")]
    lines += ["element face 1", "property list uchar int vertex_indices"] if faces else []
    rows = [
        struct.pack("<3f", 1, 2, 3 + row) + (struct.pack("<3f", 0, 0, 1) if normals else b"") + bytes(3) for row in range(2)
    ]
    return "\n".join([*lines, "end_header\n"]).encode() + b"".join(rows) + (struct.pack("<B3i", 3, 0, 1, 0) if faces else b"")


@pytest.mark.parametrize("faces", [False, True])
def test_points_of_a_cloud_are_read_with_their_normals(tmp_path: Path, faces: bool) -> None:
    (tmp_path / "fused.ply").write_bytes(cloud_bytes(normals=True, faces=faces))
    points, normals = read_points(tmp_path / "fused.ply")
    assert points.dtype == np.float32 and points.tolist() == [[1, 2, 3], [1, 2, 4]]
    assert normals is not None and normals.tolist() == [[0, 0, 1]] * 2
    (tmp_path / "plain.ply").write_bytes(cloud_bytes(normals=False))
    assert read_points(tmp_path / "plain.ply")[1] is None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (cloud_bytes(True, form="ascii"), "binary"),
        (cloud_bytes(True)[:-1], "ends within its 2 rows"),
        (cloud_bytes(True).replace(b"float x", b"float u"), "no x, y, z"),
    ],
)
def test_files_without_points_are_named(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "bad.ply").write_bytes(data)
    with pytest.raises(ValueError, match=says) as caught:
        read_points(tmp_path / "bad.ply")
    assert "bad.ply" in str(caught.value)
