"""An avatar as an MLflow model: `mlflow.pyfunc.load_model("models:/headgas-NAME/1").predict(rows)` renders pictures.

Each row of the input frame is one picture. Its columns are names of the avatar's condition (such as jawOpen or jaw_x);
those that are left out keep the neutral value. The result is uint8 RGB, (rows, H, W, 3).

MLflow runs this file as it is, beside a copy of the avatar_models package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import numpy as np
import torch

from avatar_models.avatar import load_avatar, render
from avatar_models.cameras import Camera


class AvatarModel(mlflow.pyfunc.PythonModel):
    """Renders an avatar with the camera that its facts name."""

    def load_context(self, context: Any) -> None:
        self.avatar, self.facts = load_avatar(Path(context.artifacts["avatar"]))

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """model_input is a pandas frame; unknown columns are refused by name."""
        names = list(self.facts["condition_names"])
        unknown = [column for column in model_input.columns if column not in names]
        if unknown:
            raise ValueError(f"unknown expressions {unknown}; this avatar knows {names}")
        conditions = torch.tensor(self.facts["neutral"]).repeat(len(model_input), 1)
        for column in model_input.columns:
            conditions[:, names.index(column)] = torch.tensor(model_input[column].to_numpy(np.float32))
        facts = self.facts["camera"]
        K, viewmat = (torch.tensor(facts[name])[None].expand(len(conditions), -1, -1) for name in ("K", "viewmat"))
        level = 1.0 if self.facts["background"] == "white" else 0.0
        with torch.no_grad():
            images = render(
                self.avatar, Camera(K, viewmat, facts["width"], facts["height"]), conditions, torch.full((3,), level)
            )
        return (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()


mlflow.models.set_model(AvatarModel())
