"""The ledger of a stage: every input ends in one state, and the states' counts sum to the inputs.

Kept as `.headwater/ledger/STAGE.json`, rewritten while the stage runs, so that `headwater status` can be asked at any time.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from pipelines.atomic import write_bytes_atomic

LEDGER_FOLDER = Path(".headwater/ledger")
DVC_STAGE = {"film": "catalog", "fit_together": "preprocess"}
"""Fan-outs that are part of a stage of another name."""

State = Literal["waiting", "cached", "computed", "quarantined"]


@dataclass
class Ledger:
    """States of a stage's items, with the reason of those in quarantine."""

    stage: str
    states: dict[str, State] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.time)  # Unix seconds
    finished: float | None = None

    def set(self, item: str, state: State, reason: str = "") -> None:
        self.states[item] = state
        if reason:
            self.reasons[item] = reason

    def count(self, state: State) -> int:
        return sum(1 for found in self.states.values() if found == state)

    def reason_counts(self) -> dict[str, int]:
        """How many items are in quarantine for each reason, most first."""
        return dict(Counter(self.reasons.values()).most_common())

    def save(self) -> None:
        write_bytes_atomic(LEDGER_FOLDER / f"{self.stage}.json", json.dumps(self.__dict__, indent=1).encode())


def load_ledger(stage: str) -> Ledger | None:
    """The ledger of a stage's last run here, or None where it never ran."""
    path = LEDGER_FOLDER / f"{stage}.json"
    if not path.exists():
        return None
    stored = json.loads(path.read_text())
    return Ledger(**{known.name: stored[known.name] for known in fields(Ledger) if known.name in stored})
