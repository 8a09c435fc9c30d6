"""The whole way, as a user goes it: `dvc repro` from made-up videos to a report, again, and after a change."""

from __future__ import annotations

import json
import sys

import av
import cv2
import pytest
import yaml

from bench.workspace import Workspace
from pipelines import tables
from pipelines.judging import METRICS_SCHEMA
from tests.e2e.conftest import TINY


def test_every_stage_leaves_its_outs(finished: Workspace) -> None:
    catalog = tables.read_table(finished.folder / "data/catalog/catalog.parquet", tables.CATALOG)
    segments = tables.read_table(finished.folder / "data/tracks/segments.parquet", tables.SEGMENTS)
    assert catalog.num_rows == 2
    assert segments["passed"].to_pylist() == [True, True]
    for subject in catalog["subject_id"].to_pylist():
        assert (finished.folder / "models/headgas" / subject / "avatar.safetensors").is_file()
    assert "<video" in (finished.folder / "report/report.html").read_text()
    assert json.loads((finished.folder / "metrics/evaluate.json").read_text())


def test_one_person_has_a_neural_head_and_an_avatar_on_it(finished: Workspace) -> None:
    folder = finished.folder
    tracked = tables.read_table(folder / "data/tracks_nphm/segments.parquet", tables.SEGMENTS)
    assert set(tracked["subject_id"].to_pylist()) == {"ada"}
    assert (folder / "models/npga/ada/avatar.safetensors").is_file()
    judged = tables.read_table(folder / "data/evaluation_npga/metrics.parquet", METRICS_SCHEMA)
    assert judged.num_rows == TINY["evaluate.max_frames"] and set(judged["subject_id"].to_pylist()) == {"ada"}
    assert json.loads((folder / "metrics/evaluate_npga.json").read_text())["psnr"] > 5
    assert "On the neural head" in (folder / "report/report.html").read_text()


def test_nothing_changed_runs_nothing(finished: Workspace) -> None:
    before = finished.digests()
    run = finished.repro()
    assert run.status == 0
    assert not run.lines_with("Running stage"), run.output
    assert finished.digests() == before


def test_figures_and_curves_are_shown_by_dvc(finished: Workspace) -> None:
    assert "psnr" in finished.run("dvc", "metrics", "show").output
    plots = finished.run("dvc", "plots", "show")
    assert plots.status == 0 and "index.html" in plots.output, plots.output


def test_an_avatar_is_rendered_with_an_expression_and_driven_by_another(finished: Workspace) -> None:
    target, driver = sorted(path.name for path in (finished.folder / "models/headgas").iterdir() if path.is_dir())
    words = ("render", f"models/headgas/{target}", "--size", "96")
    still = finished.run("headwater", *words, "-o", "smile.png", "--expression", "mouthSmileLeft=1")
    assert still.status == 0 and cv2.imread(str(finished.folder / "smile.png")).shape == (96, 96, 3), still.output
    video = finished.run("headwater", *words, "-o", "driven.mp4", "--driver", driver)
    assert video.status == 0, video.output
    with av.open(str(finished.folder / "driven.mp4")) as container:
        frames = sum(1 for _ in container.decode(video=0))
    segments = tables.read_table(finished.folder / "data/tracks/segments.parquet", tables.SEGMENTS).to_pylist()
    assert frames == next(row["num_frames"] for row in segments if row["clip_id"] == driver)
    wrong = finished.run("headwater", *words, "-o", "driven.mp4", "--driver", driver[:-1])
    assert wrong.status == 1 and f"Did you mean {driver!r}?" in wrong.output


