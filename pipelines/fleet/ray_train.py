"""The loop in several processes: Ray Train starts them, joins them with NCCL or gloo, and starts them again where one dies."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from avatar_models.model_folder import ModelError
from avatar_models.perceptual import PerceptualWeightsError
from pipelines.atomic import full_disk_behind
from pipelines.cache import CacheUnusable
from pipelines.devices import device_here
from pipelines.fanout import ItemRejected, MachineUnfit
from pipelines.fanout.actor import worker_environment
from pipelines.fleet.checkpoints import dump, load
from pipelines.fleet.loader import reading_threads
from pipelines.fleet.loop import Hooks, Place, Terms
from pipelines.fleet.memory import memory_told
from pipelines.fleet.profiling import profiled
from pipelines.fleet.run import Recipe, State, steps_through
from pipelines.fleet.watch import Watch
from pipelines.news import News
from pipelines.params import Fleet, ParamsError, Workers
from pipelines.tables import SchemaError
from pipelines.training import TrainingDiverged

STATE = "state.pt"
LISTEN_EVERY_S = 1.0
OWN_CPUS = 0.1  # of the process that waits for the others
MAX_FAILURES = 20  # of processes, not counting those that a cluster takes away
FINAL = (
    TrainingDiverged, MachineUnfit, CacheUnusable, ItemRejected, ModelError, ParamsError, PerceptualWeightsError, SchemaError,
)  # fmt: skip
"""What would come again however often processes are started."""


class Mailbox:
    """An actor that the first process posts its curve to, and the item's own process reads. And why training cannot go on."""

    def __init__(self) -> None:
        self.news = News()
        self.why: Exception | None = None

    def gave_up(self, why: Exception | None = None) -> Exception | None:
        """Notes the first reason, and gives it."""
        self.why = self.why or why
        return self.why

    def post(self, said: str, points: list[Mapping[str, float]], files: Mapping[str, bytes]) -> None:
        self.news.tell(said, points, files)

    def take(self) -> Any:
        return self.news.take("")


def train_on_fleet(recipe: Recipe, fleet: Fleet, storage: str, block: str, name: str, news: News) -> State:
    """Trains and returns the last checkpoint's state. A run of the same name and storage goes on from its last checkpoint.

    storage: a folder or URI that all nodes see. Raises what is FINAL, DiskFull, and Ray Train's TrainingFailedError once
    processes have failed MAX_FAILURES times; those that a cluster takes away do not count.
    """
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    expect_room(fleet, block, ray.cluster_resources())
    # It may lie on a node that is taken away: what is lost with it is news.
    mailbox = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Mailbox).remote()
    trainer = TorchTrainer(
        worker_loop,
        train_loop_config={"recipe": recipe, "fleet": fleet, "mailbox": mailbox, "block": block},
        scaling_config=ScalingConfig(
            num_workers=(fleet.least, fleet.count) if 0 < fleet.least < fleet.count else fleet.count,
            use_gpu=fleet.num_gpus > 0,
            resources_per_worker={"CPU": fleet.num_cpus, "GPU": fleet.num_gpus},
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            worker_runtime_env={"env_vars": worker_environment(fleet.num_cpus)},  # else that of the item, which only waits
        ),
    )
    done = threading.Event()
    listener = threading.Thread(target=_listen, args=(mailbox, news, done), daemon=True)
    listener.start()
    try:
        result = trainer.fit()
    except Exception:
        _raise_why(mailbox)
        raise
    finally:
        done.set()
        listener.join()
    _raise_why(mailbox)
    with result.checkpoint.as_directory() as folder:
        return load((Path(folder) / STATE).read_bytes(), "cpu")


def item_workers(fleet: Fleet) -> Workers:
    """What the item that trains takes of the cluster: with several processes it only waits for them."""
    alone = fleet.count == 1
    return Workers(num_cpus=fleet.num_cpus if alone else OWN_CPUS, num_gpus=fleet.num_gpus if alone else 0.0, count=1)


def expect_room(fleet: Fleet, block: str, there: Mapping[str, float]) -> None:
    """Raises MachineUnfit where a cluster has no room for the fewest processes that are enough: Ray Train would wait."""
    least = fleet.least or fleet.count
    room = {"CPU": there.get("CPU", 0.0) - OWN_CPUS, "GPU": there.get("GPU", 0.0)}
    for kind, each in (("CPU", fleet.num_cpus), ("GPU", fleet.num_gpus)):
        if least * each > room[kind] + 1e-6:
            raise MachineUnfit(
                f"{block} wants {least} processes of {each:g} {kind}s; the cluster has {room[kind]:g} for them: "
                f"lower count or num_{kind.lower()}s, or set least"
            )


def why_it_gave_up(mailbox: Any, *why: Exception) -> Exception | None:
    """What one of the processes could not go on for, and notes it; None as well where the mailbox is not to be reached."""
    import ray

    with suppress(ray.exceptions.RayError):
        found: Exception | None = ray.get(mailbox.gave_up.remote(*why))
        return found
    return None


def _raise_why(mailbox: Any) -> None:
    why = why_it_gave_up(mailbox)
    if why is not None:
        raise why from None


def _listen(mailbox: Any, news: News, done: threading.Event) -> None:
    """Passes on what is posted until training is over."""
    import ray

    while not done.wait(LISTEN_EVERY_S):
        with suppress(ray.exceptions.RayError):  # news may be lost
            told = ray.get(mailbox.take.remote())
            if told is not None:
                news.tell(told.said, told.points, told.files)


def worker_loop(config: Mapping[str, Any]) -> None:
    """What each process does: it trains, and notes an error that would come again wherever else it is tried."""
    mailbox = config["mailbox"]
    if why_it_gave_up(mailbox) is not None:
        return  # it would come to the same again, and who raises is started again
    try:
        with memory_told(config["block"]):
            take_part(config)
    except FINAL as error:
        why_it_gave_up(mailbox, error)
        raise
    except Exception as error:
        full = full_disk_behind(error)
        if full is None:
            raise
        why_it_gave_up(mailbox, full)
        raise full from error


def take_part(config: Mapping[str, Any]) -> None:
    """Trains as one of the processes."""
    import ray.train

    context = ray.train.get_context()
    place = Place(context.get_world_rank(), context.get_world_size())
    recipe: Recipe = config["recipe"]
    run = recipe.prepare(device_here())
    training = run.training
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            training.load_state(load((Path(folder) / STATE).read_bytes(), training.device))
    first = place.rank == 0
    news = News()
    watch = Watch(run, news)

    def point() -> None:
        if first:
            watch.tell()
            told = news.take("")
            if told is not None:
                config["mailbox"].post.remote(told.said, list(told.points), dict(told.files))

    def save() -> None:
        metrics = {"step": training.step}
        if not first:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / STATE).write_bytes(dump(training.state()))
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))

    fleet: Fleet = config["fleet"]
    training.distribute()
    with profiled(fleet.profile_steps if first else 0, news) as step:
        hooks = Hooks(lambda terms: mean_of_all(terms, training.device), step, point, save, watch.probe if first else dict)
        steps_through(run, place, hooks, reading_threads(fleet.num_cpus))


def mean_of_all(terms: Terms, device: str) -> Terms:
    """The mean of each term over all processes."""
    values = torch.tensor(list(terms.values()), dtype=torch.float64, device=device)
    torch.distributed.all_reduce(values)
    return dict(zip(terms, (values / torch.distributed.get_world_size()).tolist(), strict=True))
