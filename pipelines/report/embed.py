"""Files as part of the page."""

from __future__ import annotations

import base64
from pathlib import Path


def data_uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
