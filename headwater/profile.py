"""Switching params.yaml between profiles without losing what a user has set, or the comments."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipelines.atomic import write_bytes_atomic


class ProfileError(ValueError):
    """A profile that cannot be applied; the message says why and what to do."""


def apply_profile(params: Path, folder: Path, name: str, *, force: bool) -> list[tuple[str, Any, Any]]:
    """Lays folder/NAME.yaml over params.yaml; returns (key, before, after) of what changed.

    A value that no profile would have put there is the user's own: without `force` it is kept and named in an error,
    with it the old file is kept as params.yaml.bak.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1000
    profiles = {path.stem: dict(leaves(yaml.load(path))) for path in sorted(folder.glob("*.yaml"))}
    if name not in profiles:
        raise ProfileError(f"unknown profile {name!r}; there are: {', '.join(profiles) or f'none in {folder}'}")
    if not params.exists():
        raise ProfileError(f"{params}: not found; run this in the project's folder")
    document = yaml.load(params)
    current = dict(leaves(document))
    changes = [(key, current.get(key), value) for key, value in profiles[name].items() if current.get(key) != value]
    own = [
        key for key, before, _ in changes if before is not None and all(before != other.get(key) for other in profiles.values())
    ]
    if own and not force:
        values = ", ".join(f"{key} = {current[key]}" for key in own)
        raise ProfileError(
            f"{params}: you have set {values}. Profile {name} would overwrite that; add --force (keeps {params}.bak)"
        )
    if own:
        shutil.copy(params, params.with_name(params.name + ".bak"))
    for key, _, value in changes:
        *blocks, last = key.split(".")
        block = document
        for part in blocks:
            block = block[part]
        block[last] = value
    text = StringIO()
    yaml.dump(document, text)
    write_bytes_atomic(params, text.getvalue().encode())
    return changes


def leaves(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of nested mappings."""
    for key, value in block.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
