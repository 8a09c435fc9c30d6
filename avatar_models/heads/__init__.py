"""Parametric heads behind one interface (:mod:`avatar_models.heads.interface`)."""

from __future__ import annotations

from avatar_models.heads.interface import Head

HEADS = ("procedural",)


def load_head(name: str) -> Head:
    """The head model of that name. Raises ValueError for one that is not known."""
    if name != "procedural":
        raise ValueError(f"unknown head model {name!r}; known are: {', '.join(HEADS)}")
    from avatar_models.heads.procedural import procedural_head

    return procedural_head()
