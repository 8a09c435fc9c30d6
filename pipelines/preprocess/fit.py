"""The second step of preprocess: fit the head to each segment of a clip by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from avatar_models.tracking.fit import fit_clip
from pipelines.cache import Entry, EntryWriter
from pipelines.fanout import Item
from pipelines.preprocess.segment import FitWriter, read_segment, stored_pictures

VERSION = 5


class FitClip:
    """Fits one clip's segments per call."""

    def __init__(self, params: Mapping[str, Any], head_file: str, head_hash: str) -> None:
        """Raises HeadError where this machine's head is not the one, of that hash, that the results are kept under."""
        self.writer = FitWriter.of(params, head_file, head_hash)
        self.iterations, self.smoothness = int(params["fit_iterations"]), float(params["fit_smoothness"])
        self.photometric = bool(params["fit_photometric"])
        torch.set_num_threads(1)

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        assert upstream is not None
        numbers = range(len(upstream.summary["segments"]))
        with threadpool_limits(1):  # sums in another order with each number of threads, and so other bits
            rows, spans = zip(*[self.segment(item, upstream, number, out) for number in numbers], strict=True)
        return {"segments": list(rows), "spans": list(spans)}

    def segment(self, item: Item, upstream: Entry, number: int, out: EntryWriter) -> tuple[dict[str, Any], tuple[float, float]]:
        """Fits and writes one segment; its row, and its first and last time in seconds."""
        seen = read_segment(item.payload, upstream, number)
        width, height = upstream.summary["source_size"]
        fit = fit_clip(
            self.writer.head, seen.points, seen.crop, (width, height), iterations=self.iterations,
            smoothness=self.smoothness, times=seen.times, blendshapes=seen.blendshapes,
            pictures=stored_pictures(upstream, number) if self.photometric else None,
        )  # fmt: skip
        return self.writer.write(seen, fit, fit.reprojection, out, str(number)), (float(seen.times[0]), float(seen.times[-1]))
