"""Neural heads of a subject's clips: tables like those of preprocess, with cameras in the neural head's frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_models.heads.nphm.storage import Codebooks, nphm_files
from avatar_models.rotations import axis_angle_to_matrix
from pipelines import tables
from pipelines.atomic import sha256_file
from pipelines.cache import Cache
from pipelines.fanout import FanOutResult, ItemRejected
from pipelines.nphm_tracks.assemble import with_verdict, write_tracks
from pipelines.nphm_tracks.items import tracking_items, tracking_step, wanted_items
from pipelines.params import Params, ParamsError, Source, TrackNphm
from pipelines.subject import NPHM_PRIOR, NPHM_TRACKS_FOLDER, TRACKS_FOLDER, clip_tracks, read_tables
from tests.avatar_models.heads.nphm.faceted import SIZES, faceted, on_surface
from tests.in_process import do_all
from tests.pipelines.nphm_tracks.project import CAMERAS, CLIPS, FIRST, IN_WORLD, SEQUENCE, STEPS, SUBJECT, K, make_project

TURN = axis_angle_to_matrix(torch.tensor([[0.02, -0.05, 0.03]]))[0].double().numpy()  # of the stone in the linear head's frame
MOVE = np.array([0.004, -0.003, 0.005])


def write_cloud(file: Path, points: np.ndarray) -> None:
    """A binary PLY with the header that COLMAP writes, and a face behind the points, as mesh programs add them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    names = ("x", "y", "z", "red", "green", "blue")
    kinds = [(name, "<f4" if name in "xyz" else "u1") for name in names]
    rows = np.zeros(len(points), kinds)
    for axis, name in enumerate("xyz"):
        rows[name] = points[:, axis]
    properties = [f"property {'float' if name in 'xyz' else 'uchar'} {name}" for name in names]
    last = ["element face 1", "property list uchar int vertex_indices", "end_header\n"]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}", *properties, *last]
    file.write_bytes("\n".join(header).encode() + rows.tobytes() + b"\x03" + np.arange(3, dtype="<i4").tobytes())


def stone(step: int) -> np.ndarray:
    """Points (800, 3) of the prior's own head at rest codes, in the calibrated cameras' world."""
    still = torch.zeros(1, SIZES.identity_code)
    points = on_surface(faceted(), still, torch.zeros(1, SIZES.expression_code), 800)[0].double().numpy()
    in_linear = points @ TURN.T + MOVE
    return in_linear @ IN_WORLD[step, :3, :3].T + IN_WORLD[step, :3, 3]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_project(tmp_path_factory.mktemp("project"))
    (root / NPHM_PRIOR).mkdir(parents=True)
    codes = Codebooks(*(torch.zeros(1, size) for size in (SIZES.identity_code, SIZES.identity_code, SIZES.expression_code)))
    for name, data in nphm_files(faceted(), codes, {"head": "procedural"}).items():
        (root / NPHM_PRIOR / name).write_bytes(data)
    for step in range(STEPS - 1):
        write_cloud(root / "clouds" / SUBJECT / SEQUENCE / f"{step:05d}.ply", stone(step))
    return root


def params(**changes: object) -> Params:
    options = TrackNphm.model_validate({"key_frames": 2, **changes})
    return Params(source=Source(kind="procedural", path="x", watch="x"), track_nphm=options)


def tracked(project: Path, cache: Path, wanted: Params) -> FanOutResult:
    return do_all("track_nphm", [tracking_step(wanted, project)], tracking_items(wanted, project), cache)


@pytest.fixture(scope="module")
def of_files(project: Path, tmp_path_factory: pytest.TempPathFactory) -> FanOutResult:
    wanted = params(clouds="files", cloud_files=str(project / "clouds"))
    result = tracked(project, tmp_path_factory.mktemp("cache"), wanted)
    write_tracks(result, 1, project)
    return result


