"""Who is tracked with the neural head, and under which key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from avatar_models.model_folder import TENSORS
from pipelines.atomic import sha256_file
from pipelines.fanout import Item, Step
from pipelines.keys import digest
from pipelines.nearest import did_you_mean
from pipelines.nphm_tracks.files import CloudFiles
from pipelines.nphm_tracks.tracker import VERSION, NphmTracker
from pipelines.params import Params, ParamsError
from pipelines.subject import NPHM_PRIOR, read_tables
from pipelines.training_items import training_items


def tracking_items(params: Params, root: Path = Path()) -> list[Item]:
    """An item for each wanted subject with a segment that passed; none where there is no prior.

    Where clouds are the user's files, the content of a subject's counts. Raises ParamsError where there is no such folder, or
    no such subject.
    """
    if not (root / NPHM_PRIOR / TENSORS).exists():
        return []
    options = params.track_nphm
    data = read_tables(root)
    items = wanted_items(training_items(root), options.subjects, set(data.segments["subject_id"].to_pylist()))
    files = None
    if options.clouds == "files":
        if not options.cloud_files or not Path(options.cloud_files).is_dir():
            raise ParamsError(f"track_nphm.cloud_files {options.cloud_files!r}: no such folder of SUBJECT/SEQUENCE/FRAME.ply")
        files = CloudFiles(Path(options.cloud_files), data, root)
    frames: dict[str, int] = defaultdict(int)  # of all clips: what their cameras share is seen by the worker
    for row in data.segments.filter(data.segments["passed"]).select(["subject_id", "num_frames"]).to_pylist():
        frames[row["subject_id"]] += row["num_frames"]
    found = []
    for item in items:
        own = item.fingerprint if files is None else digest([item.fingerprint, files.content(item.id)])
        found.append(Item(item.id, own, frames=frames[item.id]))
    return found


def wanted_items(items: list[Item], subjects: Sequence[str], everybody: Collection[str]) -> list[Item]:
    """Those of the named subjects; all where none is named. Whoever has no clip that passed is said, and left out.

    Raises ParamsError for a name that is nobody's.
    """
    for name in subjects:
        if name not in everybody:
            hint = did_you_mean(name, sorted(everybody), "No clip was tracked")
            raise ParamsError(f"track_nphm.subjects: nobody is called {name!r}. {hint}")
        if name not in [item.id for item in items]:
            print(f"track_nphm.subjects: {name} has no clip that passed preprocess, and gets no neural head")
    return [item for item in items if not subjects or item.id in subjects]


def tracking_step(params: Params, root: Path = Path()) -> Step:
    """Where data, prior and clouds lie stays out of the key; of the last two the content counts."""
    prior = root / NPHM_PRIOR
    options = params.track_nphm.as_key()
    folder = options.pop("cloud_files")
    options.pop("subjects")
    worker = partial(
        NphmTracker, prior=str(prior.resolve()), root=root, cloud_files=str(Path(folder).resolve()) if folder else ""
    )
    assets = {"nphm": sha256_file(prior / TENSORS)}
    return Step("track_nphm", VERSION, worker, options, params.compute.track, assets)
