"""NPGA's table: what each row changes, what is new in a clip, and means over what all rows have."""

from __future__ import annotations

import pyarrow as pa
import pytest

from avatar_models.npga import VARIANTS
from pipelines.methods import NPGA
from pipelines.npga_training.ablation import PRESETS, StaleTables, kinds_of, means_of, steps_of, with_preset
from pipelines.params import Catalog, Params, Source, TrainNpga

PARAMS = Params(
    source=Source(kind="folder", path="a", watch="a"), train_npga=TrainNpga(steps=3200, resolution=64, background="black")
)


def test_every_variant_is_a_row_and_peers_see_the_pictures_that_npga_sees() -> None:
    assert {preset.changes["variant"] for preset in PRESETS.values() if preset.method is NPGA} == set(VARIANTS)
    for name, preset in PRESETS.items():
        trained = preset.method.options(with_preset(PARAMS, name))
        assert (trained.resolution, trained.background, trained.variant) == (64, "black", preset.changes["variant"])
    assert steps_of("headgas", PARAMS)[0].name == "train_headgas"


def test_default_density_control_has_hard_resets_and_plain_means() -> None:
    trained = with_preset(PARAMS, "default_density").train_npga
    assert (trained.density.decay, trained.density.reset_every, trained.gradient_power) == (1.0, 3000, 1.0)
    long = PARAMS.model_copy(update={"train_npga": TrainNpga(steps=800_000)})
    assert with_preset(long, "default_density").train_npga.density.reset_every == 50_000  # the paper's
    assert with_preset(PARAMS, "full").train_npga == PARAMS.train_npga


def test_peers_are_not_trained_on_more_pixels_than_are_stored() -> None:
    with pytest.raises(ValueError, match="train_headgas.resolution = 512 is larger"):
        with_preset(PARAMS.model_copy(update={"train_npga": TrainNpga(resolution=512)}), "headgas")


def test_a_clip_is_new_by_its_camera_or_by_what_was_filmed() -> None:
    catalog = pa.table(
        {
            "clip_id": ["s0-c0", "s0-c1", "s1-c0", "s1-c1"],
            "camera_id": ["c0", "c1", "c0", "c1"],
            "sequence": ["s0", "s0", "s1", "s1"],
        }
    )
    names = ["s0-c0~1", "s0-c1", "s1-c0", "s1-c1"]
    segments = pa.table({"clip_id": names, "catalog_clip_id": catalog["clip_id"], "split": ["train", "test", "test", "test"]})
    options = Catalog(held_out_cameras=["c1"], held_out_sequences=["s1"])
    found = kinds_of(segments, catalog, options)
    assert found == {"s0-c0~1": "last frames", "s0-c1": "new camera", "s1-c0": "new sequence", "s1-c1": "both new"}
    with pytest.raises(StaleTables, match="s0-c1, which is trained on; run `dvc repro`"):
        kinds_of(segments.set_column(2, "split", [["train"] * 4]), catalog, options)
    with pytest.raises(StaleTables, match="s0-c0~1 is tracked and not in the catalog any more"):
        kinds_of(segments, catalog.slice(1), options)


def test_means_are_over_what_all_rows_have() -> None:
    first = {
        "ann": {("a", 0): {"psnr": 10.0}, ("a", 1): {"psnr": 20.0}, ("b", 0): {"psnr": 1.0}},
        "bob": {("a", 0): {"psnr": 7.0}},
    }
    second = {"ann": {("a", 1): {"psnr": 30.0}, ("b", 0): {"psnr": 3.0}}}
    means = means_of([first, second], {"a": "new camera", "b": "new sequence"})
    assert means == [
        {"new camera": {"psnr": 20.0}, "new sequence": {"psnr": 1.0}},
        {"new camera": {"psnr": 30.0}, "new sequence": {"psnr": 3.0}},
    ]
    assert means_of([first], {"a": "x", "b": "x"})[0]["x"]["psnr"] == pytest.approx((31 / 3 + 7) / 2)
