"""The YAML file of a sweep, typed on load, and its search space, checked against the types and limits of params.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from pipelines.dotted import flatten
from pipelines.nearest import did_you_mean
from pipelines.params import Block, Params, PositiveInt, Workers, explain
from pipelines.yaml_files import YamlFileError, read_yaml

Objective = Literal["psnr", "ssim", "avatar_bytes", "render_fps"]
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "psnr": "maximize",
    "ssim": "maximize",
    "avatar_bytes": "minimize",
    "render_fps": "maximize",
}
KNOWN_DURING_TRAINING = ("psnr", "ssim")

SEARCHED = ("train_headgas", "preprocess")
"""Blocks whose values a trial may change."""
NOT_SEARCHED = {
    "train_headgas.background": "the held-out frames are judged over it, so trials could not be compared",
    "train_headgas.checkpoint_every": "it changes no result",
    "train_headgas.perceptual_weights": "it says where a file lies; set it in params.yaml",
    "preprocess.frame_buffer_mb": "it changes no result",
    "preprocess.head_file": "it goes with preprocess.head; set it in params.yaml",
    **dict.fromkeys(
        ("preprocess.max_fps", "preprocess.max_frames", "preprocess.cut_threshold", "preprocess.max_gap_s"),
        "it decides which frames there are, so trials would be judged on different ones",
    ),
    "preprocess.gates": "it decides which frames are judged, so trials could not be compared",
}
BLOCKS_NOT_SEARCHED = {
    "source": "it says what is read",
    "compute": "it says where and how, and changes no result",
    "tracking": "it changes no result",
    "catalog": "it says which frames are held out, so trials could not be compared",
    "evaluate": "it is the yardstick of the trials",
    "report": "it is made from what was trained and changes nothing in it",
}

Scalar = bool | int | float | str


class SweepError(ValueError):
    """A sweep's file, study or state does not allow what was asked; the message says where, what and the way out."""


class Range(Block):
    """Numbers from low to high, both included."""

    low: int | float
    high: int | float
    log: bool = False
    step: Annotated[int | float, Field(gt=0)] | None = None


class Choices(Block):
    choices: Annotated[list[Scalar], Field(min_length=1)]


class Pruning(Block):
    kind: Literal["median", "asha"]
    reports: Annotated[int, Field(ge=2)] = 8
    """Times during training that the held-out frames are looked at."""
    startup_trials: Annotated[int, Field(ge=0)] = 4
    """median: trials that end before any is pruned."""
    warmup_reports: Annotated[int, Field(ge=0)] = 1
    """median: reports of a trial that are not judged."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """asha: one trial in so many goes on past each rung."""


class SweepFile(Block):
    """What the file may hold."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = ""
    """Name of the study; the file's own where it is absent."""
    trials: PositiveInt = 20
    seed: Annotated[int, Field(ge=0)] = 0
    slots: Workers = Workers()
    """Ray resources of one trial, and how many trials run side by side (0: as many as there is room for)."""
    sampler: Literal["tpe", "random"] = "tpe"
    objectives: list[Objective] = Field(["psnr"], min_length=1)
    pruning: Pruning | None = None
    space: Annotated[dict[str, Any], Field(min_length=1)]
    fixed: dict[str, Scalar] = Field({})
    """Values that every trial has in place of params.yaml's, such as fewer steps."""
    subjects: list[str] = Field([])
    """Whom trials train on; everybody where it is empty."""
    watched_frames: PositiveInt = 16
    """Held-out frames of a subject that are looked at during training; the final figures take evaluate.max_frames."""
    storage: str = ""
    """postgresql://USER@HOST/NAME or the path of a journal file; .headwater/sweeps/STUDY.journal where it is absent."""


@dataclass(frozen=True)
class Sweep:
    """A sweep that can run: its file, its study's name and its search space as Optuna has it."""

    path: Path
    name: str
    file: SweepFile
    space: Mapping[str, Any]
    """Dotted parameter -> Optuna distribution, sorted by name."""
    base: Params
    """params.yaml with the sweep's fixed values."""

    def params_of(self, values: Mapping[str, Scalar]) -> Params:
        """All parameters of a trial. Raises SweepError for values that do not go together."""
        return with_values(self.base, values)

    @property
    def touches_preprocess(self) -> bool:
        """Whether trials need tracks of their own."""
        return any(name.startswith("preprocess.") for name in (*self.space, *self.file.fixed))

    @property
    def reports(self) -> int:
        return self.file.pruning.reports if self.file.pruning else Pruning(kind="median").reports

    @property
    def watched(self) -> str:
        """The figure that is reported during training."""
        return next((name for name in self.file.objectives if name in KNOWN_DURING_TRAINING), "psnr")


def load_sweep(path: Path, params: Params) -> Sweep:
    """Reads and checks a sweep's file. Raises SweepError with the file, the place, the value and the way out."""
    try:
        raw = read_yaml(path)
    except FileNotFoundError:
        known = ", ".join(str(found) for found in sweep_files(path.parent)) or "none"
        raise SweepError(f"{path}: not found; sweeps in that folder: {known}") from None
    except YamlFileError as error:
        raise SweepError(str(error)) from None
    if not isinstance(raw, dict):
        raise SweepError(f"{path}: expected a mapping with `space: ...`, found {type(raw).__name__}")
    try:
        file = SweepFile.model_validate(raw)
    except ValidationError as error:
        raise SweepError(f"{path}: " + "; ".join(explain(detail, SweepFile) for detail in error.errors())) from None
    name = file.study or path.stem
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise SweepError(f"{path}: {name!r} can be no study's name; add `study: NAME` of letters, digits, '-' and '_'")
    try:
        base = _base(params, file)
        space = {key: _distribution(key, file.space[key], base) for key in sorted(file.space)}
        _check_objectives(file)
    except SweepError as error:
        raise SweepError(f"{path}: {error}") from None
    return Sweep(path, name, file, space, base)


