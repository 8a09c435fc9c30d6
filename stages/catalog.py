"""Which clips there are, what their videos really hold, and which cannot be read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipelines import tables
from pipelines.catalog import catalog_table, probe_step, remarks, video_items
from pipelines.fanout import FanOutResult, run_and_assemble
from pipelines.main import run_stage
from pipelines.params import load_params
from pipelines.runs import stage_run
from pipelines.sources import SourceError, list_clips
from pipelines.sources.procedural import film_people

FOLDER = Path("data/catalog")
QUARANTINE = FOLDER / "quarantine.parquet"


def assemble(result: FanOutResult) -> pa.Table:
    catalog, quarantine = catalog_table(result)
    tables.write_table(catalog, tables.CATALOG, FOLDER / "catalog.parquet")
    tables.write_table(quarantine, tables.QUARANTINE, QUARANTINE)
    return catalog


def main() -> None:
    params = load_params()
    with stage_run("catalog", params) as run:
        if params.source.kind == "procedural":
            run.log_fan_out(film_people(Path(params.source.path), params.compute))
        listing = list_clips(params.source)
        for path, reason in listing.ignored:
            print(f"ignored {path!r}: {reason}")
        step = probe_step(params.compute)
        result, catalog = run_and_assemble(
            "catalog", [step], video_items(listing.clips), assemble, compute=params.compute, things="videos"
        )
        for line in remarks(result):
            print(line)
        refused = len(listing.clips) - catalog.num_rows - len(result.quarantined)
        aside = f"; {refused} refused, see {QUARANTINE}" if refused > 0 else ""
        print(f"catalog: {catalog.num_rows} clips of {len(set(catalog['subject_id'].to_pylist()))} subjects{aside}")
        if catalog.num_rows == 0:
            raise SourceError(f"source.path {params.source.path}: no clip of it can be used; {QUARANTINE} has the reasons")
        run.log_fan_out(result)
        run.log_metrics({"clips": catalog.num_rows, "ignored": len(listing.ignored)})


if __name__ == "__main__":
    run_stage(main)
