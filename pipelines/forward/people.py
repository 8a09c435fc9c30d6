"""Whose heads are posed, and with which expressions.

P people, T expressions of one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from avatar_models.heads.nphm.storage import StoredNphm


@dataclass(frozen=True)
class People:
    """Codes of a prior."""

    names: list[str]
    geometry: Tensor  # (P, D)
    expressions: list[Tensor]  # of each (T, E)

    def __len__(self) -> int:
        return len(self.names)

    def take(self, which: Sequence[int]) -> People:
        """Some of them."""
        rows = list(which)
        return People([self.names[row] for row in rows], self.geometry[rows], [self.expressions[row] for row in rows])

    def parted(self, share: float, random: np.random.Generator) -> tuple[People, People]:
        """The same people twice: with most of their expressions, and with that share, one at least, which is held out.

        People of one expression have it on both sides.
        """
        kept, held = [], []
        for codes in self.expressions:
            order = torch.from_numpy(random.permutation(len(codes)))
            count = max(1, round(share * len(codes)))
            held.append(codes[order[:count]])
            kept.append(codes[order[count:]] if count < len(codes) else codes)
        return replace(self, expressions=kept), replace(self, expressions=held)


def people_of_training(stored: StoredNphm) -> People:
    """Those that a prior was trained on: made-up people share all expressions, others have their own."""
    codes, own = stored.codes, stored.facts.get("codes_of")
    names = [f"person-{number:03d}" for number in range(len(codes.geometry))]
    expressions = [codes.expression[rows] for rows in own] if own else [codes.expression] * len(names)
    return People(names, codes.geometry, expressions)