def test_the_tables_put_the_users_clouds_on_the_neural_head(project: Path, of_files: FanOutResult) -> None:
    data, model = read_tables(project, NPHM_TRACKS_FOLDER), faceted()
    for number, clip in enumerate(CLIPS):
        rows = clip_tracks(data.tracks, clip)
        assert rows.frames.tolist() == list(range(FIRST.get(clip, 0), STEPS)) and rows.head == "nphm"
        np.testing.assert_allclose(rows.K, np.tile(K.astype(np.float32), (len(rows.K), 1, 1)))
        assert not rows.conditions[:, SIZES.expression_code :].any()  # no jaw, no eyes
        for row, frame in enumerate(rows.frames.tolist()):
            if frame == STEPS - 1:
                continue  # it has no file
            in_camera = stone(frame) @ CAMERAS[number][:3, :3].T + CAMERAS[number][:3, 3]
            view = rows.viewmat[row].astype(np.float64)
            in_head = torch.from_numpy((in_camera - view[:3, 3]) @ view[:3, :3]).float()[None]
            codes = model.zero_codes(1)
            codes.geometry.copy_(torch.tensor(data.identities["identity"][number].as_py()))
            codes.expression.copy_(torch.from_numpy(rows.conditions[row, : SIZES.expression_code]))
            assert model.sdf(in_head, codes).abs().mean() < 0.0007


def test_cameras_that_saw_the_same_share_the_heads_pose_and_codes(project: Path, of_files: FanOutResult) -> None:
    data = read_tables(project, NPHM_TRACKS_FOLDER)
    first, last = clip_tracks(data.tracks, CLIPS[0]), clip_tracks(data.tracks, CLIPS[2])
    np.testing.assert_array_equal(first.conditions[1:], last.conditions)
    poses = [np.linalg.inv(CAMERAS[k]) @ rows.viewmat for k, rows in ((0, first), (2, last))]
    np.testing.assert_allclose(poses[0][1:], poses[1], atol=1e-5)


def test_a_frame_without_a_cloud_is_not_read_by_training(project: Path, of_files: FanOutResult) -> None:
    data = read_tables(project, NPHM_TRACKS_FOLDER)
    rows = data.tracks.to_pylist()
    assert [row["good"] for row in rows] == [row["frame"] < STEPS - 1 for row in rows]
    assert of_files.last(SUBJECT).summary["without_cloud"] == 1
    assert data.segments["num_good"].to_pylist() == [2, 2, 1] and all(data.segments["passed"].to_pylist())
    assert data.segments["clip_id"].to_pylist() == list(CLIPS)


def test_a_second_run_leaves_the_same_bytes(project: Path, of_files: FanOutResult, tmp_path: Path) -> None:
    wanted = params(clouds="files", cloud_files=str(project / "clouds"))
    again = tracked(project, tmp_path, wanted).last(SUBJECT)
    assert again.files == of_files.last(SUBJECT).files


def test_heads_that_do_not_fit_are_left_out(project: Path, tmp_path: Path) -> None:
    """A stone is no head: what the views show is centimetres off."""
    result = tracked(project, tmp_path, params(clouds="views"))
    summary = result.last(SUBJECT).summary
    assert summary["misfit_mm"] > 2.5 and summary["without_cloud"] == 0 and summary["alone"] == []
    assert not any(row["num_good"] for row in summary["segments"])


@pytest.mark.parametrize(
    ("spoil", "reason", "says"),
    [
        (lambda folder: None, "no_clouds", "none of 3 time steps has a cloud of 200 points"),
        (lambda folder: write_cloud(folder / "1.ply", np.zeros((199, 3))), "no_clouds", "none of 3"),
        (lambda folder: (folder.mkdir(parents=True), (folder / "1.ply").write_bytes(b"ply\n")), "bad_cloud", "1.ply"),
    ],
)
def test_clouds_that_say_nothing_are_named(
    project: Path, tmp_path: Path, spoil: Callable[[Path], object], reason: str, says: str
) -> None:
    (tmp_path / "clouds").mkdir()
    spoil(tmp_path / "clouds" / SUBJECT / SEQUENCE)
    wanted = params(clouds="files", cloud_files=str(tmp_path / "clouds"))
    (item,) = tracking_items(wanted, project)
    step = tracking_step(wanted, project)
    with pytest.raises(ItemRejected, match=says) as caught:
        step.worker(step.params)(item, None, Cache(str(tmp_path / "cache")).writer("0"))
    assert caught.value.reason == reason


