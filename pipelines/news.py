"""What a worker tells of an item while it does it: figures on the way, a few words for people, small files.

News are for those who watch, and may be lost: what an item leaves for good is in its entry.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Told:
    """What is new of an item since it was last asked."""

    item: str
    said: str = ""
    """For the progress line: step 350 of 1500, loss 0.031."""
    points: Sequence[Mapping[str, float]] = ()
    """Points of a curve; each has a `step` and any figures."""
    files: Mapping[str, bytes] = field(default_factory=dict)


class News:
    """Collects what is told of one item until somebody takes it, in a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said, self._points, self._files = "", list[Mapping[str, float]](), dict[str, bytes]()

    def tell(self, said: str, points: Sequence[Mapping[str, float]] = (), files: Mapping[str, bytes] | None = None) -> None:
        """`said` and a file take the place of earlier ones; points are added."""
        with self._lock:
            self._said = said
            self._points.extend(points)
            self._files.update(files or {})

    def take(self, item: str) -> Told | None:
        """What is new, named as the item's; None where nothing is."""
        with self._lock:
            if not (self._said or self._points or self._files):
                return None
            told = Told(item, self._said, self._points, self._files)
            self._said, self._points, self._files = "", [], {}
            return told
