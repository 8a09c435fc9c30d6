"""The first step of preprocess: decode, find the face and its landmarks, split into segments, crop, matte, encode.

The crop's scale is known only when a segment has been seen to its end. Decoded pictures are kept until then as far as the
buffer reaches; the rest of a long clip is decoded a second time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from avatar_models.tracking.crop import CropPath, crop_path, cut_crop, inside_picture
from avatar_models.tracking.detect import FaceTracker, Observation
from avatar_models.tracking.landmarker_file import LandmarkerError, read_landmarker
from avatar_models.tracking.matte import Matter
from avatar_models.tracking.segments import Segment, colour_histogram, histogram_distance, split_segments
from pipelines import tables
from pipelines.cache import Entry, EntryWriter
from pipelines.decode import Decoder, open_decoder, pick_frames
from pipelines.fanout import Item, ItemRejected
from pipelines.params import Preprocess
from pipelines.png import png_bytes
from pipelines.probe import probe_video
from pipelines.video_facts import ProbeError, VideoFacts

VERSION = 5
MATTE_COMPRESSION = 1  # PNG level: higher ones cost more time than they save room


@dataclass
class Seen:
    """What the first pass over a clip's kept frames found. N kept frames."""

    times: NDArray[np.float64]  # (N,)
    indices: NDArray[np.int64]  # (N,) in the video
    observations: list[Observation | None] = field(default_factory=list)
    cuts: list[bool] = field(default_factory=list)
    held: dict[int, NDArray[np.uint8]] = field(default_factory=dict)  # row -> picture


