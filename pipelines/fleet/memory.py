"""What is told where a process of a training has no memory left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from avatar_models.memory import is_out_of_memory
from pipelines.fanout import MachineUnfit


@contextmanager
def memory_told(block: str) -> Iterator[None]:
    """Makes MachineUnfit of an allocation that failed: it would fail again at once. `block` is the fleet's in params.yaml."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise MachineUnfit(
            f"{block}: a process has no memory left for its share of the batch; lower the stage's batch, or raise {block}.count"
        ) from error
