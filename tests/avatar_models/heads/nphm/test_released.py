"""The released checkpoint's layout, with random tensors of a small model in place of the published ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from typer.testing import CliRunner

from avatar_models.checkpoints import CheckpointError
from avatar_models.heads.nphm import published
from avatar_models.heads.nphm.released import from_released, read_released, read_sizes, released_shapes
from avatar_models.heads.nphm.storage import read_nphm
from headwater.cli import app
from tests.avatar_models.heads.nphm.tiny import TINY, codes, mean_anchors

SIZES = replace(TINY, link=16, anchor_hidden=64, blend_neighbors=8, neighbors=9, num_anchors=10)
"""What the configuration does not say is as published."""

CONFIG = {
    "decoder": {
        "ex": {"hidden_dim": 9, "lat_dim_ex": 5, "lat_dim_id": 3, "mode": "compress", "nhyper": 2, "nlayers": 4},
        "id": {
            "gnn": {"hidden_dim_app": 6, "hidden_dim_geo": 8, "nlayers_app": 2, "nlayers_geo": 3},
            "lat_dim_glob": 3, "lat_dim_loc_app": 2, "lat_dim_loc_geo": 2, "nloc": 10, "nneigh": 9, "nsymm_pairs": 2,
            "blend_std": 2.5,
        },
    }
}  # fmt: skip


def released_state() -> dict[str, dict[str, Tensor]]:
    g = torch.Generator().manual_seed(0)
    lengths = {"geo": 6, "app": 6, "exp": 9}
    made: dict[str, dict[str, Tensor]] = {}
    for part, shapes in released_shapes(SIZES).items():
        made[part] = {}
        for name, shape in shapes.items():
            rows = lengths.get(name.split(".")[1], 0)
            made[part][name] = torch.randn([rows if length is None else length for length in shape], generator=g)
    return made


def released_folder(folder: Path, state: dict[str, Any], config: dict[str, Any] = CONFIG) -> Path:
    (folder / "checkpoints").mkdir()
    (folder / "configs.yaml").write_text(yaml.safe_dump(config))
    for epoch in (250, 2500):  # the last one counts, not the last by name
        extra = {"epoch": epoch, "optimizer": {"state": {}}, "latent_codes_val": {}}
        torch.save({**(state if epoch == 2500 else {}), **extra}, folder / "checkpoints" / f"checkpoint_epoch_{epoch}.tar")
    np.save(folder / "anchors_10.npy", 4 * mean_anchors(SIZES).double().numpy())
    return folder


def test_the_published_sizes_have_the_published_shapes() -> None:
    shapes = released_shapes(published())
    identity, deformation = shapes["id_decoder"], shapes["ex_decoder"]
    assert identity["deepSDFensemble.layers.35.layers.0.weight"] == (200, 101)
    assert identity["aggr_app.layers.0.layers.8.weight"] == (3, 200)
    assert identity["aggr_app.layers.0.layers.0.weight"] == (200, 112) and identity["mlp_pos.4.bias"] == (195,)
    assert deformation["compressor.0.weight"] == (16, 2371) and deformation["defDeepSDF.lin3.weight"] == (400, 519)
    assert deformation["defDeepSDF.lin6.weight"] == (5, 400) and len(identity) == 6 + 4 + 2 * 36 * 10 and len(deformation) == 16


def test_every_tensor_finds_its_place() -> None:
    state = released_state()
    model, books = from_released(state, mean_anchors(SIZES), "made up", SIZES)
    identity = state["id_decoder"]
    weight = identity["deepSDFensemble.layers.4.layers.0.weight"]
    geometry = model.canonical.geometry
    assert torch.equal(torch.cat([geometry.of_code[4], geometry.of_point[4]]).T, weight)
    assert torch.equal(geometry.weights[1][5].T, identity["deepSDFensemble.layers.5.layers.4.weight"])
    assert torch.equal(model.canonical.color.last_bias[2], identity["aggr_app.layers.2.layers.4.bias"])
    assert torch.equal(model.canonical.anchor_offsets[4].weight, identity["mlp_pos.4.weight"])
    assert torch.equal(model.deformation.layers[2].weight, state["ex_decoder"]["defDeepSDF.lin2.weight"])
    assert torch.equal(books.expression, state["latent_codes"]["codebook.exp.embedding.weight"])
    anchors = model.anchors(codes(1, SIZES).geometry.zero_())
    offsets = model.canonical.anchor_offsets(torch.zeros(1, 3)).unflatten(1, (10, 3)) / 4
    torch.testing.assert_close(anchors - offsets, mean_anchors(SIZES)[None])


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("id_decoder", "mlp_pos.0.bias", None, "id_decoder: 1 tensors are missing: mlp_pos.0.bias"),
        ("ex_decoder", "a.b", torch.ones(1), "ex_decoder: 1 tensors are not known: a.b"),
        ("ex_decoder", "defDeepSDF.lin2.weight", torch.ones(9, 9), r"lin2.weight is \(9, 9\), this model has \(9, 20\)"),
        ("latent_codes", "codebook.exp.embedding.weight", torch.ones(4, 6), r"is \(4, 6\), this model has \(any, 5\)"),
        ("latent_codes", "codebook.app.embedding.weight", torch.ones(4, 25), "codes of 6 people's geometry and of 4 people's"),
        ("id_decoder", "mlp_pos.0.bias", torch.ones(64, dtype=torch.int64), "mlp_pos.0.bias is not a tensor of floats"),
    ],
)
def test_a_checkpoint_that_differs_is_refused_by_name(part: str, name: str, value: Tensor | None, message: str) -> None:
    state = released_state()
    state[part] = {key: tensor for key, tensor in {**state[part], name: value}.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=f"made up: .*{message}"):
        from_released(state, mean_anchors(SIZES), "made up", SIZES)


def test_the_configuration_gives_the_sizes(tmp_path: Path) -> None:
    folder = released_folder(tmp_path, released_state())
    assert read_sizes(folder / "configs.yaml") == SIZES
    for change, message in (
        ("mode: other", "the deformation's mode is 'other'"),
        ("nlayers: many", "has no number nlayers .*it says 'many'"),
        ("nhyper: true", "has no number nhyper"),
    ):
        key = change.split(":")[0]
        config = {**CONFIG["decoder"], "ex": {**CONFIG["decoder"]["ex"], key: yaml.safe_load(change)[key]}}
        (folder / "configs.yaml").write_text(yaml.safe_dump({"decoder": config}))
        with pytest.raises(CheckpointError, match=message):
            read_sizes(folder / "configs.yaml")
    (folder / "configs.yaml").write_text("{")
    with pytest.raises(CheckpointError, match="configs.yaml: not YAML"):
        read_sizes(folder / "configs.yaml")


def test_a_folder_becomes_a_model(tmp_path: Path) -> None:
    folder = released_folder(tmp_path, released_state())
    words = ["import", "mononphm", str(folder), "-o", str(tmp_path / "model"), "--anchors", str(folder / "anchors_10.npy")]
    result = CliRunner().invoke(app, words)
    said = " ".join(result.output.split())
    assert result.exit_code == 0 and "codes of 6 people and 9 expressions" in said, said
    found, (ours, _) = read_nphm(tmp_path / "model"), from_released(released_state(), mean_anchors(SIZES), "", SIZES)
    assert found.facts["imported"].endswith("checkpoint_epoch_2500.tar") and len(found.codes.geometry) == 6
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[name], tensor, msg=name)


def test_what_is_no_released_folder_is_told(tmp_path: Path) -> None:
    def said(*words: str) -> str:
        result = CliRunner().invoke(app, ["import", "mononphm", *words, "-o", str(tmp_path / "model")])
        assert result.exit_code == 1
        return " ".join(result.output.split())

    folder = released_folder(tmp_path, {"id_decoder": {}})
    anchors = ["--anchors", str(folder / "anchors_10.npy")]
    assert "--anchors goes with mononphm, and has to be given" in said(str(folder))
    assert "holds no `ex_decoder`" in said(str(folder), *anchors)
    torch.save({"id_decoder": print}, folder / "checkpoints" / "checkpoint_epoch_3000.tar")
    assert "not a checkpoint that can be read safely" in said(str(folder), *anchors)
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    assert "no checkpoint_epoch_N.tar is there" in said(str(folder), *anchors)
    assert "no such file; the released folder has configs.yaml" in said(str(tmp_path / "none"), *anchors)


def test_anchors_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = released_folder(tmp_path, released_state())
    np.save(folder / "other.npy", np.zeros((39, 3)))
    with pytest.raises(CheckpointError, match=r"other.npy: anchors are float64 \(39, 3\), this model has floats \(10, 3\)"):
        read_released(folder, folder / "other.npy")
    np.save(folder / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(CheckpointError, match=r"pickled.npy: not an array of numpy"):
        read_released(folder, folder / "pickled.npy")
