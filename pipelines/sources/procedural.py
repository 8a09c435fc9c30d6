"""Made-up people: a recipe names them, and each is filmed by one or more cameras into mp4s, through the fan-out.

From there on they are videos like any other. Beside each lies NAME.truth.npz with what was filmed, for tests to compare with.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from pipelines.cache import Entry, EntryWriter
from pipelines.fanout import FanOutResult, Item, Step, run_and_assemble
from pipelines.keys import digest
from pipelines.params import Block, Compute, explain
from pipelines.sources import KnownCamera, Listing, SourceError, VideoClip, safe_name
from pipelines.yaml_files import YamlFileError, read_yaml

VERSION = 4
VIDEOS = Path("data/catalog/videos")
ANOTHER = 1_000_003
"""Between the seeds of a person's performances."""


class Role(Block):
    """One made-up person's part."""

    name: Annotated[str, Field(min_length=1)]
    seed: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(gt=0, le=3600)]
    fps: Annotated[float, Field(gt=0, le=240)]
    size: Annotated[int, Field(ge=64, le=4096, multiple_of=2)]
    """Side of the picture in pixels."""
    cameras: Annotated[int, Field(ge=1, le=64)] = 1
    """That film the same at the same time, with a known calibration where there is more than one."""
    sequences: Annotated[int, Field(ge=1, le=100)] = 1
    """Performances, each of the same length."""

    @property
    def frames(self) -> int:
        return round(self.seconds * self.fps)

    def shots(self) -> list[Shot]:
        """What each camera films of each performance."""
        return [Shot(self, sequence, camera) for sequence in range(self.sequences) for camera in range(self.cameras)]


@dataclass(frozen=True)
class Shot:
    """One camera's video of one performance."""

    role: Role
    sequence: int
    camera: int

    @property
    def name(self) -> str:
        """The person's, where there is but one video of it."""
        person = safe_name(self.role.name)
        return person if self.role.cameras * self.role.sequences == 1 else f"{person}-s{self.sequence}-cam{self.camera}"

    @property
    def payload(self) -> dict[str, Any]:
        return {"role": self.role.as_key(), "sequence": self.sequence, "camera": self.camera}

    @property
    def fingerprint(self) -> str:
        """Of what is filmed. That of a person's only video is what it was when there was no other kind."""
        role = self.role.as_key()
        cameras, sequences = role.pop("cameras"), role.pop("sequences")
        return digest(role if cameras * sequences == 1 else self.payload)

    @property
    def performance_seed(self) -> int:
        return self.role.seed + ANOTHER * self.sequence

    @property
    def from_front(self) -> NDArray[np.float64]:
        """The front camera's frame, which is the world, to this camera's: (4, 4)."""
        from avatar_models.people import camera_for, cameras_around

        return cameras_around(self.role.cameras, camera_for(self.role.size)[1])[self.camera]

    def clip(self) -> VideoClip:
        person, video = safe_name(self.role.name), VIDEOS / f"{self.name}.mp4"
        if self.role.cameras == 1:
            return VideoClip(self.name, person, "cam0", video)
        from avatar_models.people import camera_for

        K, size = camera_for(self.role.size)[0], self.role.size
        known = KnownCamera(tuple(K.ravel().tolist()), tuple(self.from_front.ravel().tolist()), size, size)
        return VideoClip(self.name, person, f"cam{self.camera}", video, sequence=f"s{self.sequence}", known_camera=known)


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
    videos = [shot.name for role in roles for shot in role.shots()]
    if len(set(names)) != len(names) or len(set(videos)) != len(videos):
        raise SourceError(f"source.path {path}: names must differ, found {', '.join(names)}")
    return roles


def list_people(path: Path) -> Listing:
    """The clips of a recipe, where `film_people` has put them."""
    roles = read_recipe(path)
    return Listing([shot.clip() for role in roles for shot in role.shots()])


class FilmPerson:
    """Films one video of one person into video.mp4 and truth.npz."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        pass

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        from avatar_models.people import camera_for, film, make_person, perform, posed_vertices, viewmats
        from pipelines.video import write_video

        role = Role.model_validate(item.payload["role"])
        person = make_person(role.seed)
        shot = Shot(role, item.payload.get("sequence", 0), item.payload.get("camera", 0))
        performance = perform(shot.performance_seed, role.frames, role.fps)
        K, distance = camera_for(role.size)
        front = viewmats(performance, distance)
        views = shot.from_front @ front
        with tempfile.TemporaryDirectory() as folder:
            pictures = (
                film(person, performance, frame, role.size, views[frame], K, front[frame]) for frame in range(len(performance))
            )
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
    items = [Item(shot.name, shot.fingerprint, shot.payload, frames=role.frames) for role in roles for shot in role.shots()]

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