def test_what_tracking_found_is_shown_on_the_page_and_as_a_video(finished: Workspace) -> None:
    segments = tables.read_table(finished.folder / "data/tracks/segments.parquet", tables.SEGMENTS).to_pylist()
    page = (finished.folder / "report/report.html").read_text()
    assert page.count('<figure class="card clip"><video src="data:video/mp4;base64,') == len(segments)
    video = finished.run("headwater", "overlay", segments[0]["clip_id"], "-o", "overlay.mp4", "--size", "128")
    assert video.status == 0 and "alone" not in video.output, video.output
    with av.open(str(finished.folder / "overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) >= segments[0]["num_frames"]


def test_an_experiment_with_another_training_parameter_touches_no_clip(finished: Workspace) -> None:
    run = finished.run("dvc", "exp", "run", "-S", "train_headgas.steps=20")
    assert run.status == 0, run.output
    assert not run.lines_with("Running stage 'preprocess'"), run.output
    assert run.lines_with("train_headgas: 2 subjects: 0 cached, 2 computed, 0 quarantined"), run.output


def test_a_sweeps_best_values_are_what_the_next_repro_finds_trained(finished: Workspace) -> None:
    space = {
        "train_headgas.learning_rate": {"low": 0.002, "high": 0.02, "log": True},
        "train_headgas.num_gaussians": [200, 300],
    }
    sweep = {"trials": 3, "slots": {"num_cpus": 1.0, "count": 2}, "space": space}
    (finished.folder / "sweeps" / "tiny.yaml").write_text(yaml.safe_dump(sweep))
    preprocessed = {
        name: found for name, found in finished.digests().items() if name.startswith(("data/frames", "data/tracks"))
    }
    run = finished.run("headwater", "sweep", "sweeps/tiny.yaml")
    assert run.status == 0 and run.lines_with("study tiny: 3 trials (3 complete)"), run.output
    facts = json.loads((finished.folder / "sweeps/tiny.trials.json").read_text())
    best = facts["trials"][facts["best"][0]]
    assert best["figures"]["psnr"] == max(trial["figures"]["psnr"] for trial in facts["trials"])

    applied = finished.run("headwater", "sweep", "sweeps/tiny.yaml", "--apply")
    assert applied.status == 0 and "train_headgas.num_gaussians" in applied.output, applied.output
    params = yaml.safe_load((finished.folder / "params.yaml").read_text())["train_headgas"]
    assert {f"train_headgas.{name}": params[name] for name in ("learning_rate", "num_gaussians")} == best["values"]
    repro = finished.repro()
    assert repro.lines_with("train_headgas: 2 subjects: 2 cached, 0 computed, 0 quarantined"), repro.output
    assert not repro.lines_with("Running stage 'preprocess'") and preprocessed.items() <= finished.digests().items()
    evaluated = json.loads((finished.folder / "metrics/evaluate.json").read_text())
    assert evaluated["psnr"] == pytest.approx(best["figures"]["psnr"], abs=1e-3)
    assert "Sweeps" in (finished.folder / "report/report.html").read_text()


def test_a_sweep_of_preprocess_fits_again_and_leaves_the_tracks_alone(finished: Workspace) -> None:
    sweep = {"trials": 2, "slots": {"count": 1}, "space": {"preprocess.fit_smoothness": {"low": 1.0, "high": 8.0}}}
    (finished.folder / "sweeps" / "smooth.yaml").write_text(yaml.safe_dump(sweep))
    before = finished.digests()
    run = finished.run("headwater", "sweep", "sweeps/smooth.yaml")
    assert run.status == 0, run.output
    trials = json.loads((finished.folder / "sweeps/smooth.trials.json").read_text())["trials"]
    assert {trial["state"] for trial in trials} == {"complete"} and finished.digests() == before
    now, smoother = (trial["figures"]["psnr"] for trial in trials)  # the first is what params.yaml says
    evaluated = json.loads((finished.folder / "metrics/evaluate.json").read_text())
    assert now == pytest.approx(evaluated["psnr"], abs=1e-3) and smoother != now
    assert not list((finished.folder / ".headwater/sweeps").glob("*.work/*"))


def test_the_table_of_ablations_is_one_command_and_free_the_second_time(finished: Workspace) -> None:
    subject = sorted(path.parent.name for path in (finished.folder / "models/headgas").glob("*/avatar.json"))[0]
    words = (sys.executable, "-m", "headwater.cli", "ablate", subject, "--steps", "25")
    first = finished.run(*words)
    assert first.status == 0, first.output
    for label in ("w/o blending", "delta mu, R", "change all", "w/o MLP", "HeadGaS", "rigged"):
        assert first.lines_with(label), label
    assert len(first.lines_with("/runs/")) == 6 and first.lines_with("w/o L_p is left out")
    again = finished.run(*words)
    assert len(again.lines_with("1 cached")) == 6, again.output
