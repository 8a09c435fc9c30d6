"""Reading YAML that people write: YAML 1.2, as DVC reads it, so `yes` is a word and a key that stands twice is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


class YamlFileError(ValueError):
    """The file holds no YAML that can be read; the message names it and the reason."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises YamlFileError, and FileNotFoundError where there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise YamlFileError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (IsADirectoryError, PermissionError) as error:
        raise YamlFileError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise YamlFileError(f"{path}: not valid YAML: {_in_short(error)}") from None
    except (ValueError, RecursionError) as error:  # a date that is none, a number without end, lists without end
        raise YamlFileError(f"{path}: not valid YAML: {error}") from None


def _in_short(error: YAMLError) -> str:
    """What is wrong and in which line, without ruamel's advice for programmers."""
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or str(error).splitlines()[0])
    return f"{problem.splitlines()[0]} (line {mark.line + 1})" if mark is not None else problem
