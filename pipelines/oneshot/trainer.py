"""The item function of the train_oneshot stage: one model of all subjects, in this process or in several of Ray Train's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from avatar_models.gagavatar.storage import model_files
from avatar_models.metrics import psnr_inside
from pipelines.cache import Entry, EntryWriter
from pipelines.devices import has_bfloat16
from pipelines.fanout import Item, ItemRejected
from pipelines.news import News
from pipelines.oneshot.loader import read_ahead
from pipelines.oneshot.loop import CURVE_EVERY, Hooks, Place, run
from pipelines.oneshot.profiling import profiled
from pipelines.oneshot.ray_train import FleetTooLarge, reading_threads, train_on_fleet
from pipelines.oneshot.setup import Recipe, Setup, device_here
from pipelines.oneshot.stream import pairs_of
from pipelines.oneshot.training import OneshotTraining, read_state
from pipelines.params import Fleet
from pipelines.png import png_bytes
from pipelines.schedule import probe_steps
from pipelines.training import TrainingDiverged, as_bytes

VERSION = 2
PROGRESS = "progress.png"
CHECKPOINT = "checkpoint.pt"


@dataclass
class Watch:
    """Renders held-out pairs of unseen people now and then, and tells what is new."""

    setup: Setup
    news: News
    told: int = 0
    pictures: list[Tensor] = field(default_factory=list)

    def probe(self) -> dict[str, float]:
        """Mean PSNR in dB over a pair of each watched test subject; a picture is kept."""
        if self.setup.probed is None:
            return {}
        batch = self.setup.probed.batch(self.setup.watched).to(self.setup.training.device)
        made = self.setup.training.rendered(batch)
        if not self.pictures:
            self.pictures += [batch.photos.cpu(), batch.targets.cpu()]
        self.pictures.append(made.cpu())
        return {
            "held_out_psnr": float(psnr_inside(made, batch.targets, batch.known.float()).mean()),
            "copy_psnr": float(psnr_inside(batch.photos, batch.targets, batch.known.float()).mean()),
        }

    def picture(self) -> bytes:
        """A PNG, a row per watched subject: photo, target, and what was made at each probe."""
        strip = torch.cat([torch.cat(list(column), 1) for column in self.pictures], 2)  # (3, rows S, columns S)
        return png_bytes(as_bytes(strip.clamp(0, 1)).numpy())

    def tell(self) -> None:
        """News of the curve since the last time."""
        training = self.setup.training
        now = training.curve[-1]
        said = f"step {training.step} of {training.options.steps}, loss {now['loss']:.3g}"
        files = {PROGRESS: self.picture()} if "held_out_psnr" in now else {}
        self.news.tell(said, [dict(point) for point in training.curve[self.told :]], files)
        self.told = len(training.curve)


class OneshotTrainer:
    """Trains the model. One item, one actor. `storage` is where Ray Train's checkpoints lie: a folder or URI of all nodes."""

    def __init__(self, params: Mapping[str, Any], recipe: Recipe, fleet: Fleet, storage: str) -> None:
        self.recipe, self.fleet, self.storage = recipe, fleet, storage

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        setup = self.recipe.prepare(device_here())
        if len(setup.frames) == 0:
            raise ItemRejected("no_training_frames", "no training subject has a clip with two good frames")
        if setup.options.precision == "bfloat16" and not has_bfloat16(setup.training.device):
            raise ItemRejected("no_bfloat16", "this processor has no bfloat16 (AVX-512): set train_oneshot.precision: float32")
        watch = Watch(setup, out.news)
        try:
            self.train(setup, watch, out)
        except (TrainingDiverged, FleetTooLarge) as error:  # trying again changes nothing
            raise ItemRejected("diverged" if isinstance(error, TrainingDiverged) else "no_room", str(error)) from None
        return write(setup, watch, out)

    def train(self, setup: Setup, watch: Watch, out: EntryWriter) -> None:
        if self.fleet.count == 1:
            train_here(setup, watch, out, self.fleet)
        else:
            state = train_on_fleet(self.recipe, self.fleet, self.storage, out.key, out.news)
            setup.training.load_state(state)
            setup.training.curve[-1].update(watch.probe())


def train_here(setup: Setup, watch: Watch, out: EntryWriter, fleet: Fleet) -> None:
    """Trains in this process, from the checkpoint on where there is one."""
    training = setup.training
    resume(training, out.kept(CHECKPOINT))

    def save() -> None:
        out.keep(CHECKPOINT, training.checkpoint())

    with profiled(fleet.profile_steps, out.news) as step:
        hooks = Hooks(mean=lambda terms: terms, step=step, point=watch.tell, checkpoint=save, probe=watch.probe)
        steps_through(setup, Place(), hooks, reading_threads(fleet.num_cpus))


def steps_through(setup: Setup, place: Place, hooks: Hooks, threads: int) -> None:
    """Trains from the step that is reached to the last, as one of several processes."""
    options, frames = setup.options, setup.frames
    steps = range(setup.training.step, options.steps)
    wanted = pairs_of(steps, options.batch, frames, options.seed, place.rank, place.world)
    probes = probe_steps(options.probes, options.steps, CURVE_EVERY)
    run(setup.training, read_ahead(setup.pairs, wanted, threads), place, hooks, probes)


def resume(training: OneshotTraining, checkpoint: bytes | None) -> None:
    """Goes on from a checkpoint where there is one; one that cannot be read (a power cut) is passed over."""
    if checkpoint is None:
        return
    try:
        state = read_state(checkpoint, training.device)
    except MemoryError:  # the machine's fault: what was learned is still there
        raise
    except Exception as error:  # torch's reader raises whatever the damage leads it to
        print(f"the checkpoint cannot be read ({type(error).__name__}); training starts over", flush=True)
        return
    training.load_state(state)


def write(setup: Setup, watch: Watch, out: EntryWriter) -> dict[str, Any]:
    """Writes the averaged model, the curve and the picture; returns the entry's summary."""
    training = setup.training
    identity = setup.data.identities.slice(0, 1).to_pylist()[0]
    facts = {
        "head": identity["head"],
        "head_hash": identity["head_hash"],
        "options": training.options.model_dump(mode="json", exclude={"backbone_weights", "start_from"}),
        "frames": len(setup.frames),
        "clips": len(setup.frames.clip_ids),
        "perceptual_loss": training.features is not None,
        "frozen_backbone": not any(weight.requires_grad for weight in training.model.encoder.vit.parameters()),
    }
    for name, data in model_files(training.average, setup.chosen, facts).items():
        out.write_bytes(name, data)
    out.write_bytes("curve.json", json.dumps(training.curve).encode())
    if watch.pictures:
        out.write_bytes(PROGRESS, watch.picture())
    last = training.curve[-1]
    figures: dict[str, Any] = {name: round(last[name], 4) for name in ("loss", "held_out_psnr", "copy_psnr") if name in last}
    return {**figures, "steps": training.step, "frames": len(setup.frames), "clips": len(setup.frames.clip_ids)}
