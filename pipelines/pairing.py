"""Who drives whom in cross reenactment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def cross_pairs(subjects: Sequence[str]) -> Iterator[tuple[str, str]]:
    """All ordered pairs (avatar, driver): in a ring, each avatar driven by the next subject, then by the one after, and so on.

    So however many are taken, avatars and drivers are taken equally often, give or take one.
    """
    for distance in range(1, len(subjects)):
        for place, target in enumerate(subjects):
            yield target, subjects[(place + distance) % len(subjects)]
