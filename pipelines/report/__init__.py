"""One self-contained page about a run: no request leaves it, and the same outs give the same bytes."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from pipelines.atomic import write_bytes_atomic
from pipelines.params import Params
from pipelines.report.gather import gather


def write_report(path: Path, params: Params) -> None:
    """Writes the page from data/, models/, metrics/ and plots/ of the project folder."""
    loader = FileSystemLoader(Path(__file__).parent)
    # File names and messages come from outside: everything is escaped.
    environment = Environment(loader=loader, autoescape=select_autoescape(default=True), undefined=StrictUndefined)
    page = environment.get_template("page.html").render(gather(params))
    write_bytes_atomic(path, page.encode(errors="backslashreplace"))
