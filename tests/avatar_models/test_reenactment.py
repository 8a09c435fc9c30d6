"""Figures of reenactment against closed cases, people whose motion is known, and a real photo."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avatar_models.baselines import copy_source, warp_by_landmarks
from avatar_models.cameras import Camera, project
from avatar_models.heads.procedural import procedural_head
from avatar_models.people import camera_for, film, make_person, perform, viewmats
from avatar_models.reenactment import (
    FACING,
    Footage,
    Likeness,
    Tracked,
    correlation,
    keypoint_distance,
    landmarks_of,
    likeness_to,
    mean_difference,
    mouth_opening,
    reenactment_figures,
    refit,
    track_known,
)
from avatar_models.tracking.detect import FaceFinder, FaceTracker
from avatar_models.tracking.state import axis_angle

HEAD = procedural_head()
EXACT = replace(  # whose landmarks are seen where they are: no habits of the detector
    HEAD, embedding=replace(HEAD.embedding, offsets=0 * HEAD.embedding.offsets, slides=0 * HEAD.embedding.slides)
)
SIZE, FRAMES = 192, 8


@cache
def footage(seed: int = 5) -> Footage:
    """A made-up person who moves much from frame to frame."""
    person, performance = make_person(seed), perform(seed, FRAMES, 3.0)
    K, distance = camera_for(SIZE)
    views = viewmats(performance, distance)
    pictures = np.stack([film(person, performance, t, SIZE, views[t], K) for t in range(FRAMES)])
    return Footage(pictures, np.tile(K, (FRAMES, 1, 1)), person.identity)


def exact_landmarks() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Projected landmarks (T, 478, 2) with K, identity, and the expression and rotation that they were made from."""
    person, performance = make_person(4), perform(4, 20, 5.0)
    K, distance = camera_for(SIZE)
    views = viewmats(performance, distance)
    arguments = (performance.expression, np.zeros((20, 3)), performance.jaw, performance.eyes)
    vertices = EXACT.vertices(torch.tensor(person.identity)[None].double(), *(torch.tensor(a).double() for a in arguments))
    cameras = np.tile(K, (20, 1, 1))
    points = project(EXACT.landmarks(vertices), Camera(torch.tensor(cameras), torch.tensor(views), SIZE, SIZE)).numpy()
    return points, cameras, person.identity, performance.expression, axis_angle(FACING @ views[:, :3, :3])


def test_a_known_person_is_tracked_exactly_from_exact_landmarks() -> None:
    points, K, identity, expression, rotation = exact_landmarks()
    found_expression, found_rotation = refit(EXACT, identity, points, K)
    assert np.abs(found_rotation - rotation).max() < 0.005
    blink, smile = (EXACT.expression_names.index(name) for name in ("eyeBlinkLeft", "mouthSmileRight"))
    assert np.abs(found_expression - expression)[:, [blink, smile]].max() < 0.06


def test_cameras_of_every_kind_see_the_same_motion() -> None:
    """Crops move and differ in scale, pixels need not be square."""
    points, K, identity, _, _ = exact_landmarks()
    scale = np.stack([np.linspace(0.8, 1.3, 20), np.linspace(1.1, 0.9, 20)], 1)
    shift = np.stack([np.linspace(-20, 30, 20), np.linspace(15, -5, 20)], 1)
    other = K.copy()
    other[:, [0, 1], [0, 1]] *= scale
    other[:, :2, 2] = K[:, :2, 2] * scale + shift
    for found, wanted in zip(
        refit(EXACT, identity, points * scale[:, None] + shift[:, None], other), refit(EXACT, identity, points, K), strict=True
    ):
        assert np.abs(found - wanted).max() < 0.02


