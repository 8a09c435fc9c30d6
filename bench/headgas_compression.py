"""What `headwater compress` does to trained avatars: bytes, and held-out frames before and after.

    python -m bench.headgas_compression PROJECT [SIZE [KEY=VALUE,KEY=VALUE ...]]

PROJECT is a folder with data/ and models/headgas of a `dvc repro`, SIZE the side of the pictures (default 128). Each further
word is a row of options, of features, rank and bits; without one it is those of the command. Aligned is in poses that were
moved to fit each avatar, as evaluate does it; "change" compares with the avatar's pictures before compression. One thread.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from avatar_models.avatar import BACKGROUNDS, Avatar, avatar_files, compressed_avatar_files, load_avatar, read_avatar
from avatar_models.headgas import HeadGas, Smaller, smaller
from avatar_models.metrics import psnr
from pipelines.evaluation import evenly, load_some, measured, pictures, render_aligned, render_shots
from pipelines.methods import HEADGAS
from pipelines.params import load_params
from pipelines.subject import Shots, read_tables, subject_clips

JUDGED = 12
"""Held-out frames of each subject, evenly spread."""


@dataclass(frozen=True)
class Judged:
    """Of an avatar on a subject's held-out frames."""

    psnr: float
    aligned: float
    shown: torch.Tensor  # (T, 3, S, S) in the tracked poses


def judge(avatar: Avatar, shots: Shots, level: float, align_steps: int) -> Judged:
    shown = render_shots(avatar, shots.camera, shots.conditions, level)
    both, wanted = (shown, render_aligned(avatar, shots, level, align_steps)), pictures(shots, level)
    tracked, aligned = (float(measured(made, wanted, shots.mattes, shots.judged)["psnr"].mean()) for made in both)
    return Judged(tracked, aligned, shown)


def written(files: dict[str, bytes]) -> tuple[int, Avatar]:
    """(bytes, the avatar as it is read back)."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        return sum(map(len, files.values())), load_avatar(Path(folder))[0]


def options_of(word: str) -> Smaller:
    """Such as features=4,rank=0."""
    return Smaller(**{key: int(value) for key, _, value in (change.partition("=") for change in word.split(",") if change)})


def main() -> None:
    os.chdir(Path(sys.argv[1]))
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 128
    torch.set_num_threads(1)
    params, data = load_params(), read_tables()
    subjects = {}
    for folder in sorted(path.parent for path in HEADGAS.models.glob("*/avatar.json")):
        method, tensors, facts = read_avatar(folder)
        clips = subject_clips(data, folder.name, params.catalog.test_fraction)
        shots = load_some(data, evenly([(clip.clip_id, clip.held_out) for clip in clips], JUDGED), size)
        assert shots is not None, f"{folder.name}: no held-out frame passed the gates"
        level = BACKGROUNDS[facts["background"]]
        count, avatar = written(avatar_files(method, tensors, facts))
        before = judge(avatar, shots, level, params.evaluate.align_steps)
        subjects[folder.name] = HeadGas.from_tensors(tensors, facts["sizes"]), facts, shots, level, count, before
    print(f"{'':30} {'':8}     bytes   after   times  held out   after   aligned  after   change: mean  largest")
    for word in sys.argv[3:] or [""]:
        rows = []
        for name, (model, facts, shots, level, count, before) in subjects.items():
            made, codings = smaller(model, options_of(word))
            files = compressed_avatar_files("headgas", made.tensors(), {**facts, "sizes": made.sizes_as_dict()}, codings)
            small, avatar = written(files)
            after = judge(avatar, shots, level, params.evaluate.align_steps)
            apart = float(psnr(after.shown, before.shown).mean()), float((after.shown - before.shown).abs().max())
            rows.append([count, small, before.psnr, after.psnr, before.aligned, after.aligned, *apart])
            show(word, name, rows[-1])
        show(word, "mean", list(np.mean(rows, 0)))


def show(word: str, name: str, row: list[float]) -> None:
    count, small, before, after, before_aligned, after_aligned, apart, largest = row
    file = f"{count:10,.0f} {small:9,.0f} {count / small:6.1f}"
    psnrs = f"{before:.2f}   {after:.2f}     {before_aligned:.2f}   {after_aligned:.2f}"
    print(f"{word or 'as the command':30} {name:8} {file}     {psnrs}     {apart:.1f} dB    {largest:.3f}", flush=True)


if __name__ == "__main__":
    main()
