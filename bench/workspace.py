"""A throw-away project in a temporary folder, so that a benchmark never touches the user's data.

It holds the repository's dvc.yaml, stages and params.yaml, its own git and DVC, and a folder of videos as source.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.dotted import set_dotted

ROOT = Path(__file__).resolve().parent.parent
SHARED_CLIPS = ROOT.parent / "shared" / "clips"
BIN = Path(sys.executable).parent
NEURAL_HEADS_OFF = {
    "train_nphm.steps": 0, "track_nphm.subjects": [], "distill_forward.steps": 0, "train_npga.steps": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Finished:
    """One finished command: its exit status, what it printed and how long it took in seconds."""

    status: int
    output: str
    seconds: float

    def lines_with(self, text: str) -> list[str]:
        return [line for line in self.output.splitlines() if text in line]


@dataclass(frozen=True)
class Workspace:
    folder: Path

    @property
    def videos(self) -> Path:
        return self.folder / "data" / "raw"

    def add_videos(self, paths: Iterable[Path]) -> None:
        self.videos.mkdir(parents=True, exist_ok=True)
        for path in paths:
            shutil.copy(path, self.videos / path.name)

    def cast(self, people: list[dict[str, Any]]) -> None:
        """Writes a recipe of made-up people."""
        (self.folder / "people.yaml").write_text(yaml.safe_dump({"people": people}))

    def set_params(self, changes: Mapping[str, Any]) -> None:
        """Sets dotted keys of params.yaml, e.g. {"train_headgas.steps": 100}."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for dotted, value in changes.items():
            set_dotted(params, dotted, value)
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def command(self, *words: str) -> subprocess.Popen[str]:
        """Starts a command in the workspace, in a process group of its own, with this Python's tools on the PATH."""
        env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
        log = (self.folder / "command.log").open("w")
        return subprocess.Popen(words, cwd=self.folder, env=env, stdout=log, stderr=log, text=True, start_new_session=True)

    def run(self, *words: str) -> Finished:
        start = time.perf_counter()
        status = self.command(*words).wait()
        return Finished(status, (self.folder / "command.log").read_text(), time.perf_counter() - start)

    def run_stages(self, *stages: str) -> None:
        """Runs stages one by one, whether or not those before them changed, and prints their minutes; exits where one fails."""
        for stage in stages:
            run = self.run("dvc", "repro", "--single-item", stage)
            if run.status:
                sys.exit(run.output)
            print(f"{stage}: {run.seconds / 60:.1f} minutes", flush=True)

    def repro(self, *targets: str) -> Finished:
        return self.run("dvc", "repro", *targets)

    def digests(self) -> dict[str, str]:
        """sha256 of every file that the stages wrote, by path relative to the workspace."""
        outs = ["data/catalog", "data/frames", "data/tracks", "data/evaluation", "models", "metrics", "plots", "report"]
        files = (path for out in outs for path in sorted((self.folder / out).rglob("*")) if path.is_file())
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.name != ".gitignore"
        }


def make_workspace(folder: Path, changes: Mapping[str, Any] | None = None) -> Workspace:
    """Makes an empty project in folder that reads videos from its data/raw, with params.yaml changed as given.

    Neural heads and their avatars are off, as in all profiles but the demo's.
    """
    folder.mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("stages", "pipelines", "demo", "profiles", "sweeps"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    workspace = Workspace(folder)
    source = {"source.kind": "folder", "source.path": "data/raw", "source.watch": "data/raw"}
    workspace.set_params({**source, **NEURAL_HEADS_OFF, **(changes or {})})
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for words in (
        ["git", "init", "-q"],
        [str(BIN / "dvc"), "init", "-q"],
        ["git", "add", "-A"],
        [*git, "commit", "-qm", "start"],
    ):
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
    for key in ("core.analytics", "core.check_update"):
        subprocess.run([BIN / "dvc", "config", "-q", key, "false"], cwd=folder, check=True, capture_output=True)
    return workspace


def kept_workspace(folder: Path, changes: Mapping[str, Any], fill: Callable[[Workspace], object]) -> Workspace:
    """The project in folder, with params.yaml changed as given; made, and filled with what it reads, where there is none."""
    if folder.exists():
        workspace = Workspace(folder)
        workspace.set_params(changes)
    else:
        workspace = make_workspace(folder, changes)
        fill(workspace)
    return workspace


MADE_UP = {"source": {"kind": "procedural", "path": "people.yaml", "watch": "people.yaml"}}
"""What a project of made-up people changes; :meth:`Workspace.cast` writes the recipe."""


def named_changes(words: Iterable[str]) -> dict[str, Any]:
    """PARAMETER=VALUE of a command line."""
    return {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in words)}


def real_clips() -> list[Path]:
    """The real clips beside the repository; exits with a clear word where there are none."""
    clips = sorted(SHARED_CLIPS.glob("*.mp4"))
    if not clips:
        sys.exit(f"no real clips in {SHARED_CLIPS}: put some head videos there to run this benchmark")
    return clips


def cut_clip(source: Path, target: Path, frames: int, first: int = 0) -> None:
    """Re-encodes a range of frames of a video, so that a benchmark's clips are short."""
    import av

    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = reader.streams.video[0]
        out = writer.add_stream("libx264", rate=stream.average_rate)
        out.width, out.height, out.pix_fmt = stream.width // 2 * 2, stream.height // 2 * 2, "yuv420p"
        for index, frame in enumerate(reader.decode(stream)):
            if index < first:
                continue
            if index >= first + frames:
                break
            picture = frame.reformat(width=out.width, height=out.height, format="yuv420p")
            picture.pts = index - first
            picture.time_base = 1 / stream.average_rate
            writer.mux(out.encode(picture))
        writer.mux(out.encode(None))
