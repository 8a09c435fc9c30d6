"""Cameras that filmed one sequence at the same time are fitted together: one identity, one pose of the head in the world."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from avatar_models.heads.procedural import procedural_head
from avatar_models.people import camera_for, film, make_person, perform, viewmats
from pipelines import tables
from pipelines.cache import Cache, Entry
from pipelines.catalog import catalog_table, probe_step, video_items
from pipelines.fanout import FanOutResult, Item, fan_out, run_and_assemble
from pipelines.params import Compute, Params, Preprocess, Source, Workers
from pipelines.preprocess import clip_items, preprocess_steps, together_step
from pipelines.preprocess.assemble import FIT, OBSERVE
from pipelines.preprocess.together import camera_groups, errors_of_steps, share_times, shared_steps
from pipelines.sources.nersemble import list_nersemble
from stages.preprocess import fit_groups
from tests.hostile import encode

SIZE, FRAMES, SEED, RATE = 256, 10, 5, 25
PLACES = {"1": -25.0, "2": 0.0, "3": 25.0, "4": 40.0}
FEWER = {"3": 7}  # frames of a camera that stopped early
Array = NDArray[np.float64]


def beside(degrees: float) -> Array:
    """(4, 4) from the frame of the camera in front, here the world's, to that of one turned about the head."""
    a, distance = np.radians(degrees), camera_for(SIZE)[1]
    viewmat = np.eye(4)
    viewmat[:3, :3] = [[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]
    viewmat[:3, 3] = (np.eye(3) - viewmat[:3, :3]) @ [0, 0, distance]
    return viewmat


@lru_cache
def in_world() -> Array:
    """The head's frame to the world (FRAMES, 4, 4)."""
    return viewmats(perform(SEED, FRAMES, RATE), camera_for(SIZE)[1])


def make_stage(folder: Path) -> Path:
    """A participant of three sequences.

    Of EMO, three cameras saw the face and one an empty stage; of EXP there are two cameras; of OFF, too, but one saw the face
    half a frame after the other.
    """
    person, performance, K = make_person(SEED), perform(SEED, FRAMES, RATE), camera_for(SIZE)[0]
    emo, exp, off = (folder / "018/sequences" / name / "images" for name in ("EMO", "EXP", "OFF"))
    for images in (emo, exp, off):
        images.mkdir(parents=True)
    empty = np.full((SIZE, SIZE, 3), 90, np.uint8)
    for serial in ("1", "2", "3"):
        views = beside(PLACES[serial]) @ in_world()
        shown = [film(person, performance, k, SIZE, views[k], K) for k in range(FEWER.get(serial, FRAMES))]
        encode(emo / f"cam_{serial}.mp4", shown, rate=RATE)
        if serial != "3":
            shutil.copy(emo / f"cam_{serial}.mp4", exp)
    encode(emo / "cam_4.mp4", [empty] * FRAMES, rate=RATE)
    shutil.copy(emo / "cam_1.mp4", off)
    late = [0, *(1000 * k // RATE + 500 // RATE for k in range(1, FEWER["3"]))]
    encode(off / "cam_3.mp4", [empty, *shown[1:]], rate=RATE, times=late)
    known = {serial: beside(degrees).tolist() for serial, degrees in PLACES.items()}
    (folder / "018/calibration").mkdir()
    (folder / "018/calibration/camera_params.json").write_text(
        json.dumps(
            {"world_2_cam": known, "intrinsics": (np.diag([2.0, 2, 1]) @ K).tolist(), "width": 2 * SIZE, "height": 2 * SIZE}
        )
    )
    return folder


class Project:
    """The stages catalog and preprocess over a folder of NeRSemble's, without DVC and MLflow."""

    def __init__(self, folder: Path, count: int) -> None:
        self.head, self.folder = procedural_head(), folder
        self.set_workers(count)
        videos = video_items(list_nersemble(folder / "raw").clips)
        self.catalog, _ = catalog_table(fan_out("catalog", [probe_step(self.compute)], videos, compute=self.compute))

    def set_workers(self, count: int) -> None:
        workers = Workers(num_cpus=0.5, count=count)
        self.compute = Compute(cache=str(self.folder / "cache"), max_attempts=2, decode=workers, fit=workers)
        options = Preprocess.model_validate({"gates": {"min_frames": 5}})
        source = Source(kind="nersemble", path=str(self.folder / "raw"), watch="x")
        self.params = Params(source=source, preprocess=options, compute=self.compute)

    @property
    def cache(self) -> Cache:
        return Cache(self.compute.cache)

    def together(self, groups: list[Item]) -> FanOutResult:
        """What becomes of groups, without tables."""
        step = together_step(self.params, self.head)
        return fan_out("fit_together", [step], groups, compute=self.compute)

    def groups(self, result: FanOutResult) -> list[Item]:
        return camera_groups(self.catalog, result)[0]

    def stage(self) -> tuple[FanOutResult, FanOutResult]:
        """What became of the clips and of the groups; the tables are in data/tracks."""
        step, items = together_step(self.params, self.head), clip_items(self.catalog, self.params.preprocess)

        def assemble(result: FanOutResult) -> FanOutResult:
            return fit_groups(step, self.groups(result), self.compute, result)[0]

        return run_and_assemble("preprocess", preprocess_steps(self.params), items, assemble, compute=self.compute)

    def written(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.folder / "data/tracks").iterdir())}

    def table(self, name: str) -> list[dict[str, Any]]:
        schema = {"tracks": tables.TRACKS, "identities": tables.IDENTITIES, "segments": tables.SEGMENTS}
        found = tables.read_table(self.folder / f"data/tracks/{name}.parquet", schema.get(name, tables.QUARANTINE))
        return list(found.to_pylist())

    def head_in_world(self, clip_id: str) -> Array:
        """The pose (N, 4, 4) that a clip's tracks mean."""
        rows = [row for row in self.table("tracks") if row["clip_id"] == clip_id]
        viewmat = np.array([row["viewmat"] for row in rows], np.float64).reshape(-1, 4, 4)
        return np.asarray(np.linalg.inv(beside(PLACES[clip_id[-1]])) @ viewmat)


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    import ray

    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=4, include_dashboard=False, object_store_memory=100_000_000, **quiet)
    yield
    ray.shutdown()


