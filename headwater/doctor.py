"""Looks at the machine and the project: what works, what does not, what to do."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.params import Params, ParamsError, load_params

MIN_FREE_GB = 5.0
MIN_INODES = 100_000
MIN_MEMORY_GB = 6.0
State = Literal["ok", "warn", "fail"]
MEND_PARAMS = "mend that line; `git checkout params.yaml` would mend it too, but your own values are lost then"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: State
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Runs every check; a check that itself breaks is a finding too. What params.yaml names is looked at if it can be read."""
    findings = [tried(check.__name__, check) for check in CHECKS]
    try:
        params = load_params()
    except ParamsError as error:
        return [*findings, Finding("params.yaml", "fail", str(error), MEND_PARAMS)]
    findings.append(Finding("params.yaml", "ok", f"source {params.source.kind} at {params.source.path}"))
    return findings + [tried(check.__name__, partial(check, params)) for check in CHECKS_OF_PARAMS]


def tried(name: str, check: Callable[[], Finding]) -> Finding:
    """What a check finds, or that it broke."""
    try:
        return check()
    except Exception as error:
        advice = "install again: make install" if isinstance(error, ImportError) else "mend what the message names"
        return Finding(name, "fail", f"{type(error).__name__}: {error}", advice)


def show(console: Console, findings: list[Finding]) -> None:
    table = Table("", "what", "found", "what to do")
    marks = {"ok": "[green]ok[/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]fail[/red]"}
    for finding in findings:
        table.add_row(marks[finding.state], *(escape(words) for words in (finding.what, finding.found, finding.advice)))
    console.print(table)


def python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info[:2] == (3, 11)
    return Finding(
        "Python",
        "ok" if good else "fail",
        found,
        "" if good else "Headwater runs on Python 3.11: make install PYTHON=python3.11",
    )


def torch_and_cuda() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("torch", "ok", f"{torch.__version__}, {torch.cuda.get_device_name()}")
    return Finding("torch", "ok", f"{torch.__version__}, no CUDA device: the CPU kernels are used")


def gsplat() -> Finding:
    import torch

    from avatar_models.splatting.cuda import why_no_cuda_code
    from pipelines.devices import WITHOUT_GSPLAT

    try:
        found = version("gsplat")
    except PackageNotFoundError:
        return Finding(
            "gsplat",
            "fail" if torch.cuda.is_available() else "warn",
            "not installed",
            "needed on CUDA: pip install gsplat==1.5.3",
        )
    if not torch.cuda.is_available():
        return Finding("gsplat", "ok", f"{found}, not used without CUDA")
    if why := why_no_cuda_code():
        return Finding("gsplat", "fail", f"{found} cannot draw: {why}", WITHOUT_GSPLAT)
    return Finding("gsplat", "ok", found)


def ray() -> Finding:
    from pipelines.cluster import check_answers

    importlib.import_module("ray")
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return Finding("Ray", "ok", f"{version('ray')}, starts on this machine (RAY_ADDRESS is not set)")
    try:
        check_answers(address)
    except OSError as error:
        return Finding("Ray", "fail", f"RAY_ADDRESS={address}: {error}", "start the cluster (docs/cluster.md), or unset it")
    return Finding("Ray", "ok", f"{version('ray')}, cluster {address}")


def video_codecs() -> Finding:
    import av

    missing = [name for name in ("libx264", "h264", "hevc", "vp9") if name not in av.codecs_available]
    if missing:
        return Finding("ffmpeg in PyAV", "fail", f"without {', '.join(missing)}", "pip install --force-reinstall av")
    return Finding("ffmpeg in PyAV", "ok", f"{version('av')}, H.264, HEVC and VP9")


def decord() -> Finding:
    importlib.import_module("decord")
    return Finding("decord", "ok", version("decord"))


def detector() -> Finding:
    from headwater.assets import DETECTOR, REINSTALL, is_intact

    bad = [asset.name for asset in DETECTOR if not is_intact(asset)]
    return Finding(
        "mediapipe models",
        "fail" if bad else "ok",
        f"missing or changed: {', '.join(bad)}" if bad else f"all {len(DETECTOR)} in the wheel, as they should be",
        REINSTALL if bad else "",
    )


def repository() -> Finding:
    if not Path("dvc.yaml").exists():
        return Finding("project", "fail", f"no dvc.yaml in {Path.cwd()}", "run this in the project's folder")
    if not Path(".dvc").is_dir():
        return Finding("project", "fail", "no DVC repository here", "git init && dvc init")
    return Finding("project", "ok", "dvc.yaml and .dvc are here")


