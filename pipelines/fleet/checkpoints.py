"""The state of a training as bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch

from avatar_models.memory import is_out_of_memory
from pipelines.fleet.loop import Steps


def dump(state: Mapping[str, Any]) -> bytes:
    data = io.BytesIO()
    torch.save(dict(state), data)
    return data.getvalue()


def load(checkpoint: bytes, device: str) -> dict[str, Any]:
    """What :func:`dump` made."""
    state: dict[str, Any] = torch.load(io.BytesIO(checkpoint), weights_only=True, map_location=device)
    return state


def resume(training: Steps, checkpoint: bytes | None) -> None:
    """Goes on from a checkpoint where there is one; one that cannot be read (a power cut) is passed over."""
    if checkpoint is None:
        return
    try:
        state = load(checkpoint, training.device)
    except Exception as error:  # torch's reader raises whatever the damage leads it to
        if is_out_of_memory(error):  # the machine's fault: what was learned is still there
            raise
        print(f"the checkpoint cannot be read ({type(error).__name__}); training starts over", flush=True)
        return
    training.load_state(state)
