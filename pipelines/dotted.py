"""Nested mappings as dotted names: train_headgas.steps."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any


def flatten(block: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value that is no mapping, under its dotted name, in the order of the file."""
    flat: dict[str, Any] = {}
    for name, value in block.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def get_dotted(block: Mapping[str, Any], dotted: str) -> Any:
    """The value or block under a dotted name, None where there is none."""
    found: Any = block
    for name in dotted.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def set_dotted(block: MutableMapping[str, Any], dotted: str, value: Any) -> None:
    """Sets a value in nested mappings under its dotted name. Raises KeyError where a mapping on the way is missing."""
    *way, last = dotted.split(".")
    for name in way:
        block = block[name]
    block[last] = value
