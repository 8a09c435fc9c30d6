"""How a stage ends when something goes wrong: one line, a status, and a word about old outs only where there are some."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.main import INTERRUPTED, run_stage
from pipelines.params import ParamsError
from pipelines.stage_state import load_stage_state, stage_state

ROOT = Path(__file__).resolve().parents[2]
TOOLS = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def stop() -> None:
    with stage_state("catalog"):
        raise KeyboardInterrupt


def refuse() -> None:
    raise ParamsError("params.yaml: no")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.chdir(tmp_path)


def ended(main: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    with pytest.raises(SystemExit) as caught:
        run_stage(main)  # type: ignore[arg-type]
    assert isinstance(caught.value.code, int)
    return caught.value.code, capsys.readouterr().err.splitlines()


def test_ctrl_c_is_told_in_one_line_and_in_the_state(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(stop, capsys) == (
        INTERRUPTED,
        ["stopped by Ctrl-C: what is finished is kept, and `dvc repro` goes on from there"],
    )
    state = load_stage_state("catalog")
    assert state is not None and state.error == "stopped by Ctrl-C"


def test_an_expected_error_is_told_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(refuse, capsys) == (1, ["error: params.yaml: no"])


def test_a_stage_that_never_ran_has_no_old_outs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "catalog")
    assert ended(refuse, capsys)[1] == ["error: params.yaml: no"]


def test_old_outs_are_spoken_of_where_dvc_has_them(tmp_path: Path) -> None:
    """Once in the project that made them, and in a clone, which has dvc.lock but no outs."""
    (tmp_path / "one/a").mkdir(parents=True)
    (tmp_path / "one/do.py").write_text(
        "from pathlib import Path\n"
        "from pipelines.main import run_stage\n"
        "from pipelines.params import ParamsError\n"
        "def main():\n"
        "    if Path('wrong').exists(): raise ParamsError('no')\n"
        "    Path('out').mkdir(); Path('out/x').write_text('1')\n"
        "run_stage(main)\n"
    )
    (tmp_path / "one/dvc.yaml").write_text("stages: {make: {cmd: python do.py, deps: [a], outs: [out]}}")

    def dvc(folder: str, *words: str) -> str:
        command = [sys.executable, "-m", "dvc", *words]
        done = subprocess.run(
            command, cwd=tmp_path / folder, env=os.environ | TOOLS, capture_output=True, text=True, timeout=120
        )
        return done.stdout + done.stderr

    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "one", check=True)
    dvc("one", "init", "-q")
    assert "error" not in dvc("one", "repro")
    shutil.copytree(tmp_path / "one", tmp_path / "clone", ignore=shutil.ignore_patterns("cache", "tmp", "out"))
    for folder, told in (("one", True), ("clone", False)):
        (tmp_path / folder / "wrong").touch()
        (tmp_path / folder / "a/changed").touch()
        said = dvc(folder, "repro")
        assert "error: no" in said and ("old outs away" in said) is told, said


def test_a_program_that_gets_sigint_ends_with_130_and_without_a_traceback(tmp_path: Path) -> None:
    program = "import time\nfrom pipelines.main import run_stage\nrun_stage(lambda: (print('on', flush=True), time.sleep(60)))"
    words = [sys.executable, "-c", program]
    stage = subprocess.Popen(words, env=os.environ | TOOLS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert stage.stdout is not None and stage.stdout.readline() == "on\n"
    stage.send_signal(signal.SIGINT)
    said = stage.communicate(timeout=60)[1]
    assert stage.returncode == INTERRUPTED and said.startswith("stopped by Ctrl-C") and "Traceback" not in said
