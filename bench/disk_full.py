"""The disk fills up in the middle of preprocess: what is said, and does the run go on once there is room?

    sudo python -m bench.disk_full

Mounts a small tmpfs for the cache, so it needs root.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from bench.incremental import show
from bench.workspace import cut_clip, make_workspace, real_clips

NUM_CLIPS = 6


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        workspace = make_workspace(Path(scratch) / "project")
        for number, source in enumerate(real_clips()[:NUM_CLIPS]):
            cut_clip(source, Path(scratch) / "clips" / f"clip{number:02d}.mp4", frames=60)
        workspace.add_videos(sorted((Path(scratch) / "clips").iterdir()))
        show("catalog", workspace.repro("catalog"))

        cache = Path(scratch) / "small"
        cache.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "headwater-bench", cache], check=True)
        try:
            workspace.set_params({"compute.cache": str(cache)})
            full = workspace.repro("preprocess")
            show("preprocess on a full disk", full)
            print("\n".join(full.output.splitlines()[-15:]))
            litter = [path for path in cache.rglob("*") if path.is_file() and "tmp" in path.name]
            print(f"temporary files left in the cache: {len(litter)}")
            subprocess.run(["mount", "-o", "remount,size=500m", cache], check=True)
            show("preprocess after room was made", workspace.repro("preprocess"))
        finally:
            subprocess.run(["umount", cache], check=True)


if __name__ == "__main__":
    main()