def source(params: Params) -> Finding:
    watch = params.source.watch
    if "://" in watch:
        return Finding("source.watch", "ok", watch)
    path = Path(watch)
    if not path.exists():
        return Finding(
            "source.watch",
            "fail",
            f"{path} does not exist",
            f"mkdir -p {path} and put videos in, or change source in params.yaml",
        )
    if path.is_dir() and not any(path.iterdir()):
        return Finding("source.watch", "fail", f"{path} is empty", "put videos in, one person per file or sub-folder")
    unreadable = (
        [str(found) for found in path.rglob("*") if not found.is_dir() and not readable(found)] if path.is_dir() else []
    )
    if unreadable:
        advice = "DVC stops at what it cannot hash: take it out, or name a small list of your own in source.watch"
        return Finding("source.watch", "fail", f"cannot be read: {', '.join(unreadable[:3])}", advice)
    return Finding("source.watch", "ok", str(path))


def readable(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return os.access(path, os.R_OK)


def head(params: Params) -> Finding:
    from pipelines.heads import HeadError, read_model

    name, file = params.preprocess.head, params.preprocess.head_file
    if name != "procedural":
        try:
            read_model(name, file)
        except HeadError as error:
            return Finding(
                "head", "fail", str(error), "docs/tracking.md says where its file is to be had; procedural needs none"
            )
    return Finding("head", "ok", f"{name} {file}".strip() if name != "procedural" else name)


def landmarker(params: Params) -> Finding:
    from avatar_models.tracking.landmarker_file import LandmarkerError
    from pipelines.preprocess import landmarker_hash

    file = params.preprocess.landmarker_file
    try:
        found = landmarker_hash(file)[:12] if file else ""
    except LandmarkerError as error:
        return Finding(
            "landmarker", "fail", str(error), "docs/tracking.md says where it is to be had; without one FaceMesh is used"
        )
    return Finding("landmarker", "ok", f"{file}, sha256 {found}" if file else "FaceMesh, in the mediapipe wheel")


def tracking(params: Params) -> Finding:
    from pipelines.tracking import SQLITE, TrackingUnreachable, connect, tracking_uri

    uri = tracking_uri(params)
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        return Finding("MLflow", "ok", f"{uri.removeprefix(SQLITE)}, made by the first run")
    try:
        connect(params)
    except TrackingUnreachable as error:
        return Finding("MLflow", "fail", str(error), "start the server, or unset MLFLOW_TRACKING_URI")
    return Finding("MLflow", "ok", uri)


def disk() -> Finding:
    return room("disk", Path())


def disk_of_cache(params: Params) -> Finding:
    what, cache = "disk of compute.cache", params.compute.cache
    if "://" in cache:
        return Finding(what, "ok", f"{cache}: an object store")
    path = Path(cache).absolute()
    return room(what, next(folder for folder in (path, *path.parents) if folder.is_dir()))


def room(what: str, folder: Path) -> Finding:
    """Whether there is room for files, and for their number, where a folder lies."""
    free, inodes = shutil.disk_usage(folder).free / 1e9, os.statvfs(folder)
    if inodes.f_files and inodes.f_favail < MIN_INODES:
        advice = "a clip takes about ten files in the cache; make room, or point compute.cache elsewhere"
        return Finding(what, "warn", f"{inodes.f_favail} inodes free", advice)
    good = free >= MIN_FREE_GB
    return Finding(
        what,
        "ok" if good else "warn",
        f"{free:.1f} GB free",
        "" if good else "a frame takes about 50 kB twice: in the cache and in the outs",
    )


def shared_memory() -> Finding:
    from pipelines.cluster import OBJECT_STORE_BYTES

    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("/dev/shm", "warn", "absent", "Ray falls back to /tmp, which is slower")
    free = shutil.disk_usage(folder).free
    good = free >= OBJECT_STORE_BYTES
    return Finding(
        "/dev/shm",
        "ok" if good else "warn",
        f"{free / 1e9:.1f} GB free",
        "" if good else f"Ray wants {OBJECT_STORE_BYTES / 1e9:.1f} GB; in a container: --shm-size=1g",
    )


def memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available / 1e9
    good = free >= MIN_MEMORY_GB
    return Finding(
        "memory",
        "ok" if good else "warn",
        f"{free:.1f} GB available",
        "" if good else "lower compute.decode.count or preprocess.frame_buffer_mb",
    )


CHECKS: tuple[Callable[[], Finding], ...] = (
    python, torch_and_cuda, gsplat, ray, video_codecs, decord, detector, repository, disk, shared_memory, memory,
)  # fmt: skip
CHECKS_OF_PARAMS: tuple[Callable[[Params], Finding], ...] = (source, head, landmarker, tracking, disk_of_cache)
