"""Forty files that no one would wish on a pipeline, made here: broken, empty, misnamed, odd, and some that only look so.

`make_hostile(folder)` writes them and returns, for each, whether a face can be tracked in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from avatar_models.people import camera_for, film, make_person, perform, viewmats

Frames = Sequence[NDArray[np.uint8]]


def face_frames(count: int = 12, size: int = 192) -> Frames:
    """Pictures of a made-up person who talks."""
    person, performance = make_person(5), perform(5, count, 25.0)
    K, distance = camera_for(size)
    views = viewmats(performance, distance)
    return [film(person, performance, frame, size, views[frame], K) for frame in range(count)]


def encode(
    path: Path, frames: Frames, *, codec: str = "libx264", pix_fmt: str = "yuv420p", rate: Fraction | int = 25,
    times: Sequence[int] | None = None, container: str | None = None, rotation: int = 0, options: dict[str, str] | None = None,
) -> None:  # fmt: skip
    """Writes frames; `times` are presentation times in 1/1000 s in place of an even rate, `rotation` the degrees clockwise
    that a player turns the stored pictures by."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, options={"threads": "1", **(options or {})})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(-rotation)
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format=pix_fmt)
            frame.pts = times[index] if times is not None else index
            frame.time_base = Fraction(1, 1000) if times is not None else 1 / Fraction(rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        for start in range(0, 20480, 1024):
            wave = np.sin(np.arange(start, start + 1024) / 20)[None].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def make_hostile(folder: Path) -> dict[str, bool]:
    """Writes the files; name -> whether a track is expected (False: quarantine)."""
    folder.mkdir(parents=True, exist_ok=True)
    face = face_frames()
    blank = [np.full((96, 96, 3), 90, np.uint8)] * 12
    noise = [np.random.default_rng(k).integers(0, 255, (96, 96, 3)).astype(np.uint8) for k in range(12)]
    two = [np.concatenate([picture, picture[:, ::-1]], 1) for picture in face]
    expected: dict[str, bool] = {}

    def add(name: str, tracked: bool, write: Callable[[Path], None]) -> None:
        write(folder / name)
        expected[name] = tracked

    good = folder / "good.mp4"
    add("good.mp4", True, lambda p: encode(p, face))
    data = good.read_bytes()
    add("truncated_tail.mp4", False, lambda p: p.write_bytes(data[: len(data) // 2]))  # the index is at the end
    add("truncated_head.mp4", False, lambda p: p.write_bytes(data[len(data) // 2 :]))
    encode(folder / "whole.mkv", face)
    matroska = (folder / "whole.mkv").read_bytes()
    expected["whole.mkv"] = True
    add("truncated.mkv", True, lambda p: p.write_bytes(matroska[: int(len(matroska) * 0.8)]))  # streamable: half is there
    add("zero.mp4", False, lambda p: p.write_bytes(b""))
    add("one_byte.mp4", False, lambda p: p.write_bytes(b"x"))
    add("junk.mp4", False, lambda p: p.write_bytes(np.random.default_rng(0).bytes(5000)))
    add("text.mp4", False, lambda p: p.write_text("this is not a video\n" * 50))
    add("html.mp4", False, lambda p: p.write_text("<html><body>404 not found</body></html>"))
    add("picture.mp4", False, lambda p: p.write_bytes(b"\xff\xd8\xff\xe0" + bytes(200)))
    flipped = bytearray(data)
    for place in np.random.default_rng(1).integers(len(data) * 3 // 5, len(data) * 4 // 5, 5):
        flipped[place] ^= 0xFF
    add("bit_flips.mp4", True, lambda p: p.write_bytes(bytes(flipped)))
    add("audio.mp4", False, audio_only)
    add("audio.mkv", False, audio_only)
    add("one_frame.mp4", True, lambda p: encode(p, face[:1]))
    add("two_frames.mp4", True, lambda p: encode(p, face[:2]))
    add("10khz.mp4", True, lambda p: encode(p, face, rate=10_000))
    add("slow.mp4", True, lambda p: encode(p, face[:4], rate=Fraction(1, 2)))
    add("yuv444.mp4", True, lambda p: encode(p, face, pix_fmt="yuv444p"))
    add("yuv422.mp4", True, lambda p: encode(p, face, pix_fmt="yuv422p"))
    add("odd_size.mp4", True, lambda p: encode(p, [f[:181, :177] for f in face], pix_fmt="yuv444p"))
    add("wide.mp4", False, lambda p: encode(p, [np.tile(f[:16], (1, 8, 1)) for f in face]))
    add("tiny.mp4", False, lambda p: encode(p, [f[:16, :16] for f in face]))
    add("rotated_90.mov", True, lambda p: encode(p, [np.ascontiguousarray(np.rot90(f)) for f in face], rotation=90))
    add("rotated_180.mov", True, lambda p: encode(p, [np.ascontiguousarray(f[::-1, ::-1]) for f in face], rotation=180))
    add(
        "hdr10.mp4",
        True,
        lambda p: encode(
            p,
            face,
            codec="libx265",
            pix_fmt="yuv420p10le",
            options={"x265-params": "log-level=none:colorprim=bt2020:transfer=smpte2084"},
        ),
    )
    add("vfr.mp4", True, lambda p: encode(p, face, times=[0, 40, 80, 200, 240, 280, 300, 500, 540, 580, 620, 660]))
    add("vfr.mkv", True, lambda p: encode(p, face, times=[0, 33, 66, 100, 400, 433, 466, 500, 533, 566, 600, 633]))
    add("vp9.webm", True, lambda p: encode(p, face, codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}))
    add("mpeg4.avi", True, lambda p: encode(p, face, codec="mpeg4", options={"qscale": "2"}))
    add("blank.mp4", False, lambda p: encode(p, blank))
    add("noise.mp4", False, lambda p: encode(p, noise))
    add("two_people.mp4", True, lambda p: encode(p, two))
    add("cut.mp4", True, lambda p: encode(p, [*face[:6], *[255 - f for f in blank_like(face[6:])]]))
    add("name with spaces.mp4", True, lambda p: p.write_bytes(data))
    add("ünïcödé 名前 🎬.mp4", True, lambda p: p.write_bytes(data))
    add("..%2F..%2Fescape.mp4", True, lambda p: p.write_bytes(data))
    add("-rf.mp4", True, lambda p: p.write_bytes(data))
    add("$(touch pwned);`id`.mp4", True, lambda p: p.write_bytes(data))
    add("loop.mp4", False, lambda p: p.symlink_to(p.name))
    add("dangling.mp4", False, lambda p: p.symlink_to("/nowhere/at/all.mp4"))
    unreadable = folder / "unreadable.mp4"
    unreadable.write_bytes(data)
    unreadable.chmod(0)
    expected["unreadable.mp4"] = os.access(unreadable, os.R_OK)  # root reads everything
    (folder / "folder_loop").symlink_to(folder)
    return expected


def blank_like(frames: Frames) -> Frames:
    return [np.full_like(frame, 30) for frame in frames]
