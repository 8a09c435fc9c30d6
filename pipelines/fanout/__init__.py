"""Spreads a pure function of one item over Ray actors, keeps what it made by content, and accounts for every item.

    steps = [Step("measure", version=1, worker=MeasureWorker, params={"unit": "mm"}, workers=compute.decode)]
    items = [Item(id=clip.id, fingerprint=clip.sha256, payload={"path": str(clip.path)}) for clip in clips]
    result, table = run_and_assemble("measure", steps, items, assemble, compute=params.compute)
    print(result.summary_line("clips"))

A worker class gets the step's params once per actor and is then called with (item, upstream entry, writer) for each
item; what it returns is the entry's summary. Steps are chained through the cache: a later step reads the entry of the
one before, has a key of its own, and is run or retried by itself.
"""

from __future__ import annotations

from pipelines.fanout.item import Item, ItemRejected, Listener, MachineUnfit, Step, Work
from pipelines.fanout.ledger import Ledger, load_ledger
from pipelines.fanout.run import FanOutResult, RunStopped, StepWork, TooManyQuarantined, fan_out, run_and_assemble

__all__ = [
    "FanOutResult",
    "Item",
    "ItemRejected",
    "Ledger",
    "Listener",
    "MachineUnfit",
    "RunStopped",
    "Step",
    "StepWork",
    "TooManyQuarantined",
    "Work",
    "fan_out",
    "load_ledger",
    "run_and_assemble",
]
