"""Tables of a dataset of VFHQ's size: what those who read all of them take, each in a process of its own.

    python -m bench.many_clips [CLIPS]

Made-up tracks of 15,000 clips of 200 frames with FLAME's 100 expressions, each clip a subject.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import tables
from pipelines.frames import INDEX, INDEX_SCHEMA
from pipelines.oneshot.pairs import frames_of
from pipelines.preprocess.assemble import write_parts
from pipelines.splits import subjects_that_passed
from pipelines.subject import FRAMES_FOLDER, TRACKS_FOLDER, read_tables
from pipelines.training_items import training_items

FRAMES, EXPRESSIONS, IDENTITIES = 200, 100, 300
HEAD, HASH = "flame", "0" * 64


def write(root: Path, clips: int) -> None:
    """The tables that training reads."""
    random = np.random.default_rng(0)
    names = [f"clip_{number:06d}" for number in range(clips)]
    same = one_clip(random)

    def parts() -> Iterator[tuple[str, pa.Table]]:
        for name in names:
            own = same.append_column("clip_id", pa.array([name]).take(pa.array(np.zeros(FRAMES, np.int64))))
            yield name, own.select(tables.TRACKS.names)

    folder = root / TRACKS_FOLDER
    write_parts(parts(), tables.TRACKS, folder / "tracks.parquet")
    of_each = {"clip_id": names, "subject_id": names, "head": [HEAD] * clips, "head_hash": [HASH] * clips}
    identities = pa.table({**of_each, "identity": vectors(random, clips, IDENTITIES)}).select(tables.IDENTITIES.names)
    tables.write_table(identities, tables.IDENTITIES, folder / "identities.parquet")
    segment = {
        "camera_id": "0", "split": "train", "frame_start": 0, "frame_end": FRAMES, "fps": 25.0, "num_frames": FRAMES,
        "num_good": FRAMES, "reprojection": 0.01, "jitter": 0.01, "coverage": 1.0, "passed": True, "reason": "",
    }  # fmt: skip
    rows = [{"clip_id": name, "catalog_clip_id": name, "subject_id": name, "fingerprint": name, **segment} for name in names]
    tables.write_table(pa.Table.from_pylist(rows, tables.SEGMENTS), tables.SEGMENTS, folder / "segments.parquet")
    index = {"clip_id": names, "shard": ["0.arrow"] * clips, "batch": range(clips), "num_rows": [FRAMES] * clips}
    tables.write_table(pa.table(index).cast(INDEX_SCHEMA), INDEX_SCHEMA, root / FRAMES_FOLDER / INDEX)


def one_clip(random: np.random.Generator) -> pa.Table:
    """A clip's tracks without its name."""
    sizes = {"K": 9, "viewmat": 16, "neck": 3, "jaw": 3, "eyes": 6, "expression": EXPRESSIONS}
    figures = dict.fromkeys(("reprojection", "jitter", "coverage", "confidence"), np.full(FRAMES, 0.01, np.float32))
    return pa.table(
        {
            **{name: vectors(random, FRAMES, size) for name, size in sizes.items()},
            **figures,
            "frame": np.arange(FRAMES),
            "time": np.arange(FRAMES) / 25,
            "good": np.ones(FRAMES, bool),
            "head": [HEAD] * FRAMES,
            "head_hash": [HASH] * FRAMES,
        }
    )


def vectors(random: np.random.Generator, count: int, size: int) -> pa.Array:
    values: NDArray[np.float32] = random.normal(size=count * size).astype(np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(values), size)


def one_of_the_processes_that_train(root: Path) -> int:
    data = read_tables(root)
    return len(frames_of(data, subjects_that_passed(data.segments)))


def items_of_avatars(root: Path) -> int:
    return len(training_items(root))


def a_judge_of_one_subject(root: Path) -> int:
    return len(read_tables(root, subjects=["clip_000000"]).tracks)


READERS: dict[str, Callable[[Path], int]] = {
    reader.__name__: reader for reader in (one_of_the_processes_that_train, items_of_avatars, a_judge_of_one_subject)
}


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] in READERS:
        before, start = peak_gb(), time.perf_counter()
        count = READERS[sys.argv[1]](Path(sys.argv[2]))
        seconds = time.perf_counter() - start
        print(f"{sys.argv[1].replace('_', ' ')}: {count} rows, {seconds:.1f} s, {peak_gb() - before:.1f} GB at the peak")
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 15_000)
        for name in READERS:
            subprocess.run([sys.executable, "-m", "bench.many_clips", name, folder], check=True)


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
