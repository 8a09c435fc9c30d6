"""A Ray cluster to work on: the one that RAY_ADDRESS names, or this machine."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipelines.params import Workers

OBJECT_STORE_BYTES = 256 * 1024**2
"""Frames never pass through Ray's object store, so a small one does."""

CONNECT_TIMEOUT_S = 10.0

FIRST_PER_LATER = 4
"""Workers of the first step (decoding) that one worker of a later step (fitting) keeps up with."""


class ClusterUnreachable(RuntimeError):
    """RAY_ADDRESS names a cluster that does not answer."""


@contextmanager
def ray_cluster(min_cpus: float = 0.0) -> Iterator[None]:
    """Connects to Ray for the time of the block; a session that is already connected is left as it is.

    Without RAY_ADDRESS, Ray starts on this machine with its cores, or `min_cpus` where that is more.
    """
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        # Ray would take 127.0.0.1 for the machine's own address and listen on all interfaces; without this switch, which
        # it reads as it is imported, a node on Linux is one that others may join.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        if address:
            check_answers(address)
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        else:
            ray.init(
                address="local",  # never another cluster that happens to run on this machine
                num_cpus=max(2, os.cpu_count() or 2, math.ceil(min_cpus)),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except (OSError, RuntimeError, ValueError) as error:
        if not address:
            raise
        raise ClusterUnreachable(
            f"RAY_ADDRESS={address}: no Ray cluster answers there ({error}). "
            "Start one (docs/cluster.md), or unset RAY_ADDRESS to work on this machine."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def check_answers(address: str) -> None:
    """Raises OSError when nobody listens at host:port; Ray itself would go on trying for minutes.

    `auto` and other words that are no host and port are left to Ray.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()


def actor_counts(kinds: Sequence[Workers], cpus: float, gpus: float, num_items: int) -> list[int]:
    """How many actors of each kind to start on a cluster of so many CPUs and GPUs; each kind gets at least one.

    A kind with a count gets it. Of the others, the first gets as many as there is room for and each later one a quarter
    of that, and none more than there are items.
    """

    def counts(first: int) -> list[int]:
        numbers = [kind.count or max(1, first // FIRST_PER_LATER) for kind in kinds]
        for index, kind in enumerate(kinds):
            if kind.count == 0:
                numbers[index] = first
                break
        return [min(number, max(1, num_items)) for number in numbers]

    def fits(numbers: Sequence[int]) -> bool:
        used_cpus = sum(kind.num_cpus * number for kind, number in zip(kinds, numbers, strict=True))
        used_gpus = sum(kind.num_gpus * number for kind, number in zip(kinds, numbers, strict=True))
        return used_cpus <= cpus + 1e-6 and used_gpus <= gpus + 1e-6

    first = 1
    while first < num_items and counts(first + 1) != counts(first) and fits(counts(first + 1)):
        first += 1
    return counts(first)
