"""An avatar is trained from tables of neural heads, goes on as if it had never stopped, and is judged by what is unseen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_models.avatar import load_avatar
from avatar_models.heads.nphm.forward import ForwardField, ForwardSizes, TriPlanes
from avatar_models.heads.nphm.forward_storage import forward_files
from avatar_models.heads.nphm.storage import Codebooks, nphm_files
from avatar_models.model_folder import ModelError
from pipelines import tables
from pipelines.atomic import sha256_file
from pipelines.cache import Cache, Entry
from pipelines.fanout import Item, ItemRejected
from pipelines.first_points import evenly_on
from pipelines.fleet.trainer import train_here
from pipelines.npga_training import setup
from pipelines.npga_training.items import npga_items, npga_step
from pipelines.npga_training.setup import NpgaRun, held_out_rows, parts_of, planes_of, prepare
from pipelines.npga_training.trainer import NpgaTrainer
from pipelines.params import Density, Fleet, Params, Source, TrainNpga
from pipelines.splits import ClipSplit
from pipelines.subject import NPHM_TRACKS_FOLDER
from pipelines.training import TrainingDiverged
from tests.avatar_models.heads.nphm.faceted import SIZES, faceted
from tests.pipelines.cut import train_until_cut
from tests.pipelines.oneshot.made import write_people
from tests.pretended_gpu import PretendedGpu

OPTIONS = TrainNpga(
    steps=40,
    num_gaussians=150,
    resolution=48,
    hidden=16,
    latent_dim=2,
    screen_width=4,
    probes=1,
    checkpoint_every=10,
    density=Density(every=10, gradient=1e-9, max_gaussians=170),
)
WHO = "bob"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people with four frames each, whose codes are made up, a prior that is a stone, and a field."""
    root, g = write_people(tmp_path_factory.mktemp("project")), torch.Generator().manual_seed(4)
    linear, own = root / "data/tracks", root / NPHM_TRACKS_FOLDER
    tracks, identities = (
        tables.read_table(linear / "tracks.parquet", tables.TRACKS).to_pylist(),
        tables.read_table(linear / "identities.parquet", tables.IDENTITIES).to_pylist(),
    )
    for row in tracks:
        row |= {"head": "nphm", "expression": (0.1 * torch.randn(SIZES.expression_code, generator=g)).tolist()}
        row |= {"jaw": [0.0] * 3, "eyes": [0.0] * 6}
    for row in identities:
        row |= {"head": "nphm", "identity": [0.0] * SIZES.identity_code}
    segments = tables.read_table(linear / "segments.parquet", tables.SEGMENTS).to_pylist()
    for name, rows, schema in (
        ("tracks", tracks, tables.TRACKS),
        ("identities", identities, tables.IDENTITIES),
        ("segments", segments, tables.SEGMENTS),
    ):
        tables.write_table(tables.pa.Table.from_pylist(rows, schema), schema, own / f"{name}.parquet")
    zeros = torch.zeros(1, SIZES.identity_code)
    codes = Codebooks(zeros, zeros.clone(), torch.zeros(2, SIZES.expression_code))
    write(root / "models/nphm", nphm_files(faceted(), codes, {}))
    prior = sha256_file(root / "models/nphm/model.safetensors")
    sizes = ForwardSizes(SIZES.expression_code, feature_dim=3, hidden=16, layers=3, plane_size=6)
    torch.manual_seed(0)
    write(root / "models/nphm_forward", forward_files(ForwardField(sizes), TriPlanes(sizes, 1), ["cleo"], prior, {}))
    return root


def write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


@pytest.fixture(autouse=True)
def coarse_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "SPACING_M", 0.008)


def trainer(project: Path, **changes: object) -> NpgaTrainer:
    options = {**OPTIONS.model_copy(update=changes).as_key()}
    params = {"train_npga": options, "test_fraction": 0.25}
    return NpgaTrainer(params, 10, project / "models/nphm", project / "models/nphm_forward", project)


def run_of(project: Path, device: str = "cpu", **changes: object) -> NpgaRun:
    own = trainer(project, **changes)
    return prepare(own.options, parts_of(own.data, WHO, own.options, 0.25), own.stored.model, own.forward, WHO, device)


def weights(run: NpgaRun) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in run.training.model.parameters()])


def test_a_run_that_was_cut_ends_with_the_same_bits(project: Path, tmp_path: Path) -> None:
    whole, cache = run_of(project), Cache(str(tmp_path))
    train_here(whole, cache.writer("0"), Fleet())
    losses = [point["raw"] for point in whole.training.curve]
    assert losses[-1] < 0.9 * losses[0] and "held_out_psnr" in whole.training.curve[-1]
    assert [point["gaussians"] for point in whole.training.curve][-1] != 150  # the set was edited

    train_until_cut(run_of(project), cache.writer("1"), 23)
    second = run_of(project)
    train_here(second, cache.writer("1"), Fleet())
    assert torch.equal(weights(second), weights(whole)) and second.training.curve == whole.training.curve
    third = run_of(project)
    third.training.load_state(whole.training.state())
    assert whole.pictures() and third.pictures() == second.pictures() == whole.pictures()


