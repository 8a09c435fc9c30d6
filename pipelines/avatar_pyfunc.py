"""An avatar as an MLflow model: `mlflow.pyfunc.load_model("models:/headgas-NAME/1").predict(rows)` renders pictures.

Each row of the input frame is one picture. Its columns are names of the avatar's condition (such as jawOpen or jaw_x);
those that are left out keep the neutral value. Two more may set the camera: `viewmat` (world to camera, 4 x 4, metres) and
`K` (3 x 3, pixels of the avatar's own picture size), as nested or flat lists; without them it is the avatar's own camera.
The result is uint8 RGB, (rows, H, W, 3).

MLflow runs this file as it is, beside a copy of the avatar_models package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import torch

from avatar_models.avatar import BACKGROUNDS, load_avatar, render
from avatar_models.cameras import Camera

CAMERA = ("K", "viewmat")


class AvatarModel(mlflow.pyfunc.PythonModel):
    """Renders an avatar with the camera that its facts name."""

    def load_context(self, context: Any) -> None:
        self.avatar, self.facts = load_avatar(Path(context.artifacts["avatar"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        """uint8 (rows, H, W, 3). Raises ValueError that names columns which are unknown."""
        names = list(self.facts["condition_names"])
        unknown = [column for column in model_input.columns if column not in (*names, *CAMERA)]
        if unknown:
            raise ValueError(f"unknown expressions {unknown}; this avatar knows {names}, and {list(CAMERA)} for the camera")
        conditions = torch.tensor(self.facts["neutral"]).repeat(len(model_input), 1)
        for column in model_input.columns:
            if column not in CAMERA:
                conditions[:, names.index(column)] = torch.tensor(model_input[column].to_numpy(np.float32))
        own = self.facts["camera"]
        K, viewmat = (matrices(model_input, name, own[name]) for name in CAMERA)
        level = BACKGROUNDS[self.facts["background"]]
        with torch.no_grad():
            images = render(self.avatar, Camera(K, viewmat, own["width"], own["height"]), conditions, torch.full((3,), level))
        return (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()


def matrices(model_input: Any, name: str, own: list[list[float]]) -> torch.Tensor:
    """(rows, n, n): the column of that name, or the avatar's own matrix for every row."""
    if name not in model_input.columns:
        return torch.tensor(own)[None].expand(len(model_input), -1, -1)
    side = len(own)
    return torch.tensor(np.stack([np.asarray(list(value), np.float32).reshape(side, side) for value in model_input[name]]))


mlflow.models.set_model(AvatarModel())
