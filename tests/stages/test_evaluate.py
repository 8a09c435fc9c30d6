"""What the stage writes of subjects and of pairs; LPIPS: off and said, on and in every figure, and in a result's key."""

from __future__ import annotations

import json
import shutil
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from avatar_models.avatar import avatar_files
from avatar_models.headgas import HeadGas, HeadGasSizes
from avatar_models.lpips import load_lpips
from avatar_models.perceptual import STAGES, PerceptualWeightsError, Vgg16Features
from headwater.assets import state_of
from pipelines import tables
from pipelines.ablation import figures_of, judge_step
from pipelines.avatar_evaluation import assemble, cross_pairs, items, over_subjects, step
from pipelines.cache import Cache, Entry
from pipelines.evaluation import FIGURES, LPIPS, distances
from pipelines.fanout import FanOutResult, Item
from pipelines.judging import METRICS_SCHEMA
from pipelines.lpips_asset import lpips_assets, lpips_files, named_files, say_lpips_is_off
from pipelines.methods import HEADGAS
from pipelines.params import Evaluate, Params, Source, TrainHeadgas
from pipelines.perceptual_asset import ABSENT
from pipelines.subject import clip_tracks, read_tables
from tests.pipelines.formats.made import write_project


def params(vgg16: str | Path = "", linear: str | Path = "") -> Params:
    return Params(
        source=Source(kind="folder", path="a", watch="a"),
        train_headgas=TrainHeadgas(perceptual_weights=str(vgg16), resolution=32),
        evaluate=Evaluate(lpips_weights=str(linear), align_steps=1),
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of the published layout, with numbers drawn at random."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    torch.save(Vgg16Features(STAGES).state_dict(), folder / "vgg16.pth")
    linear = {f"lin{k}.model.1.weight": torch.rand(1, widths[-1], 1, 1) for k, widths in enumerate(STAGES)}
    torch.save(linear, folder / "lpips.pth")
    return folder / "vgg16.pth", folder / "lpips.pth"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tracked subject, ann, with an avatar that nobody trained."""
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    conditions = torch.from_numpy(clip_tracks(read_tables().tracks, "ann").conditions)
    torch.manual_seed(0)
    model = HeadGas(HeadGasSizes(num_gaussians=60, condition_size=conditions.shape[1], sh_degree=0))
    model.initialise(torch.randn(60, 3) * 0.05, torch.rand(60, 3), conditions)
    folder = tmp_path / "models/headgas/ann"
    folder.mkdir(parents=True)
    for name, data in avatar_files("headgas", model.tensors(), {"sizes": model.sizes_as_dict()}).items():
        (folder / name).write_bytes(data)
    return tmp_path


def judged(own: Params) -> FanOutResult:
    """What the stage's worker makes of ann, in this process."""
    judge, cache = step(HEADGAS, own), Cache("cache")
    writer = cache.writer(judge.key("ann"))
    writer.commit(judge.worker(judge.params)(Item("ann", "ann"), None, writer), seconds=0.0)
    entry = cache.find(judge.key("ann"))
    return FanOutResult("evaluate", [judge], {"ann": [entry]})  # type: ignore[list-item]


def test_it_is_off_unless_asked_for_and_its_columns_are_null(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say_lpips_is_off(params())
    assert capsys.readouterr().err == "" and step(HEADGAS, params()).assets == {}
    result = judged(params())
    means = assemble(HEADGAS, result)
    table = tables.read_table(project / "data/evaluation/metrics.parquet", METRICS_SCHEMA)
    assert table.num_rows > 0 and all(table[name].null_count == table.num_rows for name in LPIPS)
    assert not set(LPIPS) & (set(means["ann"]) | set(json.loads((project / "metrics/evaluate.json").read_text())))
    assert not set(LPIPS) & set(figures_of(result)["ann"])


def test_it_is_in_every_figure_where_its_files_are_there(project: Path, weights: tuple[Path, Path]) -> None:
    result = judged(params(*weights))
    means = assemble(HEADGAS, result)
    table = tables.read_table(project / "data/evaluation/metrics.parquet", METRICS_SCHEMA)
    shown = json.loads((project / "metrics/evaluate.json").read_text())
    kept = json.loads((project / "data/evaluation/subjects.json").read_text())["ann"]
    for name in LPIPS:
        values = table[name].to_numpy()
        assert (values > 0).all()
        for found in (shown[name], kept[name], over_subjects(means)[name], figures_of(result)["ann"][name]):
            assert found == pytest.approx(values.mean(), abs=1e-4)
    assert set(shown) == {*FIGURES, *LPIPS, "no_face_made"}  # of pictures as small as these no face is found


def test_it_is_of_what_is_judged_alone(weights: tuple[Path, Path]) -> None:
    judged = np.ones((2, 32, 32), np.bool_)
    judged[:, 20:] = False
    wanted = torch.rand(2, 3, 32, 32)
    made = wanted.clone()
    made[:, :, 20:] = 0.0
    found = distances(load_lpips(*weights), {"lpips": made, "other": 1 - made}, wanted, judged)
    assert found["lpips"] == pytest.approx([0.0, 0.0], abs=1e-6) and min(found["other"]) > 1e-4


def test_a_missing_file_is_said_and_stands_in_the_record(
    weights: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = params("", weights[1])
    say_lpips_is_off(wanted)
    told = capsys.readouterr().err
    assert told.count("LPIPS is OFF") == 1 and "train_headgas.perceptual_weights is empty" in told
    assert "vgg16-397923af.pth" in told and lpips_files(wanted) is None
    assert step(HEADGAS, wanted).assets["vgg16"] == ABSENT and len(step(HEADGAS, wanted).assets["lpips_vgg"]) == 64
    say_lpips_is_off(params(weights[0], "nowhere.pth"))
    assert "nowhere.pth: no such file" in capsys.readouterr().err


def test_weights_that_are_not_the_published_ones_are_named(
    weights: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    say_lpips_is_off(params(*weights))
    told = capsys.readouterr().err
    assert told.count("LPIPS is not that of papers") == 2 and "lpips.pth is not the published file" in told


def test_files_of_no_use_stop_before_anything_is_judged(weights: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"no")
    with pytest.raises(PerceptualWeightsError, match="bad.pth: not a file of weights"):
        say_lpips_is_off(params(weights[0], tmp_path / "bad.pth"))


@pytest.mark.parametrize("made_of", [partial(step, HEADGAS), judge_step])
def test_the_files_content_counts_and_not_their_place(made_of, weights: tuple[Path, Path], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    moved = tmp_path / "moved.pth"
    moved.write_bytes(weights[1].read_bytes())
    first, second = (made_of(params(weights[0], linear)).key("x") for linear in (weights[1], moved))
    assert first == second != made_of(params()).key("x")


def test_the_state_of_the_files_that_a_user_may_add(weights: tuple[Path, Path]) -> None:
    def states(own: Params) -> list[tuple[bool, str]]:
        return [state_of(file) for file in named_files(own.train_headgas, own.evaluate).values()]

    assert all(good and "is empty" in said for good, said in states(params()))
    assert [good for good, _ in states(params("nowhere.pth", weights[1]))] == [False, True]
    content = lpips_assets(params(*weights))["lpips_vgg"]
    assert f"lpips.pth: not the published file, its sha256 is {content}" in states(params(*weights))[1][1]


def pair(result: FanOutResult, driver: str, summary: dict[str, float | None]) -> None:
    """Adds what a worker would have made of a driver's clip on ann's avatar."""
    cache, (ann, *_) = Cache("cache"), result.entries["ann"]
    rows = ann.read_table("metrics")
    null = {field.name: pa.nulls(len(rows), field.type) for field in METRICS_SCHEMA}
    shown = {name: rows[name] for name in ("subject_id", "clip_id", "frame")} | {"driver_id": pa.array([driver] * len(rows))}
    writer = cache.writer(step(HEADGAS, params()).key(driver))
    writer.write_table("metrics", pa.table(null | shown, METRICS_SCHEMA))
    writer.write_bytes("video.mp4", b"video")
    writer.commit({"frames": len(rows), **summary}, seconds=0.0)
    entry = cache.find(step(HEADGAS, params()).key(driver))
    assert isinstance(entry, Entry)
    result.entries[f"ann<{driver}"] = [entry]


def test_pairs_figures_are_kept_and_their_means_are_the_targets(project: Path) -> None:
    result = judged(params())
    faces = {"aed": 0.25, "apd": 0.5, "mouth_correlation": None, "no_face_made": 1.0}
    pair(result, "bob", faces)
    pair(result, "cid", faces | {"aed": 0.75, "no_face_made": 2.0})
    means = assemble(HEADGAS, result)
    shown, kept, pairs = (
        json.loads((project / path).read_text())
        for path in ("metrics/evaluate.json", "data/evaluation/subjects.json", "data/evaluation/pairs.json")
    )
    across = {name: value for name, value in kept["ann"].items() if name.startswith("cross_")}
    assert across == {"cross_aed": 0.5, "cross_apd": 0.5, "cross_no_face_made": 1.5}
    assert means == kept and across.items() <= shown.items() and pairs["ann<bob"] == faces
    table = tables.read_table(project / "data/evaluation/metrics.parquet", METRICS_SCHEMA).to_pylist()
    assert {row["driver_id"] for row in table} == {"ann", "bob", "cid"}
    own = [row for row in table if row["driver_id"] == "ann"]
    plotted = (project / "plots/evaluate_psnr.csv").read_text().splitlines()[1:]
    assert len(plotted) == len(own) and all(line.startswith("ann,") and "None" not in line for line in plotted)
    assert (project / "data/evaluation/cross/ann/bob.mp4").read_bytes() == b"video"


def test_what_somebody_has_no_figure_of_is_in_no_mean() -> None:
    means = {"ada": {"psnr": 20.0, "akd": None}, "ben": {"psnr": 30.0, "akd": 1.0, "cross_aed": 0.2}, "cleo": {"psnr": 31.0}}
    assert over_subjects(means) == {"psnr": 27.0, "akd": 1.0, "cross_aed": 0.2}
    assert over_subjects({}) == {}


def test_a_pair_is_judged_again_when_either_persons_data_change(project: Path) -> None:
    shutil.copytree(project / "models/headgas/ann", project / "models/headgas/bob")
    path = project / "data/tracks/segments.parquet"
    first = {item.id: item.fingerprint for item in items(HEADGAS, params())}
    assert set(first) == {"ann", "bob", "ann<bob", "bob<ann"}
    rows = tables.read_table(path, tables.SEGMENTS).to_pylist()
    rows[0]["fingerprint"] = "another"
    tables.write_table(pa.Table.from_pylist(rows, tables.SEGMENTS), tables.SEGMENTS, path)
    changed = {item.id for item in items(HEADGAS, params()) if item.fingerprint != first[item.id]}
    assert changed == {"ann", "ann<bob", "bob<ann"}


def test_three_people_give_all_six_pairs_neighbours_first() -> None:
    pairs = list(cross_pairs(["a", "b", "c"]))
    assert pairs == [("a", "b"), ("b", "c"), ("c", "a"), ("a", "c"), ("b", "a"), ("c", "b")]


def test_every_ordered_pair_comes_once_and_nobody_drives_himself() -> None:
    people = [f"p{n}" for n in range(7)]
    pairs = list(cross_pairs(people))
    assert len(pairs) == len(set(pairs)) == 7 * 6 and all(target != driver for target, driver in pairs)
    some = list(islice(cross_pairs(people), 16))  # two rounds, and two of the third
    for side in zip(*some, strict=True):
        assert {side.count(name) for name in people} == {2, 3}


def test_one_person_or_none_has_no_pair() -> None:
    assert list(cross_pairs(["a"])) == list(cross_pairs([])) == []
