"""NPGA's part of the page: the avatars on held-out frames, and their figures."""

from __future__ import annotations

import json
from typing import Any

from pipelines.csim_asset import read_csim_record
from pipelines.methods import NPGA
from pipelines.report.embed import data_uri
from pipelines.report.figures import PICTURES, face_tables, known_in, written

SHOWN = (*PICTURES, ("aligned_psnr", "aligned PSNR", "{:.2f}"), ("aligned_ssim", "aligned SSIM", "{:.4f}"))


def npga_section(most: int) -> dict[str, Any] | None:
    """Videos of the first subjects, tables of all; None where no avatar was judged."""
    of_subject, overall = (json.loads(path.read_text()) for path in (NPGA.subjects, NPGA.metrics))
    if not of_subject:
        return None
    csim = read_csim_record(NPGA.evaluation)
    there = known_in(SHOWN, list(of_subject.values()), csim)
    rows = [*sorted(of_subject.items()), ("mean", overall)]
    videos = NPGA.evaluation / "videos"
    return {
        "videos": [(name, data_uri(videos / f"{name}.mp4", "video/mp4")) for name in sorted(of_subject)[:most]],
        "names": [name for _, name, _ in there],
        "rows": [(name, [written(means, key, how) for key, _, how in there]) for name, means in rows],
        "faces": face_tables(of_subject, overall, csim),
    }
