"""SIGKILL of the driver half way through preprocess, then `dvc repro`: what is computed again, and are the outs the same?

python -m bench.killed_driver
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from bench.incremental import SMALL, show
from bench.workspace import Workspace, cut_clip, make_workspace, real_clips

NUM_CLIPS = 10


def committed_entries(workspace: Workspace) -> int:
    """Number of finished items in the cache so far."""
    return sum(1 for _ in (workspace.folder / ".headwater" / "cache").glob("??/*.json"))


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        clips = real_clips()
        sources = [clips[number % len(clips)] for number in range(NUM_CLIPS)]
        for number, source in enumerate(sources):
            cut_clip(source, Path(scratch) / "clips" / f"clip{number:02d}.mp4", frames=60)
        paths = sorted((Path(scratch) / "clips").iterdir())

        undisturbed = make_workspace(Path(scratch) / "undisturbed" / "project", SMALL)
        undisturbed.add_videos(paths)
        show("undisturbed", undisturbed.repro())

        killed = make_workspace(Path(scratch) / "killed" / "project", SMALL)
        killed.add_videos(paths)
        show("catalog", killed.repro("catalog"))
        before = committed_entries(killed)
        driver = killed.command("dvc", "repro")
        while committed_entries(killed) - before < NUM_CLIPS and driver.poll() is None:
            time.sleep(0.05)  # two steps a clip: half way is as many entries as there are clips
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        time.sleep(5)
        print(f"\n== killed with {committed_entries(killed) - before} of {2 * NUM_CLIPS} steps committed")
        show("after the kill", killed.repro())

        wanted, found = undisturbed.digests(), killed.digests()
        differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        print(f"\n{len(wanted)} files in the outs, {len(differing)} differ from the undisturbed run: {differing}")


if __name__ == "__main__":
    main()