def sweep_files(folder: Path) -> list[Path]:
    """The sweeps of a folder; what sweeps leave beside them has a second dot in its name."""
    return sorted(path for path in folder.glob("*.yaml") if "." not in path.stem)


def with_values(base: Params, values: Mapping[str, Scalar]) -> Params:
    """Params with dotted values replaced. Raises SweepError with the place, the value and what is wrong with it."""
    try:
        return Params.model_validate(_laid_over(base.model_dump(), values))
    except ValidationError as error:
        raise SweepError("; ".join(explain(detail, Params) for detail in error.errors())) from None


def value_of(params: Params, key: str) -> Any:
    return flatten(params.model_dump())[key]


def _laid_over(blocks: dict[str, Any], values: Mapping[str, Scalar]) -> dict[str, Any]:
    for key, value in values.items():
        *parents, last = key.split(".")
        block = blocks
        for part in parents:
            inner = block.setdefault(part, {})
            if not isinstance(inner, dict):
                raise SweepError(f"{key}: {part} is one value and holds no others")
            block = inner
        block[last] = value
    return blocks


def _base(params: Params, file: SweepFile) -> Params:
    for key, value in file.fixed.items():
        _check_key(key, params)
        _check_value(key, value, params, "fixed")
    both = sorted(file.fixed.keys() & file.space.keys())
    if both:
        raise SweepError(f"{', '.join(both)}: in `space` and in `fixed`; take it out of one")
    return with_values(params, file.fixed)


def _check_key(key: str, params: Params) -> None:
    """Raises SweepError for a parameter that is none, or that no trial may change."""
    known = flatten(params.model_dump())
    block = key.partition(".")[0]
    if block in BLOCKS_NOT_SEARCHED:
        raise SweepError(f"{key} cannot be searched: {BLOCKS_NOT_SEARCHED[block]}. Searched are: {', '.join(SEARCHED)}")
    for name, reason in NOT_SEARCHED.items():
        if key == name or key.startswith(f"{name}."):
            raise SweepError(f"{key} cannot be searched: {reason}")
    if key not in known:
        searched = [name for name in known if name.startswith(SEARCHED) and name not in NOT_SEARCHED]
        raise SweepError(f"unknown parameter {key!r}. {did_you_mean(key, searched)}")


def _check_value(key: str, value: Scalar, params: Params, where: str) -> None:
    try:
        with_values(params, {key: value})
    except SweepError as error:
        raise SweepError(f"{where}: {error}") from None


def _distribution(key: str, entry: Any, base: Params) -> Any:
    """An Optuna distribution. Raises SweepError."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    _check_key(key, base)
    place = f"space.{key}"
    if isinstance(entry, list):
        entry = {"choices": entry}
    if not isinstance(entry, dict):
        raise SweepError(f"{place} = {entry!r}: a range {{low: 1, high: 2}} or a list of values was expected")
    kind: type[Choices | Range] = Choices if "choices" in entry else Range
    try:
        parsed = kind.model_validate(entry)
    except ValidationError as error:
        lines = (explain(detail, kind) for detail in error.errors())
        raise SweepError(f"{place}: " + "; ".join(lines)) from None
    if isinstance(parsed, Choices):
        for value in parsed.choices:
            _check_value(key, value, base, place)
        if len(set(map(repr, parsed.choices))) < len(parsed.choices):
            raise SweepError(f"{place}: a value stands twice")
        return CategoricalDistribution(parsed.choices)
    current = value_of(base, key)
    if isinstance(current, bool) or not isinstance(current, int | float):
        raise SweepError(f"{place}: {key} is no number; give a list of values, such as [{current}]")
    for value in (parsed.low, parsed.high):
        _check_value(key, value, base, place)
    try:
        if isinstance(current, int):
            return IntDistribution(int(parsed.low), int(parsed.high), log=parsed.log, step=_whole(parsed.step))
        return FloatDistribution(float(parsed.low), float(parsed.high), log=parsed.log, step=parsed.step)
    except ValueError as error:
        raise SweepError(f"{place}: {' '.join(str(error).split())}") from None


def _whole(step: int | float | None) -> int:
    if step is not None and step != int(step):
        raise ValueError(f"step = {step}, but the parameter is a whole number")
    return int(step or 1)


def _check_objectives(file: SweepFile) -> None:
    names: Sequence[str] = file.objectives
    if len(set(names)) < len(names):
        raise SweepError(f"objectives: {', '.join(names)}: one stands twice")
    if file.pruning and (len(names) > 1 or names[0] not in KNOWN_DURING_TRAINING):
        raise SweepError(
            f"pruning needs one objective that is known during training ({' or '.join(KNOWN_DURING_TRAINING)}), "
            f"objectives are {', '.join(names)}: take `pruning` out, or the other objectives"
        )
