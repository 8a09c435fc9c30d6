"""An avatar's folder that was damaged, in whatever way, is told with its name and the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avatar_models.avatar import (
    FACTS,
    AvatarError,
    avatar_files,
    compressed_avatar_files,
    load_avatar,
    render,
)
from avatar_models.gagavatar.avatar import avatar_of
from avatar_models.headgas import HeadGas, HeadGasSizes, Smaller, smaller
from avatar_models.heads.procedural import procedural_head
from tests.avatar_models.gagavatar.tiny import VERTICES, cameras, shown, tiny
from tests.avatar_models.npga import made as npga
from tests.pretended_gpu import PretendedGpu


def model() -> HeadGas:
    made = HeadGas(HeadGasSizes(num_gaussians=30, condition_size=3, sh_degree=1))
    made.initialise(torch.rand(30, 3), torch.rand(30, 3), torch.rand(4, 3))
    return made


def plain(folder: Path) -> Path:
    made = model()
    return written(folder, avatar_files("headgas", made.tensors(), {"sizes": made.sizes_as_dict()}))


def compressed(folder: Path) -> Path:
    made, codings = smaller(model(), Smaller(features=0, rank=0))
    return written(folder, compressed_avatar_files("headgas", made.tensors(), {"sizes": made.sizes_as_dict()}, codings))


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda facts: {key: value for key, value in facts.items() if key != name}


def sizes(**changes: object) -> Callable[[dict[str, Any]], Any]:
    return lambda facts: {**facts, "sizes": {**facts["sizes"], **changes}}


def compression(**changes: object) -> Callable[[dict[str, Any]], Any]:
    return lambda facts: {**facts, "compression": {**facts["compression"], **changes}}


@pytest.mark.parametrize("make", [plain, compressed])
def test_what_is_written_is_read(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert load_avatar(make(tmp_path))[0].condition_size == 3


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda facts: [facts], "avatar.json holds no object"),
        (without("method"), "method: None"),
        (without("sizes"), "KeyError: 'sizes'"),
        (lambda facts: {**facts, "sizes": [3]}, "TypeError"),
        (sizes(variant="fuller"), "KeyError: 'fuller'"),
        (sizes(blobs=3), "unexpected keyword argument 'blobs'"),
        (sizes(num_gaussians=31), "size mismatch"),
        (sizes(num_gaussians="many"), "TypeError"),
    ],
)
def test_facts_that_do_not_fit_are_named(change: Callable[[dict[str, Any]], Any], why: str, tmp_path: Path) -> None:
    folder = plain(tmp_path)
    (folder / FACTS).write_text(json.dumps(change(json.loads((folder / FACTS).read_text()))))
    with pytest.raises(AvatarError, match=rf"{folder}: the avatar is damaged \(.*{why}.*\); `dvc repro` makes it again"):
        load_avatar(folder)


@pytest.mark.parametrize("data", [b"", b"{", b'{"format": 2, "method": "\xff"}'])
def test_facts_that_are_no_json_are_named(data: bytes, tmp_path: Path) -> None:
    (plain(tmp_path) / FACTS).write_bytes(data)
    with pytest.raises(AvatarError, match="the avatar is damaged"):
        load_avatar(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        without("compression"),
        compression(codings=[]),
        compression(codings={}),
        compression(codings={"F": 8}),
        compression(codings={"F": {"bits": "eight"}}),
        compression(inflated_bytes="many"),
        sizes(num_gaussians=31),
        without("sizes"),
    ],
)
def test_codings_that_do_not_fit_are_named(change: Callable[[dict[str, Any]], Any], tmp_path: Path) -> None:
    folder = compressed(tmp_path)
    (folder / FACTS).write_text(json.dumps(change(json.loads((folder / FACTS).read_text()))))
    with pytest.raises(AvatarError, match="the compressed avatar is damaged.*run `headwater compress` again"):
        load_avatar(folder)


def test_a_method_of_another_version_is_named(tmp_path: Path) -> None:
    folder = plain(tmp_path)
    (folder / FACTS).write_text(json.dumps({**json.loads((folder / FACTS).read_text()), "method": "newer"}))
    with pytest.raises(AvatarError, match="unknown avatar method 'newer', this code knows headgas"):
        load_avatar(folder)


def of_a_photo(folder: Path) -> Path:
    head, net = procedural_head(), tiny()
    with torch.no_grad():
        made = avatar_of(net, net.person(shown(1)), head.rig.take(torch.arange(VERTICES)), torch.zeros(head.num_identity))
    return written(folder, avatar_files("gagavatar", made.tensors(), {"sizes": net.sizes.as_dict()}))


def of_a_capture(folder: Path) -> Path:
    made = npga.avatar()
    return written(folder, avatar_files("npga", made.tensors(), {"sizes": made.sizes.as_dict()}))


@pytest.mark.parametrize(("make", "waits"), [(plain, 2), (compressed, 2), (of_a_photo, 0), (of_a_capture, 0)])
def test_on_a_gpu_it_draws_the_same_and_hardly_waits(make: Callable[[Path], Path], waits: int, tmp_path: Path) -> None:
    """HeadGaS looks which of the conditions are the same, for all of them at once."""
    folder = make(tmp_path)
    here, conditions, views, black = load_avatar(folder)[0], torch.rand(2, 64), cameras(2), torch.zeros(3)
    conditions = 0.2 * conditions[:, : here.condition_size]
    with PretendedGpu() as gpu:
        there, sent = load_avatar(folder, "cuda")[0], (views.to("cuda"), conditions.to("cuda"), black.to("cuda"))
        gpu.waits.clear()
        drawn = render(there, *sent)
        assert drawn.is_cuda and len(gpu.waits) == waits + gpu.waits.count("splat")
    torch.testing.assert_close(drawn, render(here, views, conditions, black), atol=1e-5, rtol=0)
