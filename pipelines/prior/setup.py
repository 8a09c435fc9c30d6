"""A run of the prior before its first step: the same params give the same people, expressions and points in any process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar_models.heads.nphm.anchors import anchor_vertices
from avatar_models.heads.nphm.model import Nphm
from avatar_models.heads.nphm.sizes import SIZES
from avatar_models.heads.procedural import procedural_head
from pipelines.fleet.loader import read_ahead
from pipelines.fleet.loop import Place
from pipelines.heads import HeadError, read_model
from pipelines.params import TrainNphm
from pipelines.prior.evaluation import QUICK, fit_errors
from pipelines.prior.meshes import MeshScans, read_people, topology_of
from pipelines.prior.scans import LinearModel, LinearScans, RegisteredScans, draw, expressions_of, joined
from pipelines.prior.training import Batch, Prior, PriorTraining

NEUTRAL = 0
NEUTRAL_SHARE = 0.1
"""Of the scans, neutral ones beside those that chance brings."""
PROBED = 2
"""Unseen people that a probe fits."""
SCANS, PEOPLE, MIXTURES = range(3)
"""What a seed is used for, beside fits."""


@dataclass(frozen=True)
class PriorRun:
    """All that a process needs to take part."""

    options: TrainNphm
    scans: RegisteredScans  # of those who are trained on
    unseen: RegisteredScans  # other people, of linear heads with other mixtures of expressions
    training: PriorTraining

    def batches(self, steps: range, place: Place, threads: int) -> Iterator[Batch]:
        """This process's scans of each step."""
        wanted = (place.samples(step, self.options.batch) for step in steps)
        return read_ahead(self.read, wanted, threads)

    def read(self, samples: range) -> Batch:
        """The scans at places in the stream of samples; what is drawn follows from the place alone."""
        options = self.options
        read = []
        for sample in samples:
            random = np.random.default_rng((options.seed, SCANS, sample))
            person = int(random.integers(len(self.scans)))
            codes = self.scans.codes_of(person)
            expression = int(random.integers(len(codes)))
            if random.random() < NEUTRAL_SHARE:
                expression = NEUTRAL
            scan = draw(self.scans, person, expression, options.points, options.around, random)
            read.append((person, codes[expression], scan))
        people, expressions, scans = zip(*read, strict=True)
        return Batch(joined(scans), torch.tensor(people), torch.tensor(expressions))

    def probe(self) -> dict[str, float]:
        """How well unseen people's neutral faces are fitted, in a hurry: mean distance in mm."""
        people = range(min(PROBED, len(self.unseen)))
        errors = fit_errors(self.training.prior.model, self.unseen, people, [NEUTRAL], QUICK, self.options.seed)
        return {"unseen_mm": 1e3 * float(errors.mean())}

    def pictures(self) -> dict[str, bytes]:
        """None."""
        return {}


@dataclass(frozen=True)
class Recipe:
    """What a run is made of; plain values, so that it can be sent to other processes."""

    train_nphm: Mapping[str, Any]
    head_file: str

    def prepare(self, device: str) -> PriorRun:
        """Raises HeadError for a head, or scans, that cannot be had."""
        options = TrainNphm.model_validate(dict(self.train_nphm))
        scans, others = (mesh_scans if options.scans == "nphm" else linear_scans)(options, self.head_file)
        torch.manual_seed(options.seed)
        nphm = Nphm(SIZES[options.sizes](), scans.anchors.mean(0))
        prior = Prior(nphm, len(scans), scans.num_codes)
        return PriorRun(options, scans, others, PriorTraining(options, prior, device))


def linear_scans(options: TrainNphm, head_file: str) -> tuple[RegisteredScans, RegisteredScans]:
    """Made-up people of a linear head: to train on, and to judge by. Raises HeadError."""
    model = linear_model(options.scans, head_file)
    sizes = SIZES[options.sizes]()
    anchors = anchor_vertices(
        model.rig.template, model.skin, model.face, sizes.num_pairs, sizes.num_anchors - 2 * sizes.num_pairs
    )
    random = np.random.default_rng((options.seed, PEOPLE))
    identities = torch.from_numpy(random.normal(size=(options.people + options.unseen, len(model.rig.identity_basis))))
    known, unseen = identities.float().split([options.people, options.unseen])
    mixed = [np.random.default_rng((options.seed, MIXTURES, part)) for part in range(2)]
    scans = LinearScans(model, known, expressions_of(model, options.mixtures, mixed[0]), anchors)
    others = LinearScans(model, unseen, expressions_of(model, options.unseen, mixed[1]), anchors)
    return scans, others


def mesh_scans(options: TrainNphm, folder: str) -> tuple[RegisteredScans, RegisteredScans]:
    """NPHM's people: the first ones to train on, the last ones to judge by. Raises HeadError."""
    sizes = SIZES[options.sizes]()
    people = read_people(Path(folder))
    if len(people) <= options.unseen:
        raise HeadError(
            f"{folder} holds {len(people)} people with a neutral registration; {options.unseen} are wanted for judging"
        )
    known = people[: -options.unseen][: options.people]
    topology = topology_of(known)
    anchors = anchor_vertices(
        topology.template, torch.ones(len(topology.template), dtype=torch.bool), topology.front, sizes.num_pairs,
        sizes.num_anchors - 2 * sizes.num_pairs,
    )  # fmt: skip
    return MeshScans(topology, known, anchors), MeshScans(topology, people[-options.unseen :], anchors)


def linear_model(name: str, file: str) -> LinearModel:
    """The head whose people are scanned: procedural, or ict or flame from the user's file. Raises HeadError."""
    if name == "procedural":
        head = procedural_head()
        every = torch.full((head.num_expression,), head.one_sided)
        return LinearModel(head.rig, head.faces, head.masks["skin"], head.masks["face"], every)
    found = read_model(name, file)
    rig = found.rig.to(dtype=torch.float32)
    masks = found.masks
    one_sided = torch.tensor([name == "ict" or "eyelid" in expression for expression in found.expression_names])
    return LinearModel(rig, found.faces, masks["skin"], masks.get("face", masks["skin"]), one_sided)
