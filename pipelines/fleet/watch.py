"""Tells what a training has learned while it goes on."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.fleet.run import Run
from pipelines.news import News


@dataclass
class Watch:
    """What is new of a run goes to news."""

    run: Run
    news: News
    told: int = 0  # points of the curve
    probed: bool = False

    def probe(self) -> dict[str, float]:
        self.probed = True
        return self.run.probe()

    def tell(self) -> None:
        """News of the curve since the last time, with pictures where a probe has made new ones."""
        training = self.run.training
        said = f"step {training.step} of {training.options.steps}, loss {training.curve[-1]['loss']:.3g}"
        files = self.run.pictures() if self.probed else {}
        self.news.tell(said, [dict(point) for point in training.curve[self.told :]], files)
        self.told, self.probed = len(training.curve), False