@dataclass(frozen=True)
class Finished:
    """A project whose stages have run once; not to be changed."""

    project: Project
    result: FanOutResult
    together: FanOutResult


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Finished:
    folder = tmp_path_factory.mktemp("together")
    make_stage(folder / "raw")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        project = Project(folder, 2)
        return Finished(project, *project.stage())


@pytest.fixture
def project(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The same in a folder of its own, with the same videos, to be changed."""
    shutil.copytree(finished.project.folder, tmp_path, dirs_exist_ok=True, ignore=lambda *_: ["raw"])
    monkeypatch.chdir(tmp_path)
    project = copy(finished.project)
    project.folder = tmp_path
    project.set_workers(1)
    return project


def test_the_head_is_one_for_all_cameras(finished: Finished) -> None:
    project, together = finished.project, finished.together
    members = {
        group.id: [member["clip_id"] for member in group.payload["members"]] for group in project.groups(finished.result)
    }
    emo = ["018-EMO-1", "018-EMO-2", "018-EMO-3"]
    assert members == {
        "018/EMO": emo,  # the fourth saw no face
        "018/EXP": ["018-EXP-1", "018-EXP-2"],
        "018/OFF": ["018-OFF-1", "018-OFF-3"],
    }
    assert sorted(together.entries) == ["018/EMO", "018/EXP"]

    identities = {row["clip_id"]: row["identity"] for row in project.table("identities")}
    assert identities[emo[0]] == identities[emo[1]] == identities[emo[2]] != identities["018-EXP-1"]
    poses = [project.head_in_world(clip) for clip in emo]
    assert [len(own) for own in poses] == [FRAMES, FRAMES, FEWER["3"]]
    for own in poses:
        np.testing.assert_allclose(own, poses[0][: len(own)], atol=2e-6)  # stored as float32
    assert np.linalg.norm(poses[0][:, :3, 3] - in_world()[:, :3, 3], axis=1).max() < 0.01
    expressions = [[row["expression"] for row in project.table("tracks") if row["clip_id"] == clip] for clip in emo]
    assert expressions[0] == expressions[1] and expressions[2] == expressions[0][: FEWER["3"]]


def test_the_tables_are_those_of_clips_fitted_by_themselves(finished: Finished) -> None:
    project, result = finished.project, finished.result
    segments = {row["clip_id"]: row for row in project.table("segments")}
    assert list(segments) == sorted(result.entries)
    (alone,), joint = result.entries["018-EMO-1"][FIT].summary["segments"], segments["018-EMO-1"]
    same = ("clip_id", "catalog_clip_id", "subject_id", "camera_id", "split", "frame_start", "frame_end", "num_frames", "fps")
    assert {name: joint[name] for name in same} == {name: alone[name] for name in same}
    assert joint["passed"] and joint["fingerprint"] != alone["fingerprint"]


def test_a_group_that_fails_is_told_and_its_clips_keep_their_own_fits(finished: Finished) -> None:
    project, result = finished.project, finished.result
    no_face, off = project.table("quarantine")
    assert (no_face["stage"], no_face["item"], no_face["reason"]) == ("preprocess", "018-EMO-4", "no_face")
    assert (off["stage"], off["item"], off["reason"]) == ("fit_together", "018/OFF", "no_shared_times")
    assert off["message"].startswith("2 cameras, each keeps the fit of its own: no two of its cameras took a picture")
    for clip in ("018-OFF-1", "018-OFF-3"):
        own = result.last(clip).read_table("tracks-0").to_pylist()
        assert [row for row in project.table("tracks") if row["clip_id"] == clip] == own


def test_nothing_is_done_twice_and_a_camera_that_moves_costs_its_group(project: Project) -> None:
    before = project.written()
    clips, groups = project.stage()
    assert clips.computed == groups.computed == set() and groups.cached == 2
    assert project.written() == before
    rows = project.catalog.to_pylist()
    for row in rows:
        if row["clip_id"] == "018-EXP-2":
            row["viewmat"][3] += 0.001
    project.catalog = pa.Table.from_pylist(rows, schema=tables.CATALOG)
    clips, groups = project.stage()
    assert (clips.computed, groups.computed) == (set(), {"018/EXP"})


def test_results_do_not_depend_on_the_number_of_workers(finished: Finished, project: Project) -> None:
    for entries in finished.together.entries.values():
        project.cache.forget(entries[0].key)
    _, together = project.stage()  # by one worker, where two had been
    assert together.computed == {"018/EMO", "018/EXP"} and project.written() == finished.project.written()


def damage(project: Project, entry: Entry, name: str) -> None:
    path = project.folder / "cache" / entry.key[:2] / entry.key / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_a_damaged_member_costs_its_group_and_no_other(finished: Finished, project: Project) -> None:
    member, groups = finished.result.entries["018-EXP-2"][OBSERVE], project.groups(finished.result)
    project.cache.forget(finished.together.last("018/EXP").key)
    damage(project, member, "landmarks-0")
    together = project.together(groups)
    assert sorted(together.entries) == ["018/EMO"]
    (failure,) = (failure for failure in together.quarantined if failure.item == "018/EXP")
    assert failure.reason == "damaged_entry" and "landmarks-0 of 018-EXP-2 is damaged (sha256" in failure.message
    project.cache.forget(member.key)
    (failure,) = (failure for failure in project.together(groups).quarantined if failure.item == "018/EXP")
    assert "what was observed of 018-EXP-2 is damaged (not there" in failure.message


def test_the_stage_mends_what_is_damaged(finished: Finished, project: Project) -> None:
    before = project.written()
    project.cache.forget(finished.together.last("018/EXP").key)
    damage(project, finished.result.entries["018-EXP-2"][OBSERVE], "landmarks-0")
    damage(project, finished.together.last("018/EMO"), "tracks-018-EMO-1-0")
    clips, groups = project.stage()
    assert clips.computed == {"018-EXP-2"} and sorted(groups.entries) == ["018/EMO", "018/EXP"]
    assert project.written() == before


def test_clips_of_one_camera_or_of_other_times_are_no_group(finished: Finished) -> None:
    result = deepcopy(finished.result)
    rows = [row for row in finished.project.catalog.to_pylist() if row["clip_id"] not in ("018-EXP-2", "018-OFF-3")]
    for row in rows:
        if row["clip_id"] == "018-OFF-1":
            row["K"] = row["viewmat"] = None  # no word about clips whose camera nobody claimed to know
    result.entries["018-EMO-1"][FIT].summary["spans"][:] = [[7.0, 8.0]]  # type: ignore[index]
    result.entries["018-EMO-2"][FIT].summary["spans"][:] = [[9.0, 9.5]]  # type: ignore[index]
    groups, alone = camera_groups(pa.Table.from_pylist(rows, schema=tables.CATALOG), result)
    assert groups == []
    assert alone == [
        "018/EMO: its 3 cameras saw the face at different times; each is fitted by itself",
        "018/EXP: one calibrated camera, 018-EXP-1, which is fitted by itself",
    ]


def test_frames_of_one_time_are_one_step() -> None:
    rng = np.random.default_rng(0)
    even = np.arange(2000) / 24.3  # no round number: rounding to a rate goes wrong in the long run
    there = rng.random((3, len(even))) < 0.9
    times = [even[own] + rng.uniform(-0.1, 0.1, own.sum()) / 24.3 for own in there]
    steps, found = shared_steps(times)
    filmed = np.flatnonzero(there.any(0))
    for own, mine in zip(steps, there, strict=True):
        np.testing.assert_array_equal(filmed[own], np.flatnonzero(mine))
    np.testing.assert_allclose(found, even[filmed], atol=0.1 / 24.3)


def test_frames_of_other_times_stay_apart() -> None:
    steps, times = shared_steps([np.array([0.0, 0.04, 0.08]), np.array([0.02, 0.06, 0.1])])
    assert [own.tolist() for own in steps] == [[0, 2, 4], [1, 3, 5]]
    np.testing.assert_allclose(times, np.arange(6) * 0.02)
    steps, _ = shared_steps([np.array([0.5]), np.array([0.5]), np.array([0.7])])
    assert [own.tolist() for own in steps] == [[0], [0], [1]]
    steps, _ = shared_steps([np.array([0.0, 0.001, 0.04]), np.array([0.04])])  # two frames of one camera are never one
    assert [own.tolist() for own in steps] == [[0, 1, 2], [2]]


def test_cameras_share_times_where_any_of_their_segments_overlap() -> None:
    assert share_times([[(0.0, 1.0), (3.0, 4.0)], [(1.5, 2.5)], [(3.5, 9.0)]])
    assert not share_times([[(0.0, 1.0), (3.0, 4.0)], [(1.5, 2.5)]])
    assert not share_times([[(0.0, 1.0), (0.5, 4.0)]])


def test_a_frame_is_judged_by_the_error_of_its_step() -> None:
    errors = [np.array([0.01, 0.02], np.float32), np.array([0.03, 0.5], np.float32), np.array([0.9], np.float32)]
    found = errors_of_steps(errors, [np.array([0, 1]), np.array([1, 2]), np.array([1])])
    assert [own.tolist() for own in found] == [pytest.approx([0.01, 0.02]), pytest.approx([0.03, 0.5]), pytest.approx([0.03])]


def test_a_bad_side_view_takes_no_front_view_away() -> None:
    front, side = errors_of_steps([np.array([0.02], np.float32), np.array([0.2], np.float32)], [np.array([0]), np.array([0])])
    assert front.tolist() == pytest.approx([0.02]) and side.tolist() == pytest.approx([0.11])
