"""Where a run's result comes from: git commit, dvc.lock, dataset digests, packages, model files."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipelines.atomic import sha256_file
from pipelines.dotted import flatten
from pipelines.keys import digest
from pipelines.params import load_params
from pipelines.yaml_files import read_yaml

CODE = (".py", ".npz", ".html")  # what the packages compute with
PACKAGES = (
    "torch",
    "numpy",
    "gsplat",
    "numba",
    "ray",
    "mediapipe",
    "decord",
    "av",
    "opencv-contrib-python",
    "pyarrow",
    "dvc",
    "mlflow",
)


@dataclass(frozen=True)
class DatasetDigest:
    """A path that DVC tracks and the digest in dvc.lock."""

    path: str
    digest: str


def git_commit() -> tuple[str, bool]:
    """(commit, whether the work tree differs from it); an empty commit outside of git or before the first commit."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit, bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (subprocess.CalledProcessError, FileNotFoundError):
        return "", False


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()


@cache
def code_digests() -> dict[str, str]:
    """sha256 of the sources of each of the project's packages: two runs from changed work trees differ here."""
    import avatar_models
    import pipelines

    folders = {Path(module.__file__ or "").parent for module in (avatar_models, pipelines)} | {Path("stages")}
    found = {}
    for folder in folders:
        paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.suffix in CODE)
        found[folder.name] = digest([(str(path), sha256_file(folder / path)) for path in paths])
    return found


def dvc_lock_digest() -> str:
    """sha256 of dvc.lock as it is now; empty where there is none."""
    path = Path("dvc.lock")
    return sha256_file(path) if path.exists() else ""


def tracked_outs() -> dict[str, str]:
    """Path -> digest of every out in dvc.lock."""
    stages = locked_stages()
    return {out["path"]: out.get("md5", "") for stage in stages.values() for out in stage.get("outs", [])}


def stage_inputs(stage: str) -> list[DatasetDigest]:
    """The datasets that a stage reads: its dependencies in dvc.yaml, with the digests that dvc.lock has for them."""
    outs = tracked_outs()
    declared = read_yaml(Path("dvc.yaml"))["stages"].get(stage, {}).get("deps", []) if Path("dvc.yaml").exists() else []
    paths = [_filled_in(path) for path in declared if not path.endswith(".py")]
    locked = {dep["path"]: dep.get("md5", "") for dep in locked_stages().get(stage, {}).get("deps", [])}
    return [DatasetDigest(path, outs.get(path) or locked.get(path, "")) for path in paths]


def _filled_in(path: str) -> str:
    """A path of dvc.yaml with its ${block.key} replaced by the value in params.yaml."""
    values = flatten(load_params().model_dump(mode="json")) if "$" in path else {}
    return re.sub(r"\$\{([\w.]+)\}", lambda found: str(values[found[1]]), path)


def locked_stages() -> dict[str, Any]:
    """The stages of dvc.lock; empty where there is none."""
    path = Path("dvc.lock")
    return (read_yaml(path) or {}).get("stages", {}) if path.exists() else {}


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


@cache
def detector_hashes() -> dict[str, str]:
    """sha256 of the model files in the mediapipe wheel that detection and matting load."""
    import importlib.util

    spec = importlib.util.find_spec("mediapipe")
    if spec is None or spec.origin is None:
        return {}
    modules = Path(spec.origin).parent / "modules"
    names = (
        "face_detection/face_detection_short_range.tflite",
        "face_detection/face_detection_full_range_sparse.tflite",
        "face_landmark/face_landmark_with_attention.tflite",
        "selfie_segmentation/selfie_segmentation.tflite",
    )
    return {Path(name).stem: sha256_file(modules / name) for name in names if (modules / name).exists()}
