"""The fan-out on a real local Ray: every item ends in one state, a poison item costs exactly itself."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipelines.cache import Cache, DamagedEntry, Entry, EntryWriter, Failure
from pipelines.cluster import actor_counts
from pipelines.fanout import (
    FanOutResult,
    Item,
    ItemRejected,
    MachineUnfit,
    RunStopped,
    Step,
    TooManyQuarantined,
    dispatcher,
    fan_out,
    load_ledger,
    run_and_assemble,
)
from pipelines.fanout.progress import ProgressLine
from pipelines.news import Told
from pipelines.params import Compute, Workers

ONE = Workers(num_cpus=1.0, count=1)
TWO = Workers(num_cpus=0.5, count=2)


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    import ray

    # The workers of this file live in a test module, which Ray's processes cannot import: they are sent as code.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=4, num_gpus=1, include_dashboard=False, object_store_memory=100_000_000, **quiet)
    yield
    ray.shutdown()


@pytest.fixture
def compute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: None) -> Compute:
    monkeypatch.chdir(tmp_path)
    return Compute(cache=str(tmp_path / "cache"), max_attempts=2)


class Behave:
    """A worker that does to each item what the item says."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        with (Path(self.params["log"]) / item.id).open("a") as log:  # one letter for each attempt
            log.write("x")
        deed = item.payload.get("deed", "")
        if deed == "reject":
            raise ItemRejected("no_face", f"{item.id}: nobody there")
        if deed == "raise":
            raise ValueError(f"cannot do {item.id} at {hex(id(self))}")
        if deed == "segfault":
            signal.raise_signal(signal.SIGSEGV)  # to this very thread
        if deed == "hang":
            time.sleep(60)
        if deed.startswith("tell"):
            self.tell(item, out, dies=deed == "tell and die")
        if deed == "unfit" and not (Path(self.params["log"]).parent / "mended").exists():
            raise MachineUnfit("this machine is too small: lower count")
        if deed == "full":
            raise OSError(28, "No space left on device", str(out.scratch / "big"))
        out.write_bytes("value", f"{self.params.get('prefix', '')}{item.id}".encode())
        return {"after": upstream.read_bytes("value").decode() if upstream else ""}

    def tell(self, item: Item, out: EntryWriter, dies: bool) -> None:
        """Tells two points, a word and a file, and goes on only when the driver has heard; dies then, at its first attempt."""
        log = Path(self.params["log"])
        attempt = len((log / item.id).read_text())
        for step in (25.0, 50.0):
            out.news.tell(f"step {step:.0f}, attempt {attempt}", [{"step": step, "loss": 1 / step}], {"picture": b"png"})
        while not (log.parent / f"heard-{item.id}-{attempt}").exists():
            time.sleep(0.02)
        if dies and attempt == 1:
            signal.raise_signal(signal.SIGKILL)


