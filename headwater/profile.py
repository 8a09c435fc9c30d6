"""Switching params.yaml between profiles without losing what a user has set, or the comments."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipelines.atomic import write_bytes_atomic
from pipelines.dotted import flatten
from pipelines.params import Source
from pipelines.yaml_files import YamlFileError, read_yaml


class ProfileError(ValueError):
    """A profile that cannot be applied; the message says why and what to do."""


def apply_profile(params: Path, folder: Path, name: str, *, force: bool) -> list[tuple[str, Any, Any]]:
    """Lays folder/NAME.yaml over params.yaml; returns (key, before, after) of what changed.

    A value that no profile would have put there is the user's own: without `force` it is kept and named in an error,
    with it the old file is kept as params.yaml.bak (.bak1, .bak2, ...).
    """
    yaml = _round_trip()
    profiles = {path.stem: flatten(_loaded(yaml, path)) for path in sorted(folder.glob("*.yaml"))}
    if name not in profiles:
        raise ProfileError(f"unknown profile {name!r}; there are: {', '.join(profiles) or f'none in {folder}'}")
    if not params.exists():
        raise ProfileError(f"{params}: not found; run this in the project's folder")
    document = _loaded(yaml, params)
    current = flatten(document)
    changes = [(key, current.get(key), value) for key, value in profiles[name].items() if current.get(key) != value]
    own = [
        key for key, before, _ in changes if before is not None and all(before != other.get(key) for other in profiles.values())
    ]
    if own and not force:
        values = ", ".join(f"{key} = {current[key]}" for key in own)
        raise ProfileError(
            f"{params}: you have set {values}. Profile {name} would overwrite that; add --force "
            f"(keeps the old file as {_backup(params)})"
        )
    if own:
        shutil.copy(params, _backup(params))
    _write(yaml, document, {key: value for key, _, value in changes}, params)
    return changes


def make_source_folder(source: Source) -> Path | None:
    """Makes the folder of videos that a source of kind folder names; returns it where it holds nothing yet.

    DVC stops at a folder that is not there, before a stage could say what belongs in it. Raises ProfileError.
    """
    folder = Path(source.path)
    if source.kind != "folder":
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return None if any(folder.iterdir()) else folder
    except OSError as error:
        raise ProfileError(f"source.path {folder}: {error.strerror}; a folder of videos was expected") from None


def lay_over(params: Path, values: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Sets dotted values in params.yaml and keeps its comments; returns (key, before, after) of what changed.

    The old file is kept as params.yaml.bak (.bak1, .bak2, ...). Raises ProfileError.
    """
    yaml = _round_trip()
    if not params.exists():
        raise ProfileError(f"{params}: not found; run this in the project's folder")
    document = _loaded(yaml, params)
    current = flatten(document)
    changes = [(key, current.get(key), value) for key, value in values.items() if current.get(key) != value]
    if changes:
        shutil.copy(params, _backup(params))
        _write(yaml, document, values, params)
    return changes


def _round_trip() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1000
    return yaml


def _write(yaml: YAML, document: Any, values: Mapping[str, Any], params: Path) -> None:
    for key, value in values.items():
        *blocks, last = key.split(".")
        block = document
        for part in blocks:
            if not isinstance(block.setdefault(part, {}), Mapping):
                raise ProfileError(f"{params}: {part} = {block[part]!r}, a block with {last} in it was expected")
            block = block[part]
        block[last] = value
    text = StringIO()
    yaml.dump(document, text)
    write_bytes_atomic(params, text.getvalue().encode())


def _loaded(yaml: YAML, path: Path) -> Any:
    """The document with its comments. Raises ProfileError where it is no mapping."""
    try:
        read_yaml(path)  # tells what is wrong with a file better than the reader that keeps comments
    except YamlFileError as error:
        raise ProfileError(f"{error}. Mend it, or: git checkout {path}") from None
    document = yaml.load(path)
    if not isinstance(document, Mapping):
        raise ProfileError(f"{path}: a mapping of blocks was expected. Mend it, or: git checkout {path}")
    return document


def _backup(params: Path) -> Path:
    """params.yaml.bak, or with a number where earlier ones are kept."""
    names = (f"{params.name}.bak{number or ''}" for number in itertools.count())
    return next(path for path in map(params.with_name, names) if not path.exists())
