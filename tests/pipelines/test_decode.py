"""What is decoded is what the packets prove, whatever the header says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.decode import PyavDecoder, open_decoder, pick_frames
from pipelines.probe import probe_video
from pipelines.video_facts import ProbeError
from tests.hostile import encode

ROOM = 10_000_000


def numbered(count: int = 20) -> list[np.ndarray]:
    """Pictures whose brightness is their number."""
    return [np.full((48, 64, 3), 10 * number, np.uint8) for number in range(count)]


def numbers(path: Path, wanted: list[int]) -> list[tuple[int, int]]:
    decoder = open_decoder(path, probe_video(path), ROOM)
    return [(index, round(float(picture.mean()) / 10)) for index, picture in decoder.frames(wanted)]


def test_wanted_frames_come_in_order_and_are_the_right_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    encode(path, numbered())
    wanted = [0, 3, 4, 11, 19]
    assert numbers(path, wanted) == [(n, n) for n in wanted]


@pytest.mark.parametrize(
    ("room", "pix_fmt", "decoder"),
    [(ROOM, "yuv420p", "decord"), (1, "yuv420p", "pyav"), (ROOM, "yuv420p10le", "pyav")],
    ids=["fits", "does_not_fit", "ten_bits"],
)
def test_how_much_memory_there_is_changes_no_pixel(tmp_path: Path, room: int, pix_fmt: str, decoder: str) -> None:
    path = tmp_path / "a.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3)).astype(np.uint8)
    encode(path, noise, pix_fmt=pix_fmt)
    facts, wanted = probe_video(path), [2, 3, 7, 19]
    opened = open_decoder(path, facts, room)
    found, reference = dict(opened.frames(wanted)), dict(PyavDecoder(path, facts).frames(wanted))
    assert opened.name == decoder and list(found) == list(reference) == wanted
    assert all((found[index] == reference[index]).all() for index in wanted)


def test_a_clip_deep_in_a_long_video_is_sought_not_read_through(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    encode(path, numbered(25) * 8, options={"g": "10", "bf": "2"})
    facts, wanted = probe_video(path), [120, 121, 140]
    found = [(index, round(float(picture.mean()) / 10)) for index, picture in PyavDecoder(path, facts).frames(wanted)]
    assert found == [(index, index % 25) for index in wanted]


@pytest.mark.parametrize(("turn", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_a_picture_stored_turned_comes_upright(tmp_path: Path, turn: int, corner: tuple[int, int]) -> None:
    path = tmp_path / "turned.mp4"
    marked = np.zeros((48, 64, 3), np.uint8)
    marked[:16, :16] = 255  # the top left corner of the stored picture
    encode(path, [marked] * 5, rotation=turn)
    facts = probe_video(path)
    assert (facts.rotation, facts.width, facts.height) == (turn, *((64, 48) if turn == 180 else (48, 64)))
    pictures = [picture for _, picture in open_decoder(path, facts, ROOM).frames([0, 4])]
    assert [picture.shape for picture in pictures] == [(facts.height, facts.width, 3)] * 2
    assert all(picture[corner].min() > 200 and picture.mean() < 60 for picture in pictures)


def test_a_variable_rate_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "vfr.mkv"
    times = [0, 40, 80, 400, 440, 480]
    encode(path, numbered(6), times=times)
    facts = probe_video(path)
    assert facts.variable_rate and facts.times.tolist() == pytest.approx([t / 1000 for t in times], abs=2e-3)
    assert facts.fps == pytest.approx(5 / 0.48, rel=1e-2)
    assert any("varies" in remark for remark in facts.remarks())


def test_a_file_that_breaks_off_gives_what_is_there(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    encode(whole, [np.random.default_rng(n).integers(0, 255, (96, 128, 3)).astype(np.uint8) for n in range(20)])
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    facts = probe_video(cut)
    assert 5 < facts.frames_found < 20
    found = [index for index, _ in open_decoder(cut, facts, ROOM).frames(list(range(facts.frames_found)))]
    assert found == sorted(set(found)) and len(found) >= facts.frames_found - 2


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty_file"), (b"text " * 50, "not_a_video"), (None, "missing_video")])
def test_what_is_no_video_has_a_reason(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "x.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProbeError) as error:
        probe_video(path)
    assert error.value.reason == reason


def test_files_joined_end_to_end_are_refused_for_their_times(tmp_path: Path) -> None:
    encode(tmp_path / "part.ts", numbered())
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "part.ts").read_bytes() * 2)
    with pytest.raises(ProbeError, match="jump back at frame 20") as error:
        probe_video(joined)
    assert error.value.reason == "broken_times"


def test_picking_halves_fifty_frames_a_second_and_keeps_twenty_five() -> None:
    assert pick_frames(np.arange(50) / 50, 25.0, 1000).tolist() == list(range(0, 50, 2))
    assert len(pick_frames(np.arange(25) / 25, 25.0, 1000)) == 25
    assert len(pick_frames(np.arange(10_000) / 10_000, 30.0, 1000)) == 31  # a second, both of its ends
    assert len(pick_frames(np.arange(100) / 25, 30.0, 7)) == 7


@pytest.mark.parametrize("fps", [23.976, 25, 29.97, 30])
def test_a_clip_at_the_limit_or_below_is_kept_whole(fps: float) -> None:
    rounded = np.round(np.arange(2000) / fps, 3)  # milliseconds, as in Matroska
    assert len(pick_frames(rounded, 30.0, 10_000)) == 2000


def test_a_forged_time_costs_no_memory() -> None:
    assert pick_frames(np.array([0.0, 1e12]), 30.0, 1000).tolist() == [0, 1]
