"""Made-up people: a recipe names them, and each is filmed into an mp4 of its own, through the fan-out.

From there on they are videos like any other. Beside each lies NAME.truth.npz with what was filmed, for tests to compare with.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipelines.cache import Entry, EntryWriter
from pipelines.fanout import FanOutResult, Item, Step, run_and_assemble
from pipelines.keys import digest
from pipelines.params import Compute
from pipelines.sources import Listing, SourceError, VideoClip, safe_name

VERSION = 2
VIDEOS = Path("data/catalog/videos")
FIELDS = {"name": str, "seed": int, "seconds": float, "fps": float, "size": int}


@dataclass(frozen=True)
class Role:
    """One made-up person's part."""

    name: str
    seed: int
    seconds: float
    fps: float
    size: int


def read_recipe(path: Path) -> list[Role]:
    """The people of a recipe. Raises SourceError that names what is wrong."""
    try:
        people = yaml.safe_load(path.read_text(encoding="utf-8"))["people"]
    except FileNotFoundError:
        raise SourceError(f"source.path {path}: no such recipe") from None
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise SourceError(f"source.path {path}: expected a list `people:` ({error})") from None
    roles = []
    for person in people:
        if set(person) != set(FIELDS):
            raise SourceError(f"source.path {path}: a person has the fields {', '.join(FIELDS)}, this one {', '.join(person)}")
        values = {name: kind(person[name]) for name, kind in FIELDS.items()}
        if values["seconds"] * values["fps"] < 2 or values["size"] < 64:
            raise SourceError(f"source.path {path}: {values['name']} needs two frames at least, of 64 pixels at least")
        roles.append(Role(**values))
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

        role = Role(**item.payload["role"])
        person = make_person(role.seed)
        performance = perform(role.seed, round(role.seconds * role.fps), role.fps)
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
    items = [
        Item(safe_name(role.name), digest(role.__dict__), {"role": role.__dict__}, frames=round(role.seconds * role.fps))
        for role in roles
    ]

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
