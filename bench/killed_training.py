"""SIGKILL of a process that trains an avatar, at random moments: does what is resumed end with the same bytes?

    python -m bench.killed_training [KILLS [SEED]]

A tiny made-up subject; Gaussians are cloned, split and pruned, poses are corrected, backgrounds and noise are random. Each
run is killed once, at a random step and a random moment after it began, then started again and left to end.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from avatar_models.avatar import TENSORS, avatar_files, track_condition
from avatar_models.cameras import Camera, resized
from avatar_models.heads.procedural import procedural_head
from avatar_models.people import camera_for, film, make_person, perform, viewmats
from pipelines.atomic import write_bytes_atomic
from pipelines.params import Density, TrainHeadgas
from pipelines.subject import Shots
from pipelines.training import Training

PERSON, FRAMES, SIDE, STEPS, SAVE_EVERY = 3, 6, 48, 200, 25
AT_MOST_AFTER = 0.03
"""Seconds after a step was announced within which the process is killed: about a step's time, or a save's."""
OPTIONS = TrainHeadgas(
    steps=STEPS, num_gaussians=300, feature_dim=4, hidden_dim=8, resolution=SIDE, sh_warmup=0.3, probes=2,
    background="random", condition_noise=0.05,
    density=Density(start=0.1, stop=0.9, every=10, gradient=4e-3, max_gaussians=3000, prune_opacity=0.05, decay=0.9),
)  # fmt: skip


def made_up_shots(person: int, frames: int, side: int) -> Shots:
    """Frames of a made-up person, tracked without error, filmed at twice the side."""
    wide, performance = 2 * side, perform(person, frames, 8.0)
    K, distance = camera_for(wide)
    views, actor = viewmats(performance, distance), make_person(person)
    images = np.stack([film(actor, performance, k, wide, views[k], K)[::2, ::2] for k in range(frames)])
    camera = Camera(torch.tensor(K).repeat(frames, 1, 1).float(), torch.tensor(views).float(), wide, wide)
    conditions = torch.from_numpy(track_condition(performance.expression, performance.jaw, performance.eyes))
    mattes, known = np.full((frames, side, side), 255, np.uint8), np.ones((frames, side, side), np.bool_)
    return Shots(images, mattes, known, known, resized(camera, side, side), conditions, ["clip"] * frames, np.arange(frames))


class Announced(Training):
    """Says each step that it begins."""

    def one_step(self) -> dict[str, float]:
        print(self.step, flush=True)
        return super().one_step()


def train(folder: Path) -> None:
    """Trains to the end, from the folder's checkpoint where there is one; leaves the digest of all that was learned."""
    torch.set_num_threads(1)
    shots, identity = made_up_shots(PERSON, FRAMES, SIDE), torch.from_numpy(make_person(PERSON).identity)
    run = Announced(OPTIONS, shots, procedural_head(), identity, "cpu", held_out=shots)
    run.run(folder / "checkpoint.pt", SAVE_EVERY)
    counts = [int(point["gaussians"]) for point in run.curve]
    facts = {"gaussians": counts, "turned": float(run.poses.twists[:, :3].norm(dim=1).max())}
    parts = (
        avatar_files("headgas", run.model.tensors(), {})[TENSORS],
        *(value.numpy().tobytes() for value in run.poses.state_dict().values()),
        json.dumps(run.curve).encode(),
        run.progress_picture(),
    )
    found = {"sha256": hashlib.sha256(b"".join(parts)).hexdigest(), **facts}
    write_bytes_atomic(folder / "result.json", json.dumps(found).encode())


def start(folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "bench.killed_training", "train", str(folder)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def kill_at(process: subprocess.Popen[str], step: int, after: float) -> bool:
    """Kills a training some seconds after it began a step; whether it was still at it."""
    assert process.stdout is not None
    while int(process.stdout.readline()) < step:
        pass
    time.sleep(after)
    process.kill()
    process.stdout.close()
    return process.wait() < 0


def finish(folder: Path) -> tuple[int, dict[str, object]]:
    """Trains to the end: (the step that it went on from, the result)."""
    process = start(folder)
    said = process.communicate()[0].splitlines()
    if process.returncode:
        raise SystemExit(f"training in {folder} ended with status {process.returncode}")
    return int(said[0]), json.loads((folder / "result.json").read_text())


def main() -> None:
    words = sys.argv[1:]
    kills, seed = (int(word) for word in (*words, *("20", "0")[len(words) :]))
    drawn = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        _, wanted = finish(Path(scratch) / "undisturbed")
        print(f"undisturbed: sha256 {str(wanted['sha256'])[:16]}; Gaussians {wanted['gaussians']}, ", end="")
        print(f"poses turned by up to {wanted['turned']:.4f} radians")
        same = 0
        for number in range(kills):
            folder = Path(scratch) / f"killed-{number}"
            step, after = drawn.randrange(STEPS), drawn.uniform(0, AT_MOST_AFTER)
            was_at_it = kill_at(start(folder), step, after)
            resumed_at, found = finish(folder)
            same += found == wanted
            told = "same" if found == wanted else f"OTHER, sha256 {str(found['sha256'])[:16]}"
            when = f"{1000 * after:4.1f} ms after step {step:3} began" if was_at_it else "too late: it had ended"
            print(f"kill {number + 1:2}: {when}, went on from {resumed_at:3}: {told}", flush=True)
    print(f"{same} of {kills} killed runs ended with the bytes of the undisturbed one")
    sys.exit(same != kills)


if __name__ == "__main__":
    train(Path(sys.argv[2])) if sys.argv[1:2] == ["train"] else main()
