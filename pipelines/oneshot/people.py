"""Who trains the one-shot model, and who judges it: people that it has never seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pipelines.nearest import did_you_mean
from pipelines.params import KeptOut, ParamsError


def train_and_test(subjects: Sequence[str], options: KeptOut) -> tuple[list[str], list[str]]:
    """(training, test) subjects, both sorted. By share those with the smallest digests are kept out, so that one subject more
    moves few from one side to the other.

    Raises ParamsError where a name is not a subject's, or nobody is left to train on.
    """
    for name in options.names:
        if name not in subjects:
            hint = did_you_mean(name, subjects, "No subject passed the gates.")
            raise ParamsError(f"train_oneshot.test_subjects.names: no subject {name!r}. {hint}")
    if options.names:
        test = sorted(set(options.names))
    else:
        count = round(options.share * len(subjects))
        if options.share > 0 and len(subjects) > 1:
            count = min(max(1, count), len(subjects) - 1)
        test = sorted(sorted(subjects, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])
    train = sorted(set(subjects) - set(test))
    if not train:
        raise ParamsError(f"train_oneshot.test_subjects keeps all {len(subjects)} subjects out: nobody is left to train on")
    return train, test
