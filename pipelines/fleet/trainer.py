"""Trains a run to its end: in this process, or in several of Ray Train's."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.cache import EntryWriter
from pipelines.fanout import ItemRejected
from pipelines.fleet.checkpoints import dump, resume
from pipelines.fleet.loader import reading_threads
from pipelines.fleet.loop import Hooks, Place
from pipelines.fleet.memory import memory_told
from pipelines.fleet.profiling import profiled
from pipelines.fleet.ray_train import train_on_fleet
from pipelines.fleet.run import Recipe, Run, steps_through
from pipelines.fleet.watch import Watch
from pipelines.params import Fleet
from pipelines.training import TrainingDiverged

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Trainer:
    """Where training is done. `storage` is where Ray Train's checkpoints lie: a folder or URI of all nodes; `block` is what the
    fleet is called in params.yaml."""

    recipe: Recipe
    fleet: Fleet
    storage: str
    block: str

    def train(self, run: Run, out: EntryWriter) -> None:
        """Brings a run that the recipe has prepared to its end. Raises ItemRejected where trying again changes nothing, and
        MachineUnfit."""
        try:
            if self.fleet.count == 1:
                with memory_told(self.block):
                    train_here(run, out, self.fleet)
            else:
                run.training.load_state(train_on_fleet(self.recipe, self.fleet, self.storage, self.block, out.key, out.news))
                expect_end(run)
        except TrainingDiverged as error:
            raise ItemRejected("diverged", str(error)) from None


def expect_end(run: Run) -> None:
    """Raises RuntimeError where the processes came back before the last step, and why is lost with the node that knew."""
    step, steps = run.training.step, run.training.options.steps
    if step < steps:
        raise RuntimeError(f"training ended at step {step} of {steps}, and nothing said why: start it again, it goes on there")


def train_here(run: Run, out: EntryWriter, fleet: Fleet) -> None:
    """Trains in this process, from the checkpoint on where there is one."""
    training, watch = run.training, Watch(run, out.news)
    resume(training, out.kept(CHECKPOINT))

    def save() -> None:
        out.keep(CHECKPOINT, dump(training.state()))

    with profiled(fleet.profile_steps, out.news) as step:
        hooks = Hooks(mean=lambda terms: terms, step=step, point=watch.tell, checkpoint=save, probe=watch.probe)
        steps_through(run, Place(), hooks, reading_threads(fleet.num_cpus))
