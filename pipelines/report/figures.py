"""How the page calls figures of reenactment, and its tables of what faces tell of each subject's own avatar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.csim_asset import CsimRecord

Means = Mapping[str, float | None]
Shown = tuple[str, str, str]
"""Key of a figure, what the page calls it, and how it is written."""

PICTURES: tuple[Shown, ...] = (("psnr", "PSNR", "{:.2f}"), ("ssim", "SSIM", "{:.4f}"), ("lpips", "LPIPS", "{:.3f}"))
FACES: tuple[Shown, ...] = (
    ("akd", "AKD, pixels", "{:.2f}"), ("aed", "AED", "{:.4f}"), ("apd", "APD", "{:.4f}"), ("csim", "CSIM", "{:.3f}"),
    ("mouth_correlation", "mouth correlation", "{:.2f}"), ("no_face_made", "frames without a face", "{:.1f}"),
)  # fmt: skip


def known_in(figures: Sequence[Shown], means: Sequence[Means], csim: CsimRecord | None) -> list[Shown]:
    """The figures that any of the means has; CSIM is called by its network too."""
    there = [one for one in figures if any(found.get(one[0]) is not None for found in means)]
    return [(key, f"{name} ({csim.title})" if key == "csim" and csim else name, how) for key, name, how in there]


def written(means: Means, key: str, how: str) -> str:
    value = means.get(key)
    return "" if value is None else how.format(value)


def face_tables(of_subject: Mapping[str, Means], overall: Means, csim: CsimRecord | None) -> list[dict[str, Any]]:
    """For self- and for cross-reenactment the names of its figures, and a row for each subject and one for their mean.

    A kind that no subject has figures of is left out.
    """
    tables = []
    for kind, prefix in (("self", ""), ("cross", "cross_")):
        rows: list[tuple[str, Means]] = [(name, without(prefix, of_subject[name])) for name in sorted(of_subject)]
        there = known_in(FACES, [means for _, means in rows], csim)
        rows.append(("mean", without(prefix, overall)))
        if there:
            values = [(name, [written(means, key, how) for key, _, how in there]) for name, means in rows]
            tables.append({"kind": kind, "names": [name for _, name, _ in there], "rows": values})
    return tables


def without(prefix: str, means: Means) -> Means:
    """The figures whose names begin so, named without it."""
    return {name.removeprefix(prefix): value for name, value in means.items() if name.startswith(prefix)}
