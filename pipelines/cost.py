"""What a fan-out cost: seconds a frame for each step, hours of video a day, and the step that limits."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.fanout import FanOutResult, StepWork

DAY_S = 24 * 3600.0


@dataclass(frozen=True)
class Cost:
    """Costs of what was done in a run; what came from the cache costs nothing and is in no mean."""

    work: dict[str, StepWork]  # by step
    wall_seconds: float

    @property
    def seconds_per_item(self) -> dict[str, float]:
        return {step: done.seconds / done.items for step, done in self.work.items()}

    @property
    def seconds_per_frame(self) -> dict[str, float]:
        """Empty where the items are not made of frames."""
        return {step: done.seconds / done.frames for step, done in self.work.items() if done.frames}

    @property
    def bottleneck(self) -> str:
        """The step that took most worker time; empty where nothing was done."""
        return max(self.work, key=lambda step: self.work[step].seconds, default="")

    def clip_hours_per_day(self, steps: int, fps: float) -> float | None:
        """Hours of video of that rate that one worker, doing all `steps` in turn, gets through in a day.

        None where not every step was done in this run: the others' cost is not known then.
        """
        found = self.seconds_per_frame
        total = sum(found.values())
        return DAY_S / total / fps / 3600.0 if len(found) == steps and total > 0 and fps > 0 else None


def cost_of(result: FanOutResult) -> Cost:
    """The cost of what this run did."""
    return Cost(dict(sorted(result.work.items())), result.wall_seconds)
