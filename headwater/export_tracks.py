"""A tracked clip as a folder that other projects read."""

from __future__ import annotations

from pathlib import Path

from headwater.layouts import Layout
from pipelines.formats.clip import centred, tracked_clip
from pipelines.formats.fields import FormatError
from pipelines.formats.gagavatar_track import write_gagavatar_track
from pipelines.formats.insta import write_insta
from pipelines.formats.vhap import write_vhap
from pipelines.params import load_params
from pipelines.subject import read_tables


class ExportError(ValueError):
    """The clip cannot be written; the message names what is wrong and the way out."""


def export_to_folder(clip_id: str, layout: Layout, folder: Path) -> list[str]:
    """Writes a segment of this project's tables into a new folder; returns what there is to tell, a line each.

    Raises ExportError, UnknownSegment, ParamsError, SchemaError, DiskFull, OSError.
    """
    fraction = load_params().catalog.test_fraction
    try:
        clip, head, stored = tracked_clip(read_tables(), clip_id, fraction)
        clip, pictures = centred(clip, stored)
        test = int(clip.held_out.sum())
        told = [f"wrote {folder}: {len(clip)} frames of {clip_id}, {len(clip) - test} train and {test} test"]
        if layout is Layout.GAGAVATAR:
            apart = write_gagavatar_track(folder, clip, pictures, head)
            told.append(f"its fixed lens sees the head {apart:.1f} pixels of 512 from where ours does (median)")
        else:
            write = write_vhap if layout is Layout.VHAP else write_insta
            write(folder, clip, pictures, head)
    except FormatError as error:
        raise ExportError(str(error)) from None
    except FileExistsError:
        raise ExportError(f"{folder}: is there already; name a folder that is not, or take this one away") from None
    if not clip.head.startswith("flame"):
        told.append(
            f"the coefficients are those of the head {clip.head}: what poses FLAME can use the pictures and cameras, "
            "not the expressions"
        )
    return told
