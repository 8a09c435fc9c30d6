"""A run before its first step, in whichever process: the same params and tables give the same model, rig and frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from avatar_models.gagavatar import FIXED, GAGAvatar
from avatar_models.gagavatar.sizes import SIZES, VARIANTS
from avatar_models.gagavatar.storage import load_backbone, read_model
from avatar_models.heads.interface import Head
from avatar_models.metrics import psnr_inside
from avatar_models.model_folder import ModelError
from avatar_models.perceptual import STAGES, load_vgg16
from pipelines.fanout import ItemRejected
from pipelines.fleet.loader import read_ahead
from pipelines.fleet.loop import Place
from pipelines.oneshot.pairs import Batch, ColorJitter, Frames, Pairs, frames_of
from pipelines.oneshot.people import train_and_test
from pipelines.oneshot.stream import pairs_of
from pipelines.oneshot.training import OneshotTraining
from pipelines.params import TrainOneshot
from pipelines.png import png_bytes
from pipelines.splits import spread, subjects_that_passed
from pipelines.subject import Tables, read_tables
from pipelines.training import PROGRESS, as_bytes

OF_A_FRESH_MODEL = ("sizes", "variant", "max_vertices")
"""Options that mean nothing where training starts from another run's model."""
PROBED = 6
"""Test subjects at most whose first frame is driven by another while training goes on."""


def for_training(data: Tables) -> Tables:
    """Without the clips that are for judging alone."""
    return replace(data, segments=data.segments.filter(pc.not_equal(data.segments["split"], "test")))


@dataclass(frozen=True)
class Setup:
    """All that a process needs to take part."""

    options: TrainOneshot
    data: Tables
    pairs: Pairs
    """What is trained on."""
    probed: Pairs | None
    watched: list[tuple[int, int]]
    """The pairs of `probed` that are rendered now and then."""
    training: OneshotTraining
    chosen: Tensor  # (V,) vertices of the head that carry Gaussians

    def batches(self, steps: range, place: Place, threads: int) -> Iterator[Batch]:
        """This process's pairs of each step."""
        options = self.options
        wanted = pairs_of(steps, options.batch, self.pairs.frames, options.seed, place)
        return read_ahead(self.pairs.batch, wanted, threads)

    def probe(self) -> dict[str, float]:
        """Mean PSNR in dB over the watched pairs, as they are rendered and of the photo itself; pictures are kept."""
        if self.probed is None:
            return {}
        batch = self.probed.batch(self.watched).to(self.training.device)
        made = self.training.rendered(batch)
        new = [made] if self.training.shown else [batch.photos, batch.targets, made]
        self.training.shown.extend(map(column_of, new))
        return {
            "held_out_psnr": float(psnr_inside(made, batch.targets, batch.known.float()).mean()),
            "copy_psnr": float(psnr_inside(batch.photos, batch.targets, batch.known.float()).mean()),
        }

    def pictures(self) -> dict[str, bytes]:
        """A PNG, a row per watched subject: photo, target, and what was made at each probe."""
        shown = self.training.shown
        return {PROGRESS: png_bytes(torch.cat(shown, 1).numpy())} if shown else {}


def column_of(pictures: Tensor) -> Tensor:
    """Pictures (T, 3, S, S) in [0, 1], one below the other: (T S, S, 3) uint8."""
    return torch.cat([as_bytes(picture) for picture in pictures])


@dataclass(frozen=True)
class Recipe:
    """What a setup is made of; plain values, so that it can be sent to other processes."""

    train_oneshot: Mapping[str, Any]
    perceptual_weights: str
    root: str

    def prepare(self, device: str) -> Setup:
        """Raises ParamsError where nobody can be trained on, ItemRejected where they have no pairs of frames, and for weights
        or crops that do not fit."""
        options = TrainOneshot.model_validate(dict(self.train_oneshot))
        data = read_tables(Path(self.root))
        train, test = train_and_test(subjects_that_passed(data.segments), options.test_subjects)
        head = data.head()
        torch.manual_seed(options.seed)
        try:
            model, chosen = first_model(options, head)
        except ModelError as error:
            raise ItemRejected("other_weights", str(error)) from None
        features = load_vgg16(Path(self.perceptual_weights), STAGES).to(device) if self.perceptual_weights else None
        training = OneshotTraining(options, model, head.rig.take(chosen), device, features)
        frames, unseen = frames_of(for_training(data), train), frames_of(data, test)
        if len(frames) == 0:
            raise ItemRejected("no_training_frames", "no training subject has a clip with two good frames")
        size, jitter = model.sizes.image_size, ColorJitter(options.color_jitter, options.seed)
        pairs = Pairs(frames, data.frames, size, jitter)
        probed = Pairs(unseen, data.frames, size) if len(unseen) else None
        subjects = dict(zip(data.segments["clip_id"].to_pylist(), data.segments["subject_id"].to_pylist(), strict=True))
        watched = probed_pairs(unseen, subjects)
        # All that is read of the tracks is in the columns.
        return Setup(options, replace(data, tracks=data.tracks.schema.empty_table()), pairs, probed, watched, training, chosen)


def first_model(options: TrainOneshot, head: Head) -> tuple[GAGAvatar, Tensor]:
    """The model before training, and the vertices (V,) that carry its Gaussians: fresh, with DINOv2's weights, or another
    run's. Raises ModelError where that one was made for another head."""
    if options.start_from:
        stored = read_model(Path(options.start_from))
        stored.expect_head(head.name, head.hash(), f"train_oneshot.start_from {options.start_from}")
        if stored.facts.get("frozen_backbone"):
            stored.model.encoder.vit.requires_grad_(False)
        return stored.model, stored.vertices
    chosen = spread_vertices(head, options.max_vertices)
    model = GAGAvatar(VARIANTS[options.variant](SIZES[options.sizes](len(chosen))), FIXED)
    if options.backbone_weights:
        load_backbone(model.encoder, Path(options.backbone_weights))
    return model, chosen


def spread_vertices(head: Head, most: int) -> Tensor:
    """At most so many vertices (V,) of a head, spread evenly over its surface: each is the one farthest from those before."""
    places = head.rig.template.double().numpy()
    if len(places) <= most:
        return torch.arange(len(places))
    chosen = [0]
    distance = np.full(len(places), np.inf)
    for _ in range(most - 1):
        distance = np.minimum(distance, np.square(places - places[chosen[-1]]).sum(1))
        chosen.append(int(distance.argmax()))
    return torch.tensor(sorted(chosen))


def probed_pairs(frames: Frames, subjects: Mapping[str, str]) -> list[tuple[int, int]]:
    """(first frame, a later one) of the first clip of some subjects; `subjects` are the clips'."""
    first_clips = {subjects[name]: clip for clip, name in reversed(list(enumerate(frames.clip_ids)))}
    clips = [first_clips[subject] for subject in sorted(first_clips)]
    chosen = spread(np.array(clips, np.int64), PROBED).tolist() if clips else []
    return [(int(frames.first[clip]), int(frames.first[clip] + 2 * frames.first[clip + 1]) // 3) for clip in chosen]
