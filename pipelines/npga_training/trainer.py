"""The item function of the train_npga stage: one subject's avatar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avatar_models.avatar import avatar_files, condition_names
from avatar_models.heads.nphm.forward_storage import read_forward
from avatar_models.heads.nphm.storage import read_nphm
from avatar_models.heads.nphm.surface import SurfaceError
from avatar_models.model_folder import TENSORS
from pipelines.atomic import sha256_file
from pipelines.cache import Entry, EntryWriter
from pipelines.devices import reserved_device
from pipelines.fanout import Item, ItemRejected
from pipelines.fleet.trainer import train_here
from pipelines.npga_training.setup import NpgaRun, Parts, judged, parts_of, prepare
from pipelines.params import Fleet, TrainNpga
from pipelines.subject import NPHM_TRACKS_FOLDER, read_tables, subject_identity
from pipelines.training import TrainingDiverged, camera_as_dict

VERSION = 3
METHOD = "npga"


class NpgaTrainer:
    """Trains one subject per call. Raises ModelError where prior or field cannot be read or do not belong together."""

    def __init__(
        self, params: Mapping[str, Any], checkpoint_every: int, prior: Path, forward: Path, root: Path = Path()
    ) -> None:
        self.options = TrainNpga.model_validate({**params["train_npga"], "checkpoint_every": checkpoint_every})
        self.test_fraction = float(params["test_fraction"])
        self.stored, self.forward = read_nphm(prior), read_forward(forward)
        self.forward.expect_prior(sha256_file(prior / TENSORS), forward)
        self.stored.model.eval().requires_grad_(False)
        self.data = read_tables(root, NPHM_TRACKS_FOLDER)

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        parts = parts_of(self.data, item.id, self.options, self.test_fraction)
        try:
            run = prepare(self.options, parts, self.stored.model, self.forward, item.id, reserved_device())
            train_here(run, out, Fleet(num_cpus=1.0))
        except SurfaceError as error:
            raise ItemRejected("no_surface", f"subject {item.id}: {error}") from None
        except TrainingDiverged as error:
            raise ItemRejected("diverged", str(error)) from None
        return self.write(item.id, run, parts, out)

    def write(self, subject: str, run: NpgaRun, parts: Parts, out: EntryWriter) -> dict[str, Any]:
        """Writes the avatar and its curve; returns the entry's summary."""
        training, shots = run.training, parts.train
        identity, middle = subject_identity(self.data, shots.clip_ids[0]), len(shots) // 2
        expressions = self.stored.model.sizes.expression_code
        facts = {
            "subject_id": subject,
            "head": identity["head"],
            "head_hash": identity["head_hash"],
            "sizes": training.model.sizes.as_dict(),
            "condition_names": list(condition_names(tuple(f"code_{number}" for number in range(expressions)))),
            "neutral": [round(value, 6) for value in shots.conditions.mean(0).tolist()],
            "camera": camera_as_dict(shots.camera[middle : middle + 1]),
            "background": self.options.background,
        }
        for name, data in avatar_files(METHOD, training.model.tensors(), facts).items():
            out.write_bytes(name, data)
        out.write_bytes("curve.json", json.dumps(training.curve).encode())
        for name, data in run.pictures().items():
            out.write_bytes(name, data)
        figures: dict[str, Any] = {"frames": len(shots), "steps": training.step, "gaussians": len(training.model.mu)}
        if parts.held_out is None:
            return figures
        made = judged(training, parts.held_out)
        return figures | {
            "held_out_psnr": round(made.psnr(made.refined), 4),
            "held_out_ssim": round(made.ssim(made.refined), 4),
            "held_out_raw_psnr": round(made.psnr(made.raw), 4),
            "held_out_frames": len(parts.held_out),
        }