def test_frames_without_landmarks_have_no_motion_and_leave_the_others_alone() -> None:
    points, K, identity, _, rotation = exact_landmarks()
    points[[0, 9]] = np.nan
    expression, found = refit(EXACT, identity, points, K)
    gone = np.isin(np.arange(20), [0, 9])
    assert np.isnan(expression[gone]).all() and np.isnan(found[gone]).all()
    assert np.abs(found - rotation)[~gone].max() < 0.005
    assert np.isnan(refit(EXACT, identity, points * np.nan, K)[1]).all()


def test_distances_of_known_points_and_coefficients() -> None:
    points = np.random.default_rng(0).random((3, 478, 3)).astype(np.float32) * 100
    moved = points + np.array([3, -4, 50], np.float32)  # depth is not in the picture
    moved[1] = np.nan
    assert keypoint_distance(moved, points) == pytest.approx([5, np.nan, 5], nan_ok=True, rel=1e-5)
    assert mean_difference(np.array([[1.0, 2, 3], [0, 0, 0]]), np.array([[0.0, 4, 3], [3, 0, -3]])).tolist() == [1, 2]


def test_a_mouth_is_as_open_as_its_lips_are_apart_in_a_picture_of_any_scale() -> None:
    points = np.zeros((2, 478, 2))
    points[:, 152] = (0, 100)  # the chin, 100 below the forehead
    points[:, 13], points[:, 14] = (0, 70), (0, 75)
    points[1, 14] = (0, 90)
    assert np.allclose(mouth_opening(points), [0.05, 0.2]) and np.allclose(mouth_opening(3 * points + 7), [0.05, 0.2])


def test_correlation_leaves_out_what_is_missing() -> None:
    values = np.array([0.1, 0.4, np.nan, 0.2, 0.3])
    assert correlation(values, 3 * values - 1) == pytest.approx(1) and correlation(values, -values) == pytest.approx(-1)
    assert correlation(values, np.array([1.0, 2, 3, np.nan, np.nan])) is None  # two are left
    assert correlation(values, np.full(5, 0.2)) is None


def test_a_moved_picture_is_as_far_away_as_it_was_moved() -> None:
    pictures = footage().pictures
    away = keypoint_distance(landmarks_of(np.roll(pictures, (5, 12), (1, 2))), landmarks_of(pictures))
    assert away == pytest.approx(np.full(FRAMES, 13.0), abs=0.5)


def test_a_moved_photo_is_as_far_away_as_it_was_moved(shared: Path) -> None:
    photo = cv2.imread(str(shared / "photos" / "monroe.jpg"))[..., ::-1]
    frames = np.repeat(photo[None], 3, 0)
    away = keypoint_distance(landmarks_of(np.roll(frames, (6, 8), (1, 2))), landmarks_of(frames))
    assert away == pytest.approx(np.full(3, 10.0), abs=1.0)


def test_tiles_are_searched_for_small_faces_but_not_in_pictures_of_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []
    monkeypatch.setattr(FaceFinder, "in_tiles", lambda finder, picture: searched.append(1) or [])
    blank = np.full((2, SIZE, SIZE, 3), 128, np.uint8)
    assert np.isnan(landmarks_of(blank)).all() and not searched
    with closing(FaceTracker(1.0)) as tracker:
        assert tracker.observe(blank[0], 0.0) is None and searched


def test_the_tracker_follows_a_filmed_person() -> None:
    performance = perform(5, FRAMES, 3.0)
    views = viewmats(performance, camera_for(SIZE)[1])
    tracked = seen()
    assert tracked.found.all()
    assert np.abs(tracked.rotation - axis_angle(FACING @ views[:, :3, :3])).mean() < 0.03
    assert (correlation(mouth_opening(tracked.points), performance.jaw[:, 0].astype(float)) or 0) > 0.9


@cache
def seen(seed: int = 5) -> Tracked:
    """What is seen of that person's frames."""
    return track_known(footage(seed), HEAD)


def like(seed: int, frames: slice = slice(None)) -> Likeness:
    """Likeness to some of that person's frames."""
    return likeness_to(colours, footage(seed).pictures[frames], seen(seed).points[frames])


