"""Judging avatars: held-out frames (self-reenactment), and one subject's expressions on another's avatar.

An item is a subject, or a pair "target<driver". In self-reenactment the made pictures are compared with the frames themselves.
In cross-reenactment no picture is wanted: an avatar should move like the driver, and look like its own person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from avatar_models.avatar import BACKGROUNDS, Avatar, load_avatar
from avatar_models.cameras import Camera
from avatar_models.face_embedding import FaceEmbedder
from avatar_models.lpips import Lpips, load_lpips
from avatar_models.reenactment import Footage, Likeness, Tracked, landmarks_of, likeness_to, reenactment_figures, track_known
from pipelines.cache import Entry, EntryWriter
from pipelines.csim_asset import CsimFile, csim_assets, csim_file
from pipelines.devices import reserved_device
from pipelines.evaluation import (
    FIGURES,
    LPIPS,
    PAIR,
    ClipRows,
    compared,
    distances,
    driven_camera,
    evenly,
    first,
    load_some,
    measured,
    nearest_frames,
    panel,
    pictures,
    prefixed,
    render_aligned,
    render_shots,
    still,
    store_video,
)
from pipelines.faces import FACE_COLUMNS, as_bytes, cross_columns, cross_means, face_columns, face_means, footage_of, rounded
from pipelines.fanout import Item, ItemRejected, Step, Work
from pipelines.lpips_asset import LpipsFiles, lpips_assets, lpips_files
from pipelines.methods import Method
from pipelines.params import Params
from pipelines.splits import ClipSplit
from pipelines.subject import TRACKS_FOLDER, Shots, clip_tracks, read_tables, subject_clips, subject_identity

VERSION = 9
COMPARED = 400
"""Training frames among which the nearest is looked for."""
DRIVERS_KEPT = 16
"""Drivers of whom a worker remembers what it has seen of their frames, 0.6 MB for each hundred."""

METRICS_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("subject_id", "driver_id", "clip_id")),
        ("frame", pa.int64()),
        *((name, pa.float32()) for name in (*FIGURES, *LPIPS, *FACE_COLUMNS)),
    ],
    metadata={"headwater.table": "evaluation", "headwater.version": "3"},
)
"""Of each frame of a subject, and of each of a pair, where `driver_id` is another. Clip and frame are the driver's."""


