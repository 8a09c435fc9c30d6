"""MLflow as a person sees it: runs are chosen in a browser and compared, their pictures and videos are looked at.

Screenshots are left in pytest's folder of the test.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.workspace import Workspace

PATIENCE_MS = 30_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
SWEEP = {
    "trials": 2,
    "slots": {"num_cpus": 1.0, "count": 1},
    "space": {"train_headgas.learning_rate": {"low": 0.001, "high": 0.02, "log": True}},
    "fixed": {"train_headgas.steps": 50},
}
CURVES = {"loss", "l1", "dssim", "gaussians", "held_out_psnr", "train_psnr"}
JUDGED = {"psnr", "ssim"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser is here to look at MLflow with (any of {', '.join(BROWSERS)}): apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(browser: Any, finished: Workspace) -> Iterator[str]:
    """The page that `headwater ui` names, after a sweep of two trials."""
    file = finished.folder / ".headwater" / "small.yaml"  # not in sweeps/, which the report watches
    file.write_text(yaml.safe_dump(SWEEP))
    swept = finished.run("headwater", "sweep", str(file))
    assert swept.status == 0, swept.output
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = finished.command("headwater", "ui", "--port", str(port))
    try:
        yield wait_for_page(server, finished.folder / "command.log")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def wait_for_page(server: subprocess.Popen[str], log: Path) -> str:
    """The address that `headwater ui` gives once MLflow answers."""
    for _ in range(240):
        found = re.search(r"^it answers: (\S+)$", log.read_text(), re.MULTILINE)
        if found:
            return found[1]
        assert server.poll() is None, log.read_text()
        time.sleep(0.25)
    pytest.fail(f"MLflow did not come up: {log.read_text()}")


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1600, "height": 2400})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address)
    page.get_by_role("button", name="Close").click()  # MLflow's assistant, which takes the room of the artifacts' names
    yield page
    page.close()


def row(page: Any, name: str) -> Any:
    """A run's row in the table, found by its name or its first words: evaluate is not evaluate_oneshot."""
    first_words = re.compile(rf"^{re.escape(name)}\b")
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=first_words)).first


def expand(page: Any, name: str) -> None:
    row(page, name).get_by_role("button").first.click()


def compare(page: Any, *names: str) -> None:
    for name in names:
        row(page, name).get_by_role("checkbox", name="toggle row selection").check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_text(f"Comparing {len(names)} Runs").wait_for()


def show_beside_one_another(page: Any, picture: str) -> None:
    """Chooses a file that both runs have, on the page that compares them."""
    page.get_by_text(picture, exact=True).first.click()
    page.wait_for_function("[...document.images].filter(one => one.src.startsWith('blob:') && one.naturalWidth > 0).length > 1")


def words(page: Any) -> set[str]:
    return {word.strip() for line in page.locator("body").inner_text().splitlines() for word in line.split("\t")}


def test_trials_are_compared_with_figures_parameters_and_pictures(page: Any, tmp_path: Path) -> None:
    expand(page, "sweep small")
    compare(page, "trial 0", "trial 1")
    page.get_by_text("watched_psnr").first.wait_for()
    page.screenshot(path=tmp_path / "trials.png")
    assert words(page) >= {"trial 0", "trial 1", "train_headgas.learning_rate", "train_headgas.density.every"} | CURVES | JUDGED
    show_beside_one_another(page, "ada.png")
    page.screenshot(path=tmp_path / "trials_pictures.png")
    assert {"ada.mp4", "ben.png", "ben.mp4"} <= words(page)


def test_subjects_are_compared(page: Any, tmp_path: Path) -> None:
    expand(page, "repro")
    expand(page, "train_headgas")
    compare(page, "ada", "ben")
    page.get_by_text("held_out_psnr").first.wait_for()
    show_beside_one_another(page, "progress.png")
    page.screenshot(path=tmp_path / "subjects.png")
    assert words(page) >= {"ada", "ben", "train_headgas.steps", "train_headgas.learning_rate"} | CURVES


def test_a_run_shows_its_picture_and_its_video(page: Any, tmp_path: Path) -> None:
    expand(page, "repro")
    expand(page, "evaluate")
    row(page, "ada").get_by_role("link", name="ada").click()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("still.png", exact=True).first.click()
    page.wait_for_function("[...document.images].some(one => one.src.startsWith('blob:') && one.naturalWidth > 0)")
    page.screenshot(path=tmp_path / "picture.png")
    page.get_by_text("video.mp4", exact=True).first.click()
    video = page.locator("video")
    video.wait_for()
    page.wait_for_function("document.querySelector('video').videoWidth > 0")
    page.screenshot(path=tmp_path / "video.png")
