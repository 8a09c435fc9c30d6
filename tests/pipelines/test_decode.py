"""What is decoded is what the packets prove, whatever the header says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.decode import PyavDecoder, open_decoder, pick_frames
from pipelines.probe import ProbeError, probe_video
from tests.hostile import encode

WINDOW = 100_000


def numbered(count: int = 20) -> list[np.ndarray]:
    """Pictures whose brightness is their number."""
    return [np.full((48, 64, 3), 10 * number, np.uint8) for number in range(count)]


def numbers(path: Path, wanted: list[int]) -> list[tuple[int, int]]:
    decoder = open_decoder(path, probe_video(path), WINDOW)
    return [(index, round(float(picture.mean()) / 10)) for index, picture in decoder.frames(wanted)]


def test_wanted_frames_come_in_order_and_are_the_right_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    encode(path, numbered())
    wanted = [0, 3, 4, 11, 19]
    assert numbers(path, wanted) == [(n, n) for n in wanted]
    facts = probe_video(path)
    assert open_decoder(path, facts, WINDOW).name == "decord"
    slow = [(i, p.mean()) for i, p in PyavDecoder(path, facts).frames(wanted)]
    assert slow == [(i, p.mean()) for i, p in open_decoder(path, facts, WINDOW).frames(wanted)]


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
    found = [index for index, _ in open_decoder(cut, facts, WINDOW).frames(list(range(facts.frames_found)))]
    assert found == sorted(set(found)) and len(found) >= facts.frames_found - 2


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty_file"), (b"text " * 50, "not_a_video"), (None, "missing_video")])
def test_what_is_no_video_has_a_reason(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "x.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProbeError) as error:
        probe_video(path)
    assert error.value.reason == reason


def test_picking_halves_fifty_frames_a_second_and_keeps_twenty_five() -> None:
    assert pick_frames(np.arange(50) / 50, 25.0, 1000).tolist() == list(range(0, 50, 2))
    assert len(pick_frames(np.arange(25) / 25, 25.0, 1000)) == 25
    assert len(pick_frames(np.arange(10_000) / 10_000, 30.0, 1000)) == 31  # a second, both of its ends
    assert len(pick_frames(np.arange(100) / 25, 30.0, 7)) == 7
