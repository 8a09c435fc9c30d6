"""What a fan-out cost: seconds a frame for each step, hours of video a day, and the step that limits."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.fanout import FanOutResult

DAY_S = 24 * 3600.0


@dataclass(frozen=True)
class Cost:
    """Costs of the items that were computed, not read from the cache."""

    seconds: dict[str, float]  # of work, by step, summed over workers
    wall_seconds: float
    items: int
    frames: int  # 0 where the items are not made of frames

    @property
    def seconds_per_item(self) -> dict[str, float]:
        return {step: seconds / self.items for step, seconds in self.seconds.items()} if self.items else {}

    @property
    def seconds_per_frame(self) -> dict[str, float]:
        return {step: seconds / self.frames for step, seconds in self.seconds.items()} if self.frames else {}

    @property
    def bottleneck(self) -> str:
        """The step that takes most worker time."""
        return max(self.seconds, key=lambda step: self.seconds[step], default="")

    def clip_hours_per_day(self, fps: float) -> float:
        """Hours of video of that rate that one worker, doing every step in turn, gets through in a day."""
        total = sum(self.seconds_per_frame.values())
        return DAY_S / total / fps / 3600.0 if total > 0 else 0.0


def cost_of(result: FanOutResult) -> Cost:
    """The cost of what this run computed; empty when all was cached."""
    return Cost(dict(sorted(result.seconds.items())), result.wall_seconds, result.computed, result.frames)