def colours(face: np.ndarray) -> np.ndarray:
    """In place of a network: how a face's middle is coloured."""
    return face[30:80, 30:80].reshape(-1, 3).mean(0).astype(np.float32) - 100


def test_frames_that_are_the_wanted_ones_are_perfect() -> None:
    means = reenactment_figures(footage(), seen(), HEAD, like(5)).means()
    assert means == {
        "frames": FRAMES, "no_face_made": 0, "no_face_wanted": 0, "akd": 0, "aed": 0, "apd": 0,
        "mouth_correlation": pytest.approx(1), "csim": pytest.approx(1), "no_csim": 0,
    }  # fmt: skip


def test_pulling_landmarks_reenacts_better_than_standing_still() -> None:
    own = footage()
    points = seen().points[..., :2]
    pulled = np.stack([warp_by_landmarks(own.pictures[0], points[0], goal) for goal in points])
    still, warped = (
        reenactment_figures(replace(own, pictures=pictures), seen(), HEAD)
        for pictures in (copy_source(own.pictures[0], FRAMES), pulled)
    )
    for name in ("akd", "aed", "apd"):
        assert np.nanmean(getattr(warped, name)) < 0.7 * np.nanmean(getattr(still, name)), name
    assert warped.size == SIZE and warped.csim is None and (warped.means()["mouth_correlation"] or 0) > 0.9


def test_made_frames_without_a_face_are_counted_and_are_in_no_mean() -> None:
    own = footage()
    pictures = own.pictures.copy()
    pictures[2] = 128
    found = reenactment_figures(replace(own, pictures=pictures), seen(), HEAD, like(5))
    assert np.flatnonzero(~found.found_made).tolist() == [2] and found.found_wanted.all()
    assert found.csim is not None
    for values in (found.akd, found.aed, found.apd, found.csim, found.mouth_made):
        assert np.flatnonzero(np.isnan(values)).tolist() == [2]
    means = found.means()
    assert (means["no_face_made"], means["no_csim"]) == (1, 1) and (means["akd"] or 9) < 0.5 and (means["csim"] or 0) > 0.99


def test_where_no_frame_has_a_face_there_are_no_means() -> None:
    own = footage()
    blank = replace(own, pictures=np.full_like(own.pictures, 128))
    means = reenactment_figures(blank, seen(), HEAD, like(5)).means()
    assert means["no_face_made"] == means["no_csim"] == FRAMES
    assert all(means[name] is None for name in ("akd", "aed", "apd", "mouth_correlation", "csim"))


def test_across_people_likeness_is_to_the_source_and_motion_to_the_driver() -> None:
    source = footage(5)
    copied = replace(source, pictures=copy_source(source.pictures[0], FRAMES).copy())
    to_source, to_driver = (reenactment_figures(copied, seen(6), HEAD, whom).means() for whom in (like(5, slice(1)), like(6)))
    assert (to_source["csim"] or 0) > 0.999 > (to_driver["csim"] or 1)
    assert to_source["apd"] == to_driver["apd"] and (to_source["apd"] or 0) > 0.03


def test_what_does_not_go_together_is_refused() -> None:
    own = footage()
    few = Footage(own.pictures[:3], own.K[:3], own.identity)
    with pytest.raises(ValueError, match="3 made frames are compared with as many wanted ones, not 8"):
        reenactment_figures(few, seen(), HEAD)
    with pytest.raises(ValueError, match="likeness to 3 pictures: give one, or 8"):
        reenactment_figures(own, seen(), HEAD, like(5, slice(3)))
    with pytest.raises(ValueError, match=r"pictures must be \(T, S, S, 3\) uint8"):
        Footage(own.pictures[:, :100], own.K, own.identity)
    with pytest.raises(ValueError, match=r"K must be \(8, 3, 3\)"):
        Footage(own.pictures, own.K[:3], own.identity)
