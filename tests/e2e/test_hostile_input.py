"""Forty hostile files through catalog and preprocess: none stops the run, each ends in a state with a reason that names it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.catalog import catalog_table, probe_step, video_items
from pipelines.cluster import ray_cluster
from pipelines.fanout import fan_out
from pipelines.params import Params, Source
from pipelines.preprocess import clip_items, preprocess_steps
from pipelines.sources import list_clips
from tests.hostile import make_hostile


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with ray_cluster():
        yield folder


def everything_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_symlink()}


def test_forty_hostile_files(project: Path) -> None:
    videos = project.parent / "videos"
    expected = make_hostile(videos)
    assert len(expected) >= 40
    around = everything_below(project.parent) - everything_below(project)
    params = Params(source=Source(kind="folder", path=str(videos), watch=str(videos)))
    params = params.model_copy(update={"compute": params.compute.model_copy(update={"cache": str(project / "cache")})})

    listing = list_clips(params.source)
    assert len(listing.clips) == len(expected)
    assert [reason for path, reason in listing.ignored if path.endswith("folder_loop")] == [
        "a link to a folder is not followed"
    ]
    probed = fan_out("catalog", [probe_step(params.compute)], video_items(listing.clips), compute=params.compute)
    catalog, quarantine = catalog_table(probed)
    done = fan_out("preprocess", preprocess_steps(params), clip_items(catalog, params.preprocess), compute=params.compute)

    file_of = {clip.clip_id: clip.path.name for clip in listing.clips}
    tracked = {file_of[clip_id] for clip_id in done.entries}
    refused = {row["item"].rsplit("/", 1)[-1]: row for row in quarantine.to_pylist()}
    refused |= {file_of[failure.item]: failure.__dict__ for failure in done.quarantined}
    assert tracked | set(refused) == set(expected) and not tracked & set(refused)
    wrong = {name: refused.get(name, {}).get("message", "tracked") for name in expected if (name in tracked) != expected[name]}
    assert not wrong, wrong
    for name, row in refused.items():
        assert row["reason"] not in ("crashed", "timeout") and name in row["message"], row
    # nothing was written outside of the project, and no clip's name leaves a folder
    assert everything_below(project.parent) - everything_below(project) == around
    assert all("/" not in clip_id and not clip_id.startswith(".") for clip_id in done.entries)
    # every file of the listing has ended in exactly one state, and the quarantine's rows say which file and why
    assert {row["reason"] for row in refused.values()} >= {"empty_file", "not_a_video", "no_face", "missing_video"}
