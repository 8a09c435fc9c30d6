"""Coefficients as files made for FLAME hold them: 300 of identity, 100 of expression, and eyelids apart.

A head that is not FLAME keeps its own numbers of coefficients: what they mean stands in the file's `headwater` entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.formats.clip import TrackedClip
from pipelines.formats.fields import FormatError, present, text

Array = NDArray[np.float64]
NUM_IDENTITY, NUM_EXPRESSION = 300, 100
EYELIDS = ("eyelid_left", "eyelid_right")
VERSION = 1


@dataclass(frozen=True)
class Codes:
    """What goes under the keys of FLAME."""

    identity: Array  # (I,), or (300,) of FLAME
    expression: Array  # (N, E), or (N, 100) of FLAME
    eyelids: Array | None  # (N, 2) left, right in [0, 1]; None where the head has none apart


def to_codes(clip: TrackedClip) -> Codes:
    """A clip's coefficients; those of a FLAME head are filled up with zeros. Raises FormatError for more than FLAME has."""
    if not clip.head.startswith("flame"):
        return Codes(clip.identity, clip.expression, None)
    expression, eyelids = clip.expression, None
    if clip.expression_names[-2:] == EYELIDS:
        expression, eyelids = expression[:, :-2], expression[:, -2:]
    if len(clip.identity) > NUM_IDENTITY or expression.shape[1] > NUM_EXPRESSION:
        raise FormatError(
            f"{clip.clip_id}: has {len(clip.identity)} identity and {expression.shape[1]} expression coefficients, "
            f"FLAME has {NUM_IDENTITY} and {NUM_EXPRESSION}"
        )
    identity = np.pad(clip.identity, (0, NUM_IDENTITY - len(clip.identity)))
    return Codes(identity, np.pad(expression, ((0, 0), (0, NUM_EXPRESSION - expression.shape[1]))), eyelids)


def entry(clip: TrackedClip) -> dict[str, Any]:
    """The `headwater` entry: which head the coefficients belong to, and what each is called."""
    return {
        "version": VERSION,
        "clip_id": clip.clip_id,
        "head": clip.head,
        "num_identity": len(clip.identity),
        "num_expression": clip.expression.shape[1],
        "identity_names": list(clip.identity_names),
        "expression_names": list(clip.expression_names),
    }


@dataclass(frozen=True)
class Meaning:
    """A `headwater` entry as read; what files of other makers lack is FLAME's."""

    clip_id: str
    head: str
    num_identity: int | None
    num_expression: int | None
    identity_names: tuple[str, ...]
    expression_names: tuple[str, ...]

    def identity(self, stored: Array) -> Array:
        """The head's own identity coefficients (..., I) out of the stored ones."""
        return stored[..., : self.num_identity]

    def expression(self, stored: Array, eyelids: Array | None) -> Array:
        """The head's own expression coefficients (..., E) out of the stored ones."""
        if eyelids is None:
            return stored[..., : self.num_expression]
        plain = None if self.num_expression is None else self.num_expression - len(EYELIDS)
        return np.concatenate([stored[..., :plain], eyelids], -1)


def read_entry(place: str, found: Mapping[str, Any], clip_id: str) -> Meaning:
    """The `headwater` entry of a file; `clip_id` is the name where there is none. Raises FormatError."""
    if "headwater" not in found:
        return Meaning(clip_id, "flame", None, None, (), ())
    own = found["headwater"]
    if not isinstance(own, dict) or present(place, own, "version") != VERSION:
        raise FormatError(
            f"{place}: 'headwater' is not an entry of version {VERSION}; write the folder again with this version"
        )
    names = []
    for key, count in (("identity_names", "num_identity"), ("expression_names", "num_expression")):
        listed, size = present(place, own, key), present(place, own, count)
        if not isinstance(size, int) or not isinstance(listed, list) or (listed and len(listed) != size):
            raise FormatError(f"{place}: 'headwater' names {len(listed)} coefficients in {key!r}, {count!r} = {size!r}")
        names.append(tuple(map(str, listed)))
    return Meaning(
        text(place, own, "clip_id"), text(place, own, "head"), own["num_identity"], own["num_expression"], names[0], names[1]
    )
