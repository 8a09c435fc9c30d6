"""The command line: what people see, and what they are told when something is off."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import psutil
import pytest
import torch
from typer.testing import CliRunner

from avatar_models.avatar import avatar_files
from avatar_models.headgas import HeadGas, HeadGasSizes
from avatar_models.ply import read_ply
from headwater import doctor
from headwater.assets import REINSTALL
from headwater.cli import app
from headwater.compare import differing
from headwater.profile import apply_profile
from pipelines.fanout import Ledger
from pipelines.main import INTERRUPTED
from pipelines.params import load_params

ROOT = Path(__file__).resolve().parents[2]
RUNNER = CliRunner()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    result = RUNNER.invoke(app, list(words))
    return result.exit_code, " ".join(result.output.split())


def test_switching_there_and_back_restores_the_file(project: Path) -> None:
    before = (project / "params.yaml").read_text()
    code, output = run("profile", "cluster")
    assert code == 0 and "source.kind: procedural -> vfhq" in output
    assert "# what DVC hashes" in (project / "params.yaml").read_text()  # comments stay
    assert run("profile", "demo")[0] == 0
    assert (project / "params.yaml").read_text().split() == before.split()


def test_a_users_own_value_is_not_lost(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("steps: 1500", "steps: 777"))
    code, output = run("profile", "laptop")
    assert code == 1 and "train_headgas.steps = 777" in output and "steps: 777" in params.read_text()
    assert run("profile", "laptop", "--force")[0] == 0
    assert "steps: 777" in (project / "params.yaml.bak").read_text()


def test_the_laptop_profile_makes_the_folder_and_says_what_belongs_in_it(project: Path) -> None:
    assert (
        "Next: put videos into data/raw (one person per file, or per sub-folder), then dvc repro" in run("profile", "laptop")[1]
    )
    assert (project / "data/raw").is_dir()
    (project / "data/raw/ann.mp4").write_bytes(b"")
    assert run("profile", "laptop")[1].endswith("Next: dvc repro")


def test_an_unknown_profile_names_the_known_ones(project: Path) -> None:
    assert "there are: cluster, demo, laptop" in run("profile", "desktop")[1]


def test_every_profile_loads(project: Path) -> None:
    for name in ("demo", "laptop", "cluster"):
        apply_profile(Path("params.yaml"), Path("profiles"), name, force=False)
        assert load_params().source.kind == {"demo": "procedural", "laptop": "folder", "cluster": "vfhq"}[name]


def state_file(
    project: Path, stage: str, finished: float | None, error: str = "", process: psutil.Process | None = None
) -> None:
    path = project / ".headwater" / "stages" / f"{stage}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    pid, created = (process.pid, process.create_time()) if process else (2**22 + 1, 1.0)
    path.write_text(json.dumps({"pid": pid, "created": created, "started": 100.0, "finished": finished, "error": error}))


def test_status_tells_what_is_next_and_what_failed(project: Path) -> None:
    folder = project / ".headwater" / "ledger"
    folder.mkdir(parents=True)
    ledger = {
        "stage": "preprocess", "states": {"a": "computed", "b": "quarantined"}, "reasons": {"b": "no_face"}, "started": 100.0,
        "finished": 165.0, "seconds": {"observe": 60.0}, "frames": 10,
    }  # fmt: skip
    (folder / "preprocess.json").write_text(json.dumps(ledger))
    state_file(project, "preprocess", finished=165.0)
    code, output = run("status")
    assert code == 0
    assert "1 min 05 s" in output and "preprocess: 1 x no_face; after mending: headwater retry preprocess no_face" in output
    assert (
        "next: dvc repro (catalog, preprocess, train_headgas, train_oneshot, train_nphm, track_nphm, "
        "distill_forward, train_npga, evaluate, evaluate_oneshot, evaluate_npga, report)" in output
    )


def test_status_tells_failed_killed_and_running_apart(project: Path) -> None:
    state_file(project, "catalog", finished=101.0, error="SourceError: [x] no folder data/raw")
    state_file(project, "preprocess", finished=None)
    state_file(project, "evaluate", finished=None, process=psutil.Process())
    output = run("status")[1]
    assert "catalog failed" in output and "preprocess killed" in output and "evaluate running" in output
    assert "catalog failed: SourceError: [x] no folder data/raw" in output


def test_a_state_of_another_version_is_read(project: Path) -> None:
    state_file(project, "catalog", finished=101.0, error="Boom")
    path = project / ".headwater/stages/catalog.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "node7"}))
    assert "catalog failed: Boom" in run("status")[1]


def test_a_stage_that_dvc_brought_back_is_done_again(project: Path) -> None:
    state_file(project, "report", finished=101.0, error="Boom: old")
    (project / "report").mkdir()
    (project / "dvc.yaml").write_text("stages: {report: {outs: [report]}}")
    (project / "dvc.lock").write_text("stages: {report: {outs: [{path: report}]}}")
    output = run("status")[1]
    assert "report done" in output and "Boom" not in output


STAGES = """
stages:
  catalog: {params: [source], outs: [catalog]}
  train: {deps: [catalog], params: [train_headgas.steps], plots: [curves: {x: step}]}
  report: {deps: [curves], outs: [report]}