class JudgeAvatar:
    """Evaluates one subject or one pair per call."""

    def __init__(
        self,
        method: Method,
        params: Mapping[str, Any],
        lpips_files: LpipsFiles | None = None,
        csim_file: CsimFile | None = None,
    ) -> None:
        self.method = method
        self.lpips_files, self.csim_file = lpips_files, csim_file
        self.test_fraction = float(params["test_fraction"])
        self.max_frames = int(params["max_frames"])
        self.size = int(params["resolution"])
        self.align_steps = int(params["align_steps"])
        self.level = BACKGROUNDS[params["background"]]
        self.fits = read_tables()  # of the linear head, by which all faces are looked at, and whose neck ends what is judged
        self.data = self.fits if method.tracks == TRACKS_FOLDER else read_tables(tracks=method.tracks)
        self.head = self.fits.head()
        self.device = reserved_device()
        self.seen: dict[str, Tracked] = {}
        torch.set_num_threads(1)

    @cached_property
    def lpips(self) -> Lpips | None:
        """Read with the first subject; pairs need none."""
        return load_lpips(self.lpips_files.vgg16, self.lpips_files.linear).to(self.device) if self.lpips_files else None

    @cached_property
    def embedder(self) -> FaceEmbedder | None:
        return self.csim_file.load() if self.csim_file else None

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        target, _, driver = item.id.partition(PAIR)
        avatar, facts = load_avatar(self.method.models / target, self.device)
        if driver:
            return self.cross(avatar, facts, target, driver, out)
        return self.own(avatar, target, out)

    def own(self, avatar: Avatar, subject: str, out: EntryWriter) -> dict[str, Any]:
        """Figures of each held-out frame, and a video: input, avatar, error."""
        held_out = self.held_out(subject)
        if held_out is None:
            raise ItemRejected("no_held_out_frames", f"subject {subject}: none of its held-out frames passed the gates")
        known = self.trained_on(subject)
        wanted = pictures(held_out, self.level)
        made = render_shots(avatar, held_out.camera, held_out.conditions, self.level, self.device)
        aligned = render_aligned(avatar, held_out, self.level, self.align_steps, self.device)
        nearest = nearest_frames(held_out, known)
        copied, both = pictures(known, self.level)[nearest], held_out.judged & known.judged[nearest]
        figures: dict[str, Any] = {
            **measured(made, wanted, held_out.mattes, held_out.judged),
            **prefixed("aligned", measured(aligned, wanted, held_out.mattes, held_out.judged)),
            **prefixed("baseline", measured(copied, wanted, held_out.mattes, both)),
        }
        if self.lpips is not None:
            figures |= distances(self.lpips, {"lpips": made, "aligned_lpips": aligned}, wanted, held_out.judged)
        filmed = self.footage(subject, wanted, held_out.camera)
        meant = self.meant(subject, filmed)
        likeness = None if self.embedder is None else likeness_to(self.embedder, filmed.pictures, meant.points)
        # What is not judged is as wanted, as in all other figures.
        shown = torch.where(torch.from_numpy(held_out.judged)[:, None], made, wanted)
        faces = reenactment_figures(replace(filmed, pictures=as_bytes(shown)), meant, self.head, likeness)
        out.write_table("metrics", rows_of(subject, subject, held_out, {**figures, **face_columns(faces)}))
        store_video(out, "video.mp4", compared(wanted, made), self.data.segments, held_out.clip_ids[0])
        out.write_bytes("still.png", still(wanted, made))
        means = {name: rounded(float(np.mean(values))) for name, values in figures.items()}
        return means | self.asked_for(face_means(faces))

    def cross(self, avatar: Avatar, facts: Mapping[str, Any], target: str, driver: str, out: EntryWriter) -> dict[str, Any]:
        """Figures of each of the driver's held-out frames, and a video: the driver's input, and the target's avatar with the
        driver's expression and head rotation.
        """
        shots = self.held_out(driver)
        if shots is None:
            raise ItemRejected("no_held_out_frames", f"driver {driver}: none of its held-out frames passed the gates")
        head = clip_tracks(self.data.tracks, shots.clip_ids[0]).head
        if head != facts["head"]:
            raise ItemRejected("other_head", f"driver {driver} was tracked with head {head}, the avatar with {facts['head']}")
        driven = replace(shots, camera=driven_camera(facts["camera"], shots.camera, self.size))
        filmed = pictures(shots, self.level)
        made = render_shots(avatar, driven.camera, shots.conditions, self.level, self.device)
        meant = self.meant(driver, self.footage(driver, filmed, shots.camera))
        likeness = None if self.embedder is None else self.likeness_across(self.embedder, target, driven)
        faces = reenactment_figures(self.footage(target, made, driven.camera), meant, self.head, likeness)
        out.write_table("metrics", rows_of(target, driver, shots, cross_columns(faces)))
        panels = (np.concatenate([panel(w), panel(m)], 1) for w, m in zip(filmed, made, strict=True))
        store_video(out, "video.mp4", panels, self.data.segments, shots.clip_ids[0])
        return {"frames": len(shots), **self.asked_for(cross_means(faces))}

    def held_out(self, subject: str) -> Shots | None:
        """The subject's last frames, which judge it and by which it drives others; None where none passed the gates."""
        return self.load(first([(clip.clip_id, clip.held_out) for clip in self.clips(subject)], self.max_frames))

    def trained_on(self, subject: str) -> Shots:
        """Some of the frames that the subject's avatar was trained on, spread over all of them."""
        known = self.load(evenly([(clip.clip_id, clip.train) for clip in self.clips(subject)], COMPARED))
        assert known is not None  # it was trained
        return known

    def clips(self, subject: str) -> list[ClipSplit]:
        return subject_clips(self.data, subject, self.test_fraction)

    def load(self, rows: ClipRows) -> Shots | None:
        """Frames that all methods are judged on alike: the linear head's neck ends them."""
        return load_some(self.data, rows, self.size, self.fits.tracks)

    def footage(self, subject: str, shown: torch.Tensor, camera: Camera) -> Footage:
        """Pictures (T, 3, S, S) of the subject; whose head it is, the fit to its first clip says."""
        clip_id = self.clips(subject)[0].clip_id
        return footage_of(shown, camera, subject_identity(self.fits, clip_id)["identity"])

    def meant(self, driver: str, filmed: Footage) -> Tracked:
        """What is seen of a driver's held-out frames, which are the same whomever they drive: they are looked at once."""
        if driver not in self.seen:
            while len(self.seen) >= DRIVERS_KEPT:
                del self.seen[next(iter(self.seen))]
            self.seen[driver] = track_known(filmed, self.head)
        return self.seen[driver]

    def likeness_across(self, embed: FaceEmbedder, target: str, driven: Shots) -> Likeness:
        """To the target's own frames: for each driven one, that whose pose and expression are nearest."""
        known = self.trained_on(target)
        chosen, place = np.unique(nearest_frames(driven, known), return_inverse=True)
        own = as_bytes(pictures(known, self.level)[torch.from_numpy(chosen)])
        found = likeness_to(embed, own, landmarks_of(own))
        return replace(found, vectors=found.vectors[place])

    def asked_for(self, means: dict[str, float | None]) -> dict[str, float | None]:
        """The means without CSIM where it is off: what is null has no face."""
        return {name: value for name, value in means.items() if name != "csim" or self.embedder is not None}


def rows_of(subject: str, driver: str, shots: Shots, columns: Mapping[str, Any]) -> pa.Table:
    """Rows of METRICS_SCHEMA for the driver's frames; a figure that is NaN or not among the columns is null."""
    count = len(shots)
    columns = {
        "subject_id": [subject] * count,
        "driver_id": [driver] * count,
        "clip_id": shots.clip_ids,
        "frame": shots.frames,
        **dict.fromkeys((*FIGURES, *LPIPS, *FACE_COLUMNS), [None] * count),
        **columns,
    }
    arrays = {field.name: pa.array(columns[field.name], field.type, from_pandas=True) for field in METRICS_SCHEMA}
    return pa.table(arrays, METRICS_SCHEMA)


def judging_step(name: str, worker: Callable[..., Work], method: Method, params: Params) -> Step:
    """A step of a worker like JudgeAvatar. Where LPIPS's and CSIM's files lie stays out of the key; their content is in it."""
    trained = method.options(params)
    options = {
        "test_fraction": params.catalog.test_fraction,
        "max_frames": params.evaluate.max_frames,
        "align_steps": params.evaluate.align_steps,
        "resolution": trained.resolution,
        "background": trained.background,
    }
    judge = partial(worker, method, lpips_files=lpips_files(params), csim_file=csim_file(params.evaluate))
    assets = lpips_assets(params) | csim_assets(params.evaluate)
    return Step(name, VERSION, judge, options, params.compute.render, assets)