def test_what_the_clouds_say_is_in_the_key_and_where_they_lie_is_not(project: Path, tmp_path: Path) -> None:
    (tmp_path / "moved").symlink_to(project / "clouds")
    wanted = [params(clouds="files", cloud_files=str(folder)) for folder in (project / "clouds", tmp_path / "moved")]
    first, second = ((tracking_items(one, project)[0].fingerprint, tracking_step(one, project).params) for one in wanted)
    assert first == second and "cloud_files" not in first[1]
    write_cloud(tmp_path / "other" / SUBJECT / SEQUENCE / "0.ply", stone(0))
    assert tracking_items(params(clouds="files", cloud_files=str(tmp_path / "other")), project)[0].fingerprint != first[0]
    assert tracking_step(wanted[0], project).assets == {"nphm": sha256_file(project / NPHM_PRIOR / "model.safetensors")}


def test_without_a_prior_nobody_is_tracked_and_the_tables_are_empty(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    assert tracking_items(params(), root) == []
    write_tracks(FanOutResult("track_nphm", []), 1, root)
    assert read_tables(root, NPHM_TRACKS_FOLDER).tracks.schema.equals(tables.TRACKS)


def test_clouds_that_are_not_there_are_named(project: Path) -> None:
    with pytest.raises(ParamsError, match="track_nphm.cloud_files 'nowhere'"):
        tracking_items(params(clouds="files", cloud_files="nowhere"), project)


def test_a_segment_passes_with_enough_good_frames() -> None:
    segment = {"num_good": 9, "num_frames": 12, "fingerprint": "f"}
    few, enough = with_verdict(segment, 10), with_verdict(segment, 9)
    assert (few["passed"], few["reason"]) == (False, "frames: 9 good frames of 12, 10 are wanted (see track_nphm.max_misfit)")
    assert (enough["passed"], enough["reason"]) == (True, "") and few["fingerprint"] != enough["fingerprint"]


def test_a_subject_that_is_wanted_has_to_be_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [item.id for item in tracking_items(params(subjects=[SUBJECT]), project)] == [SUBJECT]
    with pytest.raises(ParamsError, match=f"track_nphm.subjects: nobody is called 'x'. .* There are: {SUBJECT}"):
        tracking_items(params(subjects=["x"]), project)
    assert tracking_step(params(subjects=[SUBJECT]), project).params == tracking_step(params(), project).params
    assert wanted_items([], [SUBJECT], {SUBJECT}) == [] and "has no clip that passed" in capsys.readouterr().out


def test_pictures_of_one_camera_are_followed_and_said(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    (root / NPHM_PRIOR).mkdir(parents=True)
    codes = Codebooks(*(torch.zeros(1, size) for size in (SIZES.identity_code, SIZES.identity_code, SIZES.expression_code)))
    for name, data in nphm_files(faceted(), codes, {"head": "procedural"}).items():
        (root / NPHM_PRIOR / name).write_bytes(data)
    file = root / TRACKS_FOLDER / "segments.parquet"
    segments = tables.read_table(file, tables.SEGMENTS)
    tables.write_table(segments.slice(0, 1), tables.SEGMENTS, file)  # what the other cameras saw did not pass
    plain, followed = (
        tracked(root, tmp_path / f"cache-{photometric}", params(photometric=photometric)).last(SUBJECT)
        for photometric in (False, True)
    )
    assert plain.summary["unexplained"] == {}
    ((clip, (before, after)),) = followed.summary["unexplained"].items()
    assert clip == CLIPS[0] and 0 < before < 0.5 and 0 < after < 0.5
    poses = [entry.read_table(f"tracks-{clip}")["viewmat"].to_pylist() for entry in (plain, followed)]
    assert poses[0] != poses[1]
    assert plain.summary["misfit_mm"] != followed.summary["misfit_mm"]  # it is that of where heads are now
