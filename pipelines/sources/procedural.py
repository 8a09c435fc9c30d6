"""Made-up people: a recipe names them, and each is filmed into an mp4 of its own, through the fan-out.

From there on they are videos like any other. Beside each lies NAME.truth.npz with what was filmed, for tests to compare with.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError

from pipelines.cache import Entry, EntryWriter
from pipelines.fanout import FanOutResult, Item, Step, run_and_assemble
from pipelines.keys import digest
from pipelines.params import Block, Compute, explain
from pipelines.sources import Listing, SourceError, VideoClip, safe_name
from pipelines.yaml_files import YamlFileError, read_yaml

VERSION = 4
VIDEOS = Path("data/catalog/videos")


class Role(Block):
    """One made-up person's part."""

    name: Annotated[str, Field(min_length=1)]
    seed: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(gt=0, le=3600)]
    fps: Annotated[float, Field(gt=0, le=240)]
    size: Annotated[int, Field(ge=64, le=4096, multiple_of=2)]
    """Side of the picture in pixels."""

    @property
    def frames(self) -> int:
        return round(self.seconds * self.fps)


class Recipe(Block):
    people: Annotated[list[Role], Field(min_length=1)]


def read_recipe(path: Path) -> list[Role]:
    """The people of a recipe. Raises SourceError that names what is wrong."""
    try:
        roles = Recipe.model_validate(read_yaml(path)).people
    except FileNotFoundError:
        raise SourceError(f"source.path {path}: no such recipe") from None
    except YamlFileError as error:
        raise SourceError(f"source.path {error}") from None
    except ValidationError as error:
        raise SourceError(f"source.path {path}: " + "; ".join(explain(detail, Recipe) for detail in error.errors())) from None
    for role in roles:
        if role.frames < 2:
            raise SourceError(f"source.path {path}: {role.name} has {role.frames} frames, two are needed at least")
    names = [safe_name(role.name) for role in roles]
    if len(set(names)) != len(names):
        raise SourceError(f"source.path {path}: names must differ, found {', '.join(names)}")
    return roles


def list_people(path: Path) -> Listing:
    """The clips of a recipe, where `film_people` has put them."""
    roles = read_recipe(path)
    return Listing(
        [
            VideoClip(safe_name(role.name), safe_name(role.name), "cam0", VIDEOS / f"{safe_name(role.name)}.mp4")
            for role in roles
        ]
    )


class FilmPerson:
    """Films one person into video.mp4 and truth.npz."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        pass

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        from avatar_models.people import camera_for, film, make_person, perform, posed_vertices, viewmats
        from pipelines.video import write_video

        role = Role.model_validate(item.payload["role"])
        person = make_person(role.seed)
        performance = perform(role.seed, role.frames, role.fps)
        K, distance = camera_for(role.size)
        views = viewmats(performance, distance)
        with tempfile.TemporaryDirectory() as folder:
            pictures = (film(person, performance, frame, role.size, views[frame], K) for frame in range(len(performance)))
            write_video(Path(folder) / "video.mp4", pictures, role.fps)
            np.savez_compressed(
                Path(folder) / "truth.npz", K=K, viewmat=views, identity=person.identity, expression=performance.expression,
                neck=np.zeros_like(performance.jaw), jaw=performance.jaw, eyes=performance.eyes,
                vertices=np.stack([posed_vertices(person, performance, frame) for frame in range(0, len(performance), 10)]),
            )  # fmt: skip
            for name in ("video.mp4", "truth.npz"):
                out.write_file(name, Path(folder) / name)
        return {"frames": len(performance)}


def film_people(path: Path, compute: Compute) -> FanOutResult:
    """Films the people of a recipe into data/catalog/videos."""
    roles = read_recipe(path)
    items = [Item(safe_name(role.name), digest(role.as_key()), {"role": role.as_key()}, frames=role.frames) for role in roles]

    def assemble(result: FanOutResult) -> None:
        for name in result.entries:
            result.last(name).copy_to("video.mp4", VIDEOS / f"{name}.mp4")
            result.last(name).copy_to("truth.npz", VIDEOS / f"{name}.truth.npz")

    result, _ = run_and_assemble(
        "film",
        [Step("film", VERSION, FilmPerson, {}, compute.decode)],
        items,
        assemble,
        compute=compute,
        things="people",
    )
    return result
