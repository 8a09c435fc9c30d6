"""What a fan-out cost: seconds a frame for each step, hours of video a day, and the step that limits."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.fanout import FanOutResult

DAY_S = 24 * 3600.0


@dataclass(frozen=True)
class Cost:
    """Costs of the items that were computed, not read from the cache."""

    seconds_per_frame: dict[str, float]  # of one worker, by step
    wall_seconds: float
    frames: int

    @property
    def bottleneck(self) -> str:
        """The step that takes most worker time."""
        return max(self.seconds_per_frame, key=lambda step: self.seconds_per_frame[step], default="")

    def clip_hours_per_day(self, fps: float) -> float:
        """Hours of video of that rate that one worker of each step's share gets through in a day."""
        total = sum(self.seconds_per_frame.values())
        return DAY_S / total / fps / 3600.0 if total > 0 else 0.0


def cost_of(result: FanOutResult) -> Cost:
    """The cost of what this run computed; empty when all was cached."""
    frames = max(result.frames, 1)
    return Cost(
        {step: seconds / frames for step, seconds in sorted(result.seconds.items())}, result.wall_seconds, result.frames
    )