class SeenGpus:
    """A worker that tells which GPUs its process may see, and how many threads it has."""

    def __init__(self, params: Mapping[str, Any]) -> None: ...

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        return {"gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "threads": os.environ["OMP_NUM_THREADS"]}


@pytest.mark.parametrize(("num_gpus", "gpus"), [(0.0, ""), (0.5, "0")])
def test_a_worker_sees_the_gpus_that_it_has_reserved_and_no_others(compute: Compute, num_gpus: float, gpus: str) -> None:
    step = Step("seen", 1, SeenGpus, {}, Workers(num_cpus=2.0, num_gpus=num_gpus, count=1))
    result = fan_out("seen", [step], [Item("a", "1")], compute=compute)
    assert result.last("a").summary == {"gpus": gpus, "threads": "2"}


class Ear:
    """Keeps what it hears of items, and lets those that wait for it go on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[Told] = []
        self.failures: list[Failure] = []

    def heard(self, told: Told) -> None:
        self.told.append(told)
        (self.folder / f"heard-{told.item}-{told.said[-1]}").touch()

    def failed(self, failure: Failure) -> None:
        self.failures.append(failure)


def attempts(folder: Path) -> dict[str, int]:
    return {path.name: len(path.read_text()) for path in sorted(folder.iterdir())}


def make_items(*deeds: str) -> list[Item]:
    return [Item(f"item{number}", f"content{number}{deed}", {"deed": deed}) for number, deed in enumerate(deeds)]


def behave(tmp_path: Path, name: str = "behave", workers: Workers = TWO, **params: Any) -> Step:
    folder = tmp_path / f"log-{name}"
    folder.mkdir(exist_ok=True)
    return Step(name, 1, Behave, {"log": str(folder), **params}, workers)


def test_poison_items_cost_exactly_themselves(compute: Compute, tmp_path: Path) -> None:
    items = make_items("", "segfault", "", "raise", "", "reject", "", "", "segfault", "")
    result = fan_out("stage", [behave(tmp_path)], items, compute=compute)
    assert {f.item: (f.reason, f.attempts) for f in result.quarantined} == {
        "item1": ("crashed", 2),
        "item3": ("value_error", 2),
        "item5": ("no_face", 1),
        "item8": ("crashed", 2),
    }
    assert sorted(result.entries) == ["item0", "item2", "item4", "item6", "item7", "item9"]
    assert result.summary_line("clips") == "stage: 10 clips: 0 cached, 6 computed, 4 quarantined"
    assert all(count == 1 for name, count in attempts(tmp_path / "log-behave").items() if name in result.entries)

    ledger = load_ledger("stage")
    assert ledger is not None
    assert [ledger.count(state) for state in ("waiting", "cached", "computed", "quarantined")] == [0, 0, 6, 4]  # type: ignore[arg-type]
    assert ledger.reason_counts() == {"crashed": 2, "value_error": 1, "no_face": 1}
    trace = next(f.traceback for f in result.quarantined if f.item == "item3")
    assert "0x..." in next(f.message for f in result.quarantined if f.item == "item3") and str(os.getpid()) not in trace


def test_a_second_run_computes_nothing_and_remembers_failures(compute: Compute, tmp_path: Path) -> None:
    items = make_items("", "raise", "")
    first = fan_out("stage", [behave(tmp_path)], items, compute=compute)
    before = attempts(tmp_path / "log-behave")
    second = fan_out("stage", [behave(tmp_path)], items, compute=compute)
    assert attempts(tmp_path / "log-behave") == before
    assert second.summary_line() == "stage: 3 items: 2 cached, 0 computed, 1 quarantined"
    assert second.quarantined == first.quarantined
    fan_out("stage", [behave(tmp_path)], items, compute=compute, retry={"value_error"})
    after = attempts(tmp_path / "log-behave")
    assert after == {**before, "item1": before["item1"] + 2}


def test_a_remembered_failure_is_told_under_the_name_that_the_file_has_now(compute: Compute, tmp_path: Path) -> None:
    for place in ("old/a.mp4", "new/a.mp4"):
        item = Item("a", "content", {"deed": "reject"}, place)
        result = fan_out("stage", [behave(tmp_path)], [Item("b", "b", {"deed": ""}), item], compute=compute)
        assert [failure.message.partition(":")[0] for failure in result.quarantined] == [place]
    assert attempts(tmp_path / "log-behave")["a"] == 1


def test_one_item_more_computes_one_item(compute: Compute, tmp_path: Path) -> None:
    items = make_items(*[""] * 11)
    fan_out("stage", [behave(tmp_path)], items[:10], compute=compute)
    result = fan_out("stage", [behave(tmp_path)], items, compute=compute)
    assert result.summary_line("clips") == "stage: 11 clips: 10 cached, 1 computed, 0 quarantined"


def test_a_parameter_of_a_later_step_leaves_the_earlier_one_alone(compute: Compute, tmp_path: Path) -> None:
    items = make_items("", "")
    for prefix in ("a", "b"):
        steps = [behave(tmp_path, "decode"), behave(tmp_path, "fit", prefix=prefix)]
        result = fan_out("stage", steps, items, compute=compute)
        assert result.last("item1").read_bytes("value").decode() == f"{prefix}item1"
        assert result.last("item1").summary["after"] == "item1"
    assert attempts(tmp_path / "log-decode") == {"item0": 1, "item1": 1}
    assert attempts(tmp_path / "log-fit") == {"item0": 2, "item1": 2}


def test_an_item_that_hangs_is_stopped(compute: Compute, tmp_path: Path) -> None:
    short = compute.model_copy(update={"item_timeout_s": 2.0, "max_attempts": 1})
    result = fan_out("stage", [behave(tmp_path)], make_items("hang", "", ""), compute=short)
    assert [(f.item, f.reason) for f in result.quarantined] == [("item0", "timeout")]
    assert sorted(result.entries) == ["item1", "item2"]


def test_results_do_not_depend_on_the_number_of_workers(compute: Compute, tmp_path: Path) -> None:
    items = make_items("", "raise", "", "segfault", "", "")
    found = []
    for name, workers in (("one", ONE), ("two", TWO)):
        own = compute.model_copy(update={"cache": str(tmp_path / name)})
        result = fan_out("stage", [behave(tmp_path, workers=workers)], items, compute=own)
        found.append(
            (result.quarantine_table().to_pylist(), {item: result.last(item).read_bytes("value") for item in result.entries})
        )
    assert found[0] == found[1]


@pytest.mark.parametrize("damage", ["truncate", "flip", "manifest", "remove"])
def test_a_damaged_entry_is_noticed_and_made_again(compute: Compute, tmp_path: Path, damage: str) -> None:
    items, steps = make_items("", ""), [behave(tmp_path)]
    key = fan_out("stage", steps, items, compute=compute).last("item1").key
    folder = tmp_path / "cache" / key[:2] / key
    value = folder / "value"
    if damage == "truncate":
        value.write_bytes(b"it")
    elif damage == "flip":
        value.write_bytes(b"itEm1")
    elif damage == "manifest":
        folder.with_suffix(".json").write_text("{")
    else:
        value.unlink()
    result, values = run_and_assemble(
        "stage", steps, items, lambda r: {item: r.last(item).read_bytes("value") for item in r.entries}, compute=compute
    )
    assert values == {"item0": b"item0", "item1": b"item1"}
    assert (result.cached, result.computed, result.work["behave"].items) == (1, {"item1"}, 1)
    assert attempts(tmp_path / "log-behave") == {"item0": 1, "item1": 2}
    assert isinstance(Cache(compute.cache).find(key), Entry)


def test_a_full_disk_stops_the_run_with_the_path_and_keeps_the_cache(compute: Compute, tmp_path: Path) -> None:
    from pipelines.atomic import DiskFull

    items = make_items("", "")
    fan_out("stage", [behave(tmp_path)], items, compute=compute)
    with pytest.raises(DiskFull, match=r"big: the disk is full .* make room"):
        fan_out("stage", [behave(tmp_path)], [*items, Item("item9", "nine", {"deed": "full"})], compute=compute)
    assert fan_out("stage", [behave(tmp_path)], items, compute=compute).cached == 2


def test_an_unfit_machine_stops_the_run_and_is_no_verdict_on_the_item(compute: Compute, tmp_path: Path) -> None:
    items, steps = make_items("unfit"), [behave(tmp_path)]
    with pytest.raises(RunStopped, match="this machine is too small: lower count"):
        fan_out("stage", steps, items, compute=compute)
    (tmp_path / "mended").touch()  # another machine, the same key
    assert fan_out("stage", steps, items, compute=compute).computed == {"item0"}


class Unable:
    def __init__(self, params: Mapping[str, Any]) -> None:
        raise FileNotFoundError("model.bin is not here")


def test_a_worker_that_cannot_start_stops_the_run(compute: Compute) -> None:
    with pytest.raises(RunStopped, match="worker of step broken cannot start: FileNotFoundError: model.bin is not here"):
        fan_out("stage", [Step("broken", 1, Unable, {}, ONE)], make_items(""), compute=compute)


def test_too_many_failures_fail_the_stage_after_all_was_tried(compute: Compute, tmp_path: Path) -> None:
    strict = compute.model_copy(update={"max_quarantined": 0.4})
    with pytest.raises(TooManyQuarantined, match="2 of 4 items failed; compute.max_quarantined allows 40%"):
        fan_out("stage", [behave(tmp_path)], make_items("", "reject", "reject", ""), compute=strict)
    assert len(attempts(tmp_path / "log-behave")) == 4


def test_all_may_fail_where_the_stage_has_something_to_go_on_with(compute: Compute, tmp_path: Path) -> None:
    steps, items = [behave(tmp_path)], make_items("reject", "reject")
    with pytest.raises(TooManyQuarantined, match="and one must be left"):
        fan_out("stage", steps, items, compute=compute)
    assert len(fan_out("stage", steps, items, compute=compute, may_all_fail=True).quarantined) == 2
    with pytest.raises(TooManyQuarantined, match="allows 40%. The table"):
        fan_out("stage", steps, items, compute=compute.model_copy(update={"max_quarantined": 0.4}), may_all_fail=True)


def test_a_damaged_entry_of_another_fan_out_is_left_to_that_one(compute: Compute, tmp_path: Path) -> None:
    items, steps = make_items(""), [behave(tmp_path)]

    def assemble(result: FanOutResult) -> None:
        raise DamagedEntry("of another", "value", "cut short")

    with pytest.raises(DamagedEntry, match="of another"):
        run_and_assemble("stage", steps, items, assemble, compute=compute)
    assert attempts(tmp_path / "log-behave") == {"item0": 1} and fan_out("stage", steps, items, compute=compute).cached == 1


def test_workers_are_heard_while_they_work(compute: Compute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "LISTEN_EVERY_S", 0.1)
    ear = Ear(tmp_path)
    items = make_items("tell", "tell and die", "", "reject")
    result = fan_out("stage", [behave(tmp_path)], items, compute=compute, listener=ear)
    assert sorted(result.entries) == ["item0", "item1", "item2"] and result.retries == 1
    told = {item: [t for t in ear.told if t.item == item] for item in ("item0", "item1")}
    points = [point for news in told["item0"] for point in news.points]
    assert points == [{"step": 25.0, "loss": 0.04}, {"step": 50.0, "loss": 0.02}]  # each once
    assert told["item0"][-1].said == "step 50, attempt 1" and told["item0"][0].files == {"picture": b"png"}
    assert {news.said[-1] for news in told["item1"]} == {"1", "2"}  # the attempt that died, and the one after
    assert [failure.item for failure in ear.failures] == ["item3"]
    fan_out("stage", [behave(tmp_path)], items, compute=compute, listener=(again := Ear(tmp_path)))
    assert not again.told and again.failures == ear.failures  # what is known is not told again, but that it failed


def test_results_are_the_same_with_and_without_a_listener(compute: Compute, tmp_path: Path) -> None:
    items = make_items("", "raise", "", "segfault", "", "")
    found = []
    for name, listener in (("deaf", None), ("hearing", Ear(tmp_path))):
        own = compute.model_copy(update={"cache": str(tmp_path / name)})
        result = fan_out("stage", [behave(tmp_path)], items, compute=own, listener=listener)
        found.append((result.quarantine_table().to_pylist(), {item: result.last(item).summary for item in result.entries}))
    assert found[0] == found[1]


def test_the_progress_line_says_what_items_say() -> None:
    line = ProgressLine("train", 3)
    assert line.news() == ""
    line.at_work |= {"ada": "step 350 of 1500, loss 0.031", "ben": "step 25 of 1500, loss 0.2"}
    assert line.news() == "; ada: step 350 of 1500, loss 0.031; ben: step 25 of 1500, loss 0.2"
    line.at_work |= {"cleo": "step 1", "dan": "step 1"}
    assert line.news().endswith("; cleo: step 1; and 1 more")


def test_actor_counts_share_the_cluster() -> None:
    decode, fit = Workers(num_cpus=0.9), Workers(num_cpus=0.2)
    assert actor_counts([decode, fit], cpus=2, gpus=0, num_items=100) == [2, 1]
    assert actor_counts([decode, fit], cpus=16, gpus=0, num_items=100) == [16, 4]
    assert actor_counts([decode, fit], cpus=16, gpus=0, num_items=3) == [3, 1]
    assert actor_counts([decode, Workers(num_cpus=1, num_gpus=1)], cpus=16, gpus=2, num_items=100) == [11, 2]
    assert actor_counts([Workers(num_cpus=1, count=5)], cpus=2, gpus=0, num_items=100) == [5]