"""
LOCKED = """
stages:
  catalog:
    params: {params.yaml: {source: {kind: folder, path: v, watch: v}}}
    outs: [{path: catalog, md5: a1}]
  train:
    deps: [{path: catalog, md5: a1}]
    params: {params.yaml: {train_headgas.steps: 7}}
    outs: [{path: curves, md5: b1}]
  report:
    deps: [{path: curves, md5: b1}]
    outs: [{path: report, md5: c1}]
"""


@pytest.fixture
def finished(project: Path) -> Path:
    """A project of three small stages that have run."""
    (project / "dvc.yaml").write_text(STAGES)
    (project / "dvc.lock").write_text(LOCKED)
    (project / "params.yaml").write_text("source: {kind: folder, path: v, watch: v}\ntrain_headgas: {steps: 7}\n")
    for name in ("catalog", "curves", "report"):
        (project / name).mkdir()
    return project


def test_all_is_done_where_nothing_has_changed(finished: Path) -> None:
    output = run("status")[1]
    assert "catalog done" in output and "old" not in output
    assert "all stages have run with the values in params.yaml" in output


@pytest.mark.parametrize(
    ("file", "before", "after", "old"),
    [
        ("params.yaml", "steps: 7", "steps: 8", "train, report"),  # a dotted key
        ("params.yaml", "path: v", "path: w", "catalog, train, report"),  # a block
        ("dvc.lock", "{path: catalog, md5: a1}]\n  train", "{path: catalog, md5: a2}]\n  train", "train, report"),
    ],
)
def test_a_stage_is_old_when_its_values_or_a_stage_before_it_changed(
    finished: Path, file: str, before: str, after: str, old: str
) -> None:
    text = (finished / file).read_text()
    assert before in text
    (finished / file).write_text(text.replace(before, after))
    output = run("status")[1]
    assert "report old" in output and f"next: dvc repro ({old})" in output


def test_what_comes_after_a_failed_stage_is_old(finished: Path) -> None:
    state_file(finished, "train", finished=4e9, error="Boom")
    output = run("status")[1]
    assert "catalog done" in output and "train failed" in output and "report old" in output
    assert "next: dvc repro (train, report)" in output


def break_params(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("steps: 1500", "step: 1500"))


def test_status_tells_of_parameters_that_cannot_be_read(project: Path) -> None:
    break_params(project)
    code, output = run("status")
    assert code == 0 and "catalog to run" in output and "next: dvc repro" not in output
    assert "nothing runs until this is mended: params.yaml: unknown key 'train_headgas.step'" in output


def test_status_tells_of_a_file_that_is_not_there_before_dvc_takes_outs_away(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("start_from: ''", "start_from: models/gone"))
    assert "models/gone" in params.read_text()
    output = run("status")[1]
    assert "train_oneshot would fail: train_oneshot.start_from: models/gone is not there" in " ".join(output.split())
    params.write_text(params.read_text().replace("models/gone", "models/oneshot"))
    output = " ".join(run("status")[1].split())
    assert "mended: params.yaml: train_oneshot.start_from: models/oneshot is what this stage makes" in output
    params.write_text(params.read_text().replace("start_from: models/oneshot", "start_from: ''"))
    changed = params.read_text().replace("cloud_files: ''", "cloud_files: my/clouds")
    assert changed != params.read_text()
    params.write_text(changed)  # clouds: head reads none
    assert "next: dvc repro" in run("status")[1]


def test_doctor_tells_of_parameters_that_cannot_be_read_once(project: Path) -> None:
    break_params(project)
    found = [finding for finding in doctor.examine() if "train_headgas.step" in finding.found]
    assert [(finding.what, finding.state) for finding in found] == [("params.yaml", "fail")]
    assert found[0].advice.startswith("mend that line") and "your own values are lost" in found[0].advice


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("", "preprocess.head = flame needs preprocess.head_file in params.yaml: generic_model.pkl"),
        ("gone.pkl", "gone.pkl"),
    ],
)
def test_doctor_looks_at_the_head_that_is_named(project: Path, file: str, says: str) -> None:
    assert doctor.head(load_params()).state == "ok"
    params = project / "params.yaml"
    params.write_text(
        params.read_text().replace("head: procedural", "head: flame").replace("head_file: ''", f"head_file: '{file}'")
    )
    found = doctor.head(load_params())
    assert found.state == "fail" and says in found.found and "docs/tracking.md" in found.advice


def test_doctor_looks_at_the_landmarker_that_is_named(project: Path) -> None:
    assert doctor.landmarker(load_params()).state == "ok"
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("landmarker_file: ''", "landmarker_file: gone.task"))
    assert doctor.landmarker(load_params()).state == "fail" and "gone.task" in doctor.landmarker(load_params()).found


def test_a_check_that_breaks_is_not_blamed_on_the_installation() -> None:
    def absent() -> doctor.Finding:
        raise ImportError("why")

    def locked() -> doctor.Finding:
        raise PermissionError("why")

    assert doctor.tried("x", absent).advice == "install again: make install"
    assert doctor.tried("x", locked) == doctor.Finding("x", "fail", "PermissionError: why", "mend what the message names")


def test_doctor_looks_at_the_disk_of_the_cache(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_params()
    looked: list[Path] = []
    monkeypatch.setattr(doctor, "room", lambda what, folder: looked.append(folder) or doctor.Finding(what, "ok", ""))
    for cache in ("caches/mine", "s3://bucket/cache"):
        compute = params.compute.model_copy(update={"cache": cache})
        assert doctor.disk_of_cache(params.model_copy(update={"compute": compute})).state == "ok"
    assert looked == [project]  # the nearest folder that is there; an object store has no disk here


def test_a_changed_model_file_has_one_way_out(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.assets.detector_hashes", dict)
    monkeypatch.setenv("COLUMNS", "400")
    assert REINSTALL in run("assets")[1] and doctor.detector().advice == REINSTALL


def test_retry_names_the_reasons_that_there_are(project: Path) -> None:
    assert "is no stage of dvc.yaml that has run here; those that have: none" in run("retry", "preprocess", "timeout")[1]
    Ledger("preprocess", {"ann": "quarantined"}, {"ann": "no_face"}).save()
    Ledger("ablate", {"ann": "quarantined"}, {"ann": "timeout"}).save()
    code, output = run("retry", "ablate", "timeout")
    assert code == 1 and "those that have: preprocess. `headwater ablate` has an option --retry of its own" in output
    assert "its reasons: no_face" in run("retry", "preprocess", "timeout")[1]


def test_retry_hands_the_reason_to_dvc(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger("film", {"ann": "quarantined"}, {"ann": "timeout"}).save()
    assert "its reasons: timeout" in run("retry", "film", "no_face")[1]
    called: list[tuple[list[str], str]] = []

    def run_program(words: list[str], env: dict[str, str]) -> int:
        called.append((words[2:], env["HEADWATER_RETRY"]))
        return 0

    monkeypatch.setattr("headwater.cli.run_program", run_program)
    assert run("retry", "film", "timeout")[0] == 0
    assert called == [(["dvc", "repro", "--force", "--single-item", "catalog"], "timeout")]


def test_outside_of_a_project_the_way_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("status") == (1, "error: no dvc.yaml here; run this in the project's folder")


def test_doctor_finds_a_link_that_dvc_cannot_hash(project: Path) -> None:
    run("profile", "laptop")
    assert doctor.source(load_params()) == doctor.Finding(
        "source.watch", "fail", "data/raw is empty", "put videos in, one person per file or sub-folder"
    )
    (project / "data" / "raw" / "gone.mp4").symlink_to("/nowhere")
    code, output = run("doctor")
    assert code == 1 and "gone.mp4" in output


def test_ui_does_not_open_on_a_port_that_is_taken(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run("ui", "--port", str(port)) == (1, f"error: port {port} is taken; name another with --port {port + 1}")


def test_doctor_tries_the_servers_that_are_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    found = doctor.tracking(load_params())
    assert found.state == "fail" and "127.0.0.1:9" in found.found
    assert doctor.ray().state == "fail" and "Connection refused" in doctor.ray().found


def test_every_command_explains_itself() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        code, output = run(command.name or command.callback.__name__.replace("_", "-"), "--help")
        assert code == 0 and str(command.callback.__doc__).split(".")[0] in output


def test_ctrl_c_is_told_with_what_is_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headwater.ablate.ablate", stop)
    monkeypatch.setattr("headwater.sweep.run_and_show", stop)
    monkeypatch.setattr("headwater.render.render_to_file", stop)
    told = (
        (("ablate",), "what is finished is kept, and the same command goes on from there"),
        (("sweep", "x.yaml"), "what is finished is kept, and `headwater sweep x.yaml` goes on from there"),
        (("render", "ann", "-o", "x.png"), "x.png is as it was before"),
    )
    for words, kept in told:
        assert run(*words) == (INTERRUPTED, f"error: stopped by Ctrl-C: {kept}")


def test_a_reason_and_rows_are_handed_to_the_ablations(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[object, ...]] = []
    for table in ("ablate.ablate", "ablate_oneshot.ablate_oneshot", "ablate_npga.ablate_npga"):
        monkeypatch.setattr(f"headwater.{table}", lambda *words: called.append(words))
    assert run("ablate", "ann", "--retry", "timeout")[0] == run("ablate", "ann", "--row", "full", "--row", "rigged")[0] == 0
    assert [words[:1] + words[3:] for words in called] == [(["ann"], ["timeout"], []), (["ann"], None, ["full", "rigged"])]
    called.clear()
    assert run("ablate-oneshot", "--row", "full")[0] == run("ablate-npga", "--row", "full", "--steps", "9")[0] == 0
    assert [words[-1] for words in called] == [["full"], ["full"]] and called[1][:2] == ([], 9)


def test_render_says_how_to_learn_the_names_of_expressions() -> None:
    assert "the names are condition_names in avatar.json" in run("render", "--help")[1].replace("│ ", "")


def test_render_wants_one_way_to_be_driven(tmp_path: Path) -> None:
    assert "give either --driver" in run("render", str(tmp_path), "-o", "x.png")[1]
    assert "avatar.json is missing" in run("render", str(tmp_path), "-o", "x.png", "--expression", "a=1")[1]


def test_an_avatar_that_is_not_there_is_told_with_those_that_are(project: Path) -> None:
    words = ("-o", "x.png", "--expression", "a=1")
    none_yet = run("render", "models/headgas/ada", *words)
    assert none_yet[0] == 1 and "There is none: training has not finished, or nobody could be trained on" in none_yet[1]
    for name in ("ada", "bruno"):
        (project / "models/headgas" / name).mkdir(parents=True)
        (project / "models/headgas" / name / "avatar.safetensors").write_bytes(b"")
    (project / "models/headgas/ada/avatar.json").write_text("{}")
    output = run("render", "models/headgas/adda", *words)[1]
    assert "Did you mean models/headgas/ada? There are: models/headgas/ada, models/headgas/bruno" in output
    assert "There are: models/headgas/ada" in run("export", "ada", "-o", "x.ply")[1]
    assert "bruno: not an avatar, avatar.json is missing" in run("render", "models/headgas/bruno", *words)[1]


def test_a_name_that_looks_like_markup_is_shown_as_it_is() -> None:
    assert "models/Talk [hd]/[/b]" in run("export", "models/Talk [hd]/[/b]", "-o", "x.ply")[1]


def test_an_export_is_a_ply_file_that_reads_back(tmp_path: Path) -> None:
    facts = {"condition_names": ["smile"], "neutral": [0.0], "background": "white"}
    model = HeadGas(HeadGasSizes(num_gaussians=50, condition_size=1, sh_degree=1))
    model.initialise(torch.rand(50, 3), torch.rand(50, 3), torch.rand(4, 1))
    for name, data in avatar_files("headgas", model.tensors(), {**facts, "sizes": model.sizes_as_dict()}).items():
        (tmp_path / name).write_bytes(data)
    assert "an export is a .ply file" in run("export", str(tmp_path), "-o", "x.obj")[1]
    assert "Did you mean 'smile'" in run("export", str(tmp_path), "-o", str(tmp_path / "x.ply"), "--expression", "smle=1")[1]
    for value in ("nan", "inf", "much"):
        words = ("--expression", f"smile={value}")
        wrong = f"--expression smile={value}: '{value}' is not a number; write smile=0.5"
        assert wrong in run("export", str(tmp_path), "-o", str(tmp_path / "x.ply"), *words)[1]
        assert wrong in run("render", str(tmp_path), "-o", str(tmp_path / "x.png"), *words)[1]
    (tmp_path / "file").touch()
    code, output = run("export", str(tmp_path), "-o", str(tmp_path / "file/x.ply"))
    assert code == 1 and "file/x.ply: cannot be written: " in output
    for words in ([], ["--compressed"]):
        assert run("export", str(tmp_path), "-o", str(tmp_path / "x.ply"), "--expression", "smile=1", *words)[0] == 0
        found = read_ply(tmp_path / "x.ply")
        assert len(found) == 50 and found.colors.shape == (50, 4, 3)
    assert not list(tmp_path.glob("*.tmp*"))


def test_differences_are_listed_by_name() -> None:
    assert differing({"a": 1, "b": 2}, {"b": 3, "c": 4}) == [("a", 1, None), ("b", 2, 3), ("c", None, 4)]
