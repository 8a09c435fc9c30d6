"""Cameras and sequences of a capture that are for judging alone: their clips' split becomes `test`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pipelines.nearest import did_you_mean
from pipelines.params import Catalog
from pipelines.sources import Listing, SourceError


def hold_out(listing: Listing, options: Catalog) -> Listing:
    """The listing with the clips of these cameras and sequences held out. Raises SourceError for a name that no clip has, and
    where somebody has no clip left to train on.
    """
    cameras, sequences = options.held_out_cameras, options.held_out_sequences
    expect_names("catalog.held_out_cameras", cameras, (clip.camera_id for clip in listing.clips))
    expect_names("catalog.held_out_sequences", sequences, (clip.sequence for clip in listing.clips))
    clips = [
        replace(clip, split="test") if clip.camera_id in cameras or clip.sequence in sequences else clip
        for clip in listing.clips
    ]
    without = sorted({clip.subject_id for clip in clips} - {clip.subject_id for clip in clips if clip.split != "test"})
    if (cameras or sequences) and without:
        raise SourceError(f"catalog.held_out_cameras and held_out_sequences leave {without} no clip to train on; name fewer")
    return replace(listing, clips=clips)


def expect_names(key: str, wanted: Iterable[str], there: Iterable[str | None]) -> None:
    known = sorted({name for name in there if name is not None})
    for name in wanted:
        if name not in known:
            raise SourceError(f"{key}: no clip has {name!r}. {did_you_mean(name, known, 'No clip has any')}")
