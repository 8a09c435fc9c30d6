"""NPGA's part of the page is there where an avatar was judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.methods import NPGA
from pipelines.report.npga import npga_section


def test_tables_and_videos_of_those_that_were_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (NPGA.subjects, NPGA.metrics):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert npga_section(3) is None

    ann = {"psnr": 20.0, "ssim": 0.5, "aligned_psnr": 21.0, "aligned_ssim": 0.6, "akd": 1.5, "cross_akd": None}
    bob = {**ann, "psnr": 22.0}
    NPGA.subjects.write_text(json.dumps({"ann": ann, "bob": bob}))
    (NPGA.evaluation / "csim.json").write_text("null")
    NPGA.metrics.write_text(json.dumps({**ann, "psnr": 21.0}))
    for name in ("ann", "bob"):
        video = NPGA.evaluation / f"videos/{name}.mp4"
        video.parent.mkdir(exist_ok=True)
        video.write_bytes(b"video")
    found = npga_section(1)
    assert found is not None
    assert found["videos"] == [("ann", "data:video/mp4;base64,dmlkZW8=")]
    assert found["names"] == ["PSNR", "SSIM", "aligned PSNR", "aligned SSIM"]
    assert [(name, values[0]) for name, values in found["rows"]] == [("ann", "20.00"), ("bob", "22.00"), ("mean", "21.00")]
    assert [(table["kind"], table["names"]) for table in found["faces"]] == [("self", ["AKD, pixels"])]
