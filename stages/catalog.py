"""Which clips there are, what their videos really hold, and which cannot be read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa

from pipelines import tables
from pipelines.catalog import catalog_table, probe_step, remarks, video_items
from pipelines.fanout import FanOutResult, run_and_assemble
from pipelines.main import run_stage
from pipelines.params import load_params
from pipelines.runs import stage_run
from pipelines.sources import Listing, SourceError, list_clips
from pipelines.sources.held_out import hold_out
from pipelines.sources.procedural import film_people

FOLDER = Path("data/catalog")
QUARANTINE = FOLDER / "quarantine.parquet"


def assemble(result: FanOutResult, listing: Listing) -> tuple[pa.Table, pa.Table]:
    catalog, quarantine = catalog_table(result, listing.refused)
    tables.write_table(catalog, tables.CATALOG, FOLDER / "catalog.parquet")
    tables.write_table(quarantine, tables.QUARANTINE, QUARANTINE)
    return catalog, quarantine


def main() -> None:
    params = load_params()
    with stage_run("catalog", params) as run:
        if params.source.kind == "procedural":
            run.log_fan_out(film_people(Path(params.source.path), params.compute), prefix="film.")
        listing = hold_out(list_clips(params.source), params.catalog)
        for path, reason in listing.ignored:
            print(f"ignored {path!r}: {reason}")
        for line in listing.remarks:
            print(line)
        step = probe_step(params.compute)
        result, (catalog, quarantine) = run_and_assemble(
            "catalog",
            [step],
            video_items(listing.clips),
            lambda result: assemble(result, listing),
            compute=params.compute,
            things="videos",
        )
        for line in remarks(result):
            print(line)
        meant = len(listing.clips) + len(listing.refused)
        refused = meant - catalog.num_rows
        aside = f"; {refused} cannot be used, see {QUARANTINE}" if refused else ""
        print(f"catalog: {catalog.num_rows} clips of {len(set(catalog['subject_id'].to_pylist()))} subjects{aside}")
        run.log_fan_out(result)
        run.log_metrics({"clips": catalog.num_rows, "refused": refused, "ignored": len(listing.ignored)})
        if catalog.num_rows == 0 or refused > params.compute.max_quarantined * meant:
            reasons = Counter(quarantine["reason"].to_pylist()).most_common(3)
            raise SourceError(
                f"source.path {params.source.path}: {refused} of {meant} clips cannot be used "
                f"({', '.join(f'{count} x {reason}' for reason, count in reasons)}); {QUARANTINE} names each with its "
                f"reason. compute.max_quarantined allows {params.compute.max_quarantined:.0%}, and one must be left"
            )


if __name__ == "__main__":
    run_stage(main)
