"""What has no PLY file is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatar_models.avatar import avatar_files
from headwater.export import export_to_file
from headwater.render import RenderError
from tests.avatar_models.npga.made import avatar


@pytest.mark.parametrize("compressed", [False, True])
def test_gaussians_of_a_network_have_no_viewer(compressed: bool, tmp_path: Path) -> None:
    made = avatar()
    facts = {"sizes": made.sizes.as_dict(), "condition_names": ["code_0"], "neutral": [0.0] * made.condition_size}
    for name, data in avatar_files("npga", made.tensors(), facts).items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(RenderError, match="no viewer knows its Gaussians' features; render it"):
        export_to_file(tmp_path, tmp_path / "a.ply", expressions=[], compressed=compressed)
    assert not (tmp_path / "a.ply").exists()
