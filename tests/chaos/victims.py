"""Finding the processes that a test is to kill."""

from __future__ import annotations

from contextlib import suppress

import psutil


def processes_below(ancestor: psutil.Process, name: str) -> list[psutil.Process]:
    """Its children, theirs and so on, that have a name in their command line: Ray writes there what a process does."""
    found = []
    for child in ancestor.children(recursive=True):
        with suppress(psutil.Error):  # it may have ended
            if name in " ".join(child.cmdline()):
                found.append(child)
    return found