class ObserveClip:
    """Does one clip per call; nothing passes from clip to clip."""

    def __init__(
        self, params: Mapping[str, Any], buffer_bytes: int, landmarker_file: str = "", landmarker_hash: str = ""
    ) -> None:
        """Raises LandmarkerError where this machine's task is not the one, of that hash, that the results are kept under."""
        self.task = read_landmarker(Path(landmarker_file)) if landmarker_file else None
        if self.task is not None and hashlib.sha256(self.task).hexdigest() != landmarker_hash:
            raise LandmarkerError(f"preprocess.landmarker_file {landmarker_file}: another file here than where the run began")
        fields = {name: params[name] for name in params if name in Preprocess.model_fields}
        self.options = Preprocess.model_validate(fields)
        self.buffer_bytes = buffer_bytes
        cv2.setNumThreads(1)

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        clip = item.payload
        path = Path(clip["source"])
        try:
            facts = probe_video(path)
        except ProbeError as error:
            raise ItemRejected(error.reason, error.message) from None
        decoder = open_decoder(path, facts, self.buffer_bytes)
        seen = self.look(decoder, facts, clip)
        if not seen.observations:
            raise ItemRejected("undecodable", f"no frame of {clip['frame_start']} to {clip['frame_end']} could be decoded")
        found = [observation is not None for observation in seen.observations]
        segments = split_segments(seen.times, found, seen.cuts, self.options.max_gap_s)
        if not segments:
            raise ItemRejected("no_face", f"no face in any of {len(found)} frames")
        pictures = self.replay(decoder, seen)
        summary = []
        for number, segment in enumerate(segments):
            clip_id = clip["clip_id"] if len(segments) == 1 else f"{clip['clip_id']}~{number + 1}"
            summary.append(self.store(out, number, clip_id, segment, seen, pictures))
        whole = clip["frame_end"] - clip["frame_start"]
        return {
            "segments": summary,
            "decoder": decoder.name,
            "source_size": [facts.width, facts.height],
            "frames": {"in_clip": whole, "decoded": len(found), "with_face": int(sum(found))},
        }

    def look(self, decoder: Decoder, facts: VideoFacts, clip: Mapping[str, Any]) -> Seen:
        """The first pass: faces and cuts of the frames that are kept of the clip."""
        span = slice(clip["frame_start"], clip["frame_end"])
        wanted = pick_frames(facts.times[span], self.options.max_fps, self.options.max_frames) + clip["frame_start"]
        indices: list[int] = []
        seen = Seen(np.empty(0), np.empty(0, np.int64))
        room = self.buffer_bytes
        before: NDArray[np.float32] | None = None
        region = tuple(clip["crop"]) if clip["crop"] else None
        with closing(FaceTracker(self.options.max_gap_s, region, self.task)) as tracker:
            for index, picture in decoder.frames(wanted.tolist()):
                colours = colour_histogram(picture)
                cut = before is not None and histogram_distance(before, colours) > self.options.cut_threshold
                before = colours
                if cut:
                    tracker.restart()
                seen.cuts.append(cut)
                seen.observations.append(tracker.observe(picture, float(facts.times[index])))
                if room >= picture.nbytes and len(seen.held) == len(indices):  # the first rows, without a hole
                    seen.held[len(indices)] = picture
                    room -= picture.nbytes
                indices.append(index)
        seen.indices = np.asarray(indices, np.int64)
        seen.times = facts.times[seen.indices] if indices else np.empty(0)
        return seen

    def replay(self, decoder: Decoder, seen: Seen) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(row, picture) of all kept frames again, in order: from the buffer, then from the decoder."""
        held = len(seen.held)  # the first rows: the buffer fills from the start
        for row in range(held):
            yield row, seen.held.pop(row)
        if held < len(seen.indices):
            rest = seen.indices[held:]
            for index, picture in decoder.frames(rest.tolist()):
                yield int(np.searchsorted(seen.indices, index)), picture

    def store(
        self,
        out: EntryWriter,
        number: int,
        clip_id: str,
        segment: Segment,
        seen: Seen,
        pictures: Iterator[tuple[int, NDArray[np.uint8]]],
    ) -> dict[str, Any]:
        """Crops, mattes and encodes one segment's frames; writes its frames and landmarks."""
        rows = [row for row in range(segment.start, segment.stop) if seen.observations[row] is not None]
        observed = [observation for row in rows if (observation := seen.observations[row]) is not None]
        points = np.stack([observation.points for observation in observed])
        crop = self.options.crop
        path = crop_path(points, seen.times[rows], scale=crop.scale, smooth_s=crop.smooth_s, size=crop.side)
        shape: tuple[int, ...] = ()
        images: list[bytes] = []
        mattes: list[bytes] = []
        place = {row: k for k, row in enumerate(rows)}
        with closing(Matter()) as matter:
            for row, picture in pictures:
                if row in place:
                    image, matte = self.encode(picture, path, place[row], matter)
                    shape = picture.shape
                    images.append(image)
                    mattes.append(matte)
                if row >= rows[-1]:
                    break
        names = [clip_id] * len(rows)
        indices, times = seen.indices[rows], seen.times[rows]
        columns = {
            "clip_id": names,
            "frame": indices,
            "time": times,
            "image": images,
            "matte": mattes,
            "crop": path.transforms().tolist(),
            "picture": path.picture(shape).tolist(),
        }
        out.write_table(f"frames-{number}", pa.table(columns, schema=tables.FRAMES))
        landmarks = {
            "clip_id": names,
            "frame": indices,
            "points": path.to_crop(points).reshape(len(rows), -1).tolist(),
            "blendshapes": [None if seen.blendshapes is None else seen.blendshapes.tolist() for seen in observed],
            "confidence": np.array([observation.confidence for observation in observed], np.float32),
        }
        out.write_table(f"landmarks-{number}", pa.table(landmarks, schema=tables.LANDMARKS))
        return {
            "clip_id": clip_id,
            "coverage": segment.coverage,
            "num_frames": len(rows),
            "rows": [int(rows[0]), int(rows[-1]) + 1],
        }

    def encode(self, picture: NDArray[np.uint8], path: CropPath, k: int, matter: Matter) -> tuple[bytes, bytes]:
        """The k-th crop as JPEG and its matte as PNG."""
        size = path.size
        image = cut_crop(picture, path.origins[k], path.side, size)
        matte = matter.matte(image, inside_picture(picture.shape, path.origins[k], path.side, size))
        quality = [cv2.IMWRITE_JPEG_QUALITY, self.options.jpeg_quality]
        jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1].tobytes()
        return jpeg, png_bytes(matte, MATTE_COMPRESSION)