def test_what_is_written_is_an_avatar_with_what_it_is_worth(project: Path, tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    out = cache.writer("2")
    summary = trainer(project, steps=10)(Item(WHO, "0"), None, out)
    out.commit(summary, 0.0)
    entry = cache.find("2")
    assert isinstance(entry, Entry) and summary["steps"] == 10 and summary["frames"] == 3
    assert summary["held_out_frames"] == 1 and summary["held_out_psnr"] > 5 and 0 < summary["held_out_ssim"] < 1
    for name in ("avatar.safetensors", "avatar.json"):
        entry.copy_to(name, tmp_path / "avatar" / name)
    avatar, facts = load_avatar(tmp_path / "avatar")
    assert avatar.condition_size == len(facts["neutral"]) == len(facts["condition_names"]) == SIZES.expression_code + 9
    assert facts["subject_id"] == WHO and entry.read_bytes("progress.png")


def test_on_a_gpu_it_learns_the_same(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: str) -> None:
    cache = Cache(str(tmp_path))
    wanted = trainer(project)(Item(WHO, "0"), None, cache.writer("0"))
    monkeypatch.setattr("pipelines.npga_training.trainer.reserved_device", lambda: gpu)
    found = trainer(project)(Item(WHO, "0"), None, cache.writer("1"))
    assert found["held_out_psnr"] == pytest.approx(wanted["held_out_psnr"], abs=0.1)
    assert found["gaussians"] == pytest.approx(wanted["gaussians"], abs=5)


def test_a_step_waits_for_the_gpu_once_beside_the_splatting(project: Path) -> None:
    with PretendedGpu() as gpu:
        run = run_of(project, "cuda")
        (shot,) = run.batches(range(1), setup.Place(), 1)
        gpu.waits.clear()
        run.training.one_step(shot)
        assert gpu.waits == ["splat", "tolist"]


def test_gaussians_that_cannot_be_drawn_are_a_verdict_that_names_the_rate(project: Path) -> None:
    run = run_of(project)
    (shot,) = run.batches(range(1), setup.Place(), 1)
    with torch.no_grad():
        run.training.model.log_scales[7] = float("inf")
    with pytest.raises(TrainingDiverged, match=r"step 0: .*; lower train_npga.learning_rate"):
        run.training.one_step(shot)


def test_the_forward_field_is_still_at_first(project: Path) -> None:
    run = run_of(project, coarse_still=0.5)
    before = [weight.detach().clone() for weight in run.training.model.F.parameters()]
    for shot in run.batches(range(20), setup.Place(), 1):
        run.training.one_step(shot)
    assert all(torch.equal(a, b) for a, b in zip(before, run.training.model.F.parameters(), strict=True))
    for shot in run.batches(range(20, 22), setup.Place(), 1):
        run.training.one_step(shot)
    assert not all(torch.equal(a, b) for a, b in zip(before, run.training.model.F.parameters(), strict=True))


def test_a_subject_of_the_distillation_has_its_own_planes(project: Path) -> None:
    own = trainer(project)
    geometry, expressions = torch.zeros(SIZES.identity_code), torch.zeros(2, SIZES.expression_code)
    surface = 0.09 * torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
    known = planes_of(own.forward, own.stored.model, surface, geometry, expressions, "cleo", 0)
    assert torch.equal(known.planes[0], own.forward.planes.planes[0])
    found = planes_of(own.forward, own.stored.model, surface, geometry, expressions, "bob", 0)
    assert found.planes.shape == known.planes.shape and not torch.equal(found.planes, known.planes)


def test_a_field_of_another_prior_is_refused(project: Path, tmp_path: Path) -> None:
    sizes = ForwardSizes(SIZES.expression_code)
    write(tmp_path / "other", forward_files(ForwardField(sizes), TriPlanes(sizes, 1), ["ann"], "f" * 64, {}))
    with pytest.raises(ModelError, match="distilled from another prior"):
        NpgaTrainer(
            {"train_npga": OPTIONS.as_key(), "test_fraction": 0.2}, 10, project / "models/nphm", tmp_path / "other", project
        )


def test_where_all_frames_are_held_out_there_is_nothing_to_train_on(project: Path) -> None:
    own = trainer(project)
    with pytest.raises(ItemRejected, match="all its good frames are held out"):
        parts_of(own.data, WHO, own.options, 1.0)


def test_held_out_frames_are_spread_over_the_clips() -> None:
    clips = [
        ClipSplit("a", np.arange(4), np.array([4])),
        ClipSplit("b", np.arange(0), np.arange(9)),
        ClipSplit("c", np.arange(4), np.arange(0)),
    ]
    held = held_out_rows(clips, 6)
    assert [(clip, rows.tolist()) for clip, rows in held] == [("a", [4]), ("b", [0, 4, 8])]


def test_points_lie_on_the_triangles_and_are_spread_by_area() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 5.0], [3, 0, 5], [0, 3, 5]])
    points = evenly_on(vertices[torch.tensor([[0, 1, 2], [3, 4, 5]])], 4000, np.random.default_rng(0))
    on_small, on_large = points[:, 2] < 1e-5, points[:, 2] > 5 - 1e-5
    assert bool((on_small | on_large).all()) and bool((points[:, :2] >= 0).all())
    assert 0.07 < on_small.float().mean() < 0.13  # a tenth of the area
    torch.testing.assert_close(points[on_large, :2].mean(0), torch.tensor([1.0, 1.0]), atol=0.05, rtol=0)


def test_items_are_there_where_steps_and_a_field_are_and_follow_the_tracks(project: Path, tmp_path: Path) -> None:
    params = Params(source=Source(kind="folder", path="a", watch="a"), train_npga=OPTIONS)
    assert [item.id for item in npga_items(params, project)] == ["ann", "bob", "cleo", "dan"]
    assert npga_items(params, tmp_path) == []
    off = params.model_copy(update={"train_npga": OPTIONS.model_copy(update={"steps": 0})})
    assert npga_items(off, project) == []
    step = npga_step(params, project)
    assert "checkpoint_every" not in step.params["train_npga"] and set(step.assets) == {"nphm", "nphm_forward"}
