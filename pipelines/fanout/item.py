"""What is spread (items), what is done to each (steps), and what a worker says of it (reports)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pipelines.cache import Entry, EntryWriter, Failure
from pipelines.keys import content_key
from pipelines.news import Told
from pipelines.params import Workers


class ItemRejected(Exception):
    """A verdict on an item's content, such as no_face. It goes to quarantine at once: trying again changes nothing."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason, self.message = reason, message

    def __str__(self) -> str:
        return self.message


class MachineUnfit(RuntimeError):
    """This machine, or this cluster, cannot do what params ask of it. No item is to blame, so nothing is remembered and the run
    stops; the message says what to change."""


@dataclass(frozen=True)
class Item:
    """One unit of work: a clip, a subject, a trial."""

    id: str
    fingerprint: str
    """sha256 of all content that the result depends on."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """What the worker gets; small and picklable."""
    made_from: str = ""
    """What people know it by (a path), named before its failures' messages. The result must not depend on it."""
    frames: int = 0
    """Its share of the work, for frames/s; 0 where frames mean nothing."""


Work = Callable[[Item, Entry | None, EntryWriter], Mapping[str, Any]]
"""Does one item: (item, the step before's entry, where to write) -> a small JSON summary."""


@dataclass(frozen=True)
class Step:
    """What is done to each item by one kind of actor.

    `worker(params)` is called once per actor and gives the function that does an item. `params` and `assets` go into the
    key, so they hold all that the result depends on; `version` is raised when the code's results change.
    """

    name: str
    version: int
    worker: Callable[[Mapping[str, Any]], Work]
    params: Mapping[str, Any]
    workers: Workers
    assets: Mapping[str, str] = field(default_factory=dict)

    def key(self, inputs: str) -> str:
        return content_key(step=self.name, version=self.version, params=self.params, assets=self.assets, inputs=inputs)


def chain_keys(steps: Sequence[Step], item: Item) -> list[str]:
    """The key of each step's result for an item: the first depends on the item, each other on the step before."""
    keys: list[str] = []
    for step in steps:
        keys.append(step.key(keys[-1] if keys else item.fingerprint))
    return keys


@dataclass(frozen=True)
class Report:
    """What became of one attempt at one step of one item.

    rejected is final, failed may be tried again, damaged asks for the entry of the step before to be made again, stop
    ends the whole run (a full disk, a cache that cannot be used, a machine that is unfit, a worker that cannot start).
    """

    status: Literal["done", "rejected", "failed", "damaged", "stop"]
    seconds: float = 0.0
    reason: str = ""
    error_class: str = ""
    message: str = ""
    traceback: str = ""


class Listener(Protocol):
    """Hears of items in the driver, while the fan-out goes on. Must not take long, and must not raise."""

    def heard(self, told: Told) -> None:
        """News of an item that is at work. An attempt that is made again tells what the one before told, too."""

    def failed(self, failure: Failure) -> None:
        """An item went to quarantine, or was there already."""
