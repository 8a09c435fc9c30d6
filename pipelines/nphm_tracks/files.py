"""The user's clouds of points: FOLDER/SUBJECT/SEQUENCE/FRAME.ply, such as COLMAP's fused.ply of each time step.

SEQUENCE is the catalog's, or the clip's id where it has none; FRAME is the number in the source video, 00012.ply or 12.ply.
Points are metres in the frame that the sequence's cameras are calibrated in, or in the linear head's where they are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from avatar_models.ply import read_points
from pipelines import tables
from pipelines.atomic import sha256_file
from pipelines.fanout import ItemRejected
from pipelines.keys import digest
from pipelines.nphm_tracks.performances import Performance
from pipelines.nphm_tracks.surfaces import SomeClouds
from pipelines.subject import CATALOG_FILE, Tables, find_segment


@dataclass(frozen=True)
class Origin:
    """Where a segment comes from."""

    sequence: str
    viewmat: NDArray[np.float64] | None  # (4, 4) of a calibrated camera


class CloudFiles:
    """Clouds below a folder, for the clips of a project."""

    def __init__(self, folder: Path, data: Tables, root: Path) -> None:
        self.folder, self.data = folder, data
        self.catalog = tables.read_table(root / CATALOG_FILE, tables.CATALOG)

    def origin(self, clip: str) -> Origin:
        name = find_segment(self.data, clip)["catalog_clip_id"]
        (row,) = self.catalog.filter(pc.equal(self.catalog["clip_id"], name)).to_pylist()
        known = row["viewmat"]
        return Origin(row["sequence"] or name, None if known is None else np.reshape(known, (4, 4)))

    def clouds(self, subject: str, performance: Performance) -> SomeClouds:
        """Of each step that has a file, with normals where all files have some. Raises ItemRejected for no cloud."""
        origins = {clip: self.origin(clip) for clip in performance.clips}
        files = self.numbered(self.folder / subject / next(iter(origins.values())).sequence)
        found = [self.at(files, origins, performance, step) for step in range(len(performance))]
        points = [one for one, _ in found]
        if any(len(one) and normals is None for one, normals in found):
            return points, None
        return points, [points[step] if normals is None else normals for step, (_, normals) in enumerate(found)]

    def at(
        self, files: dict[int, Path], origins: dict[str, Origin], performance: Performance, step: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One step's points and normals in the linear head's frame; none where there is no file."""
        clip, row = performance.seen_at(step)[0]
        tracks = performance.clips[clip]
        file = files.get(int(tracks.frames[row]))
        if file is None:
            return torch.zeros(0, 3), None
        try:
            points, normals = read_points(file)
        except (OSError, ValueError) as error:
            raise ItemRejected("bad_cloud", str(error)) from None
        known = origins[clip].viewmat
        to_head = np.eye(4) if known is None else np.linalg.inv(tracks.viewmat[row].astype(np.float64)) @ known
        kept = np.isfinite(points).all(1) & (True if normals is None else np.isfinite(normals).all(1))
        placed = points[kept] @ to_head[:3, :3].T + to_head[:3, 3]
        turned = None if normals is None else torch.from_numpy(normals[kept] @ to_head[:3, :3].T).float()
        return torch.from_numpy(placed).float(), turned

    def numbered(self, folder: Path) -> dict[int, Path]:
        """The clouds of a sequence by their frames."""
        return {int(file.stem): file for file in sorted(folder.glob("*.ply")) if file.stem.isdecimal()}

    def content(self, subject: str) -> str:
        """A digest of all that a subject's clouds say."""
        files = sorted((self.folder / subject).glob("*/*.ply"))
        rows: pa.Table = self.catalog.filter(pc.equal(self.catalog["subject_id"], subject))
        origins = [[row[name] for name in ("clip_id", "sequence", "viewmat")] for row in rows.to_pylist()]
        return digest([[[file.parent.name, file.name, sha256_file(file)] for file in files], origins])
