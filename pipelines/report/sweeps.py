"""What the page says of sweeps: their best trials, how the search went, and which parameters matter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipelines.report.charts import WIDTH, Line, line_chart

FOLDER = Path("sweeps")
BEST = 5  # trials shown of each study
ROW, NAMES = 26, 230  # height of a bar and width of its name, pixels


def sweep_sections(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """A section for each study that `headwater sweep` has left results of; none where there are none."""
    paths = sorted(folder.glob("*.trials.json"))
    return [section(json.loads(path.read_text())) for path in paths]


def section(facts: Mapping[str, Any]) -> dict[str, Any]:
    trials, names = facts["trials"], [objective["name"] for objective in facts["objectives"]]
    complete = {trial["number"]: trial for trial in trials if trial["state"] == "complete"}
    best = [complete[number] for number in facts["best"][:BEST]]
    return {
        "study": facts["study"],
        "objectives": names,
        "parameters": facts["parameters"],
        "counts": ", ".join(f"{count} {state}" for state, count in states(trials).items()),
        "best": [
            {
                "number": trial["number"],
                "figures": [f"{trial['figures'][name]:.5g}" for name in names],
                "values": [shown(trial["values"][name]) for name in facts["parameters"]],
            }
            for trial in best
        ],
        "title": "Best trial" if len(names) == 1 else f"Pareto front: {', '.join(names)}",
        "history": history(facts["objectives"][0], trials) if len(names) == 1 else front(names, complete, facts["best"]),
        "importance": [(name, importance_bars(shares)) for name, shares in facts["importance"].items()],
    }


def states(trials: list[Mapping[str, Any]]) -> dict[str, int]:
    words = {"complete": "complete", "pruned": "pruned", "fail": "failed"}
    counts = {word: sum(1 for trial in trials if trial["state"] == state) for state, word in words.items()}
    return {word: count for word, count in counts.items() if count}


def shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def history(objective: Mapping[str, str], trials: list[Mapping[str, Any]]) -> Markup:
    """Each trial's figure in the order of their numbers, and the best so far."""
    name, better = objective["name"], max if objective["direction"] == "maximize" else min
    ended = [(trial["number"], trial["figures"][name]) for trial in trials if trial["state"] == "complete"]
    pruned = [(trial["number"], trial["stopped_at"]) for trial in trials if "stopped_at" in trial]
    best: list[tuple[int, float]] = []
    for number, value in ended:
        best.append((number, better(value, best[-1][1]) if best else value))
    lines = [Line("best so far", *columns(best)), Line("complete trials", *columns(ended), points=True)]
    if pruned:
        lines.append(Line("pruned trials, as far as they came", *columns(pruned), points=True))
    return line_chart(lines, "trial", name)


def front(names: list[str], complete: Mapping[int, Mapping[str, Any]], best: list[int]) -> Markup:
    """The first two objectives against each other; the front is the line."""

    def at(number: int) -> tuple[float, float]:
        figures = complete[number]["figures"]
        return figures[names[1]], figures[names[0]]

    lines = [Line("Pareto front", *columns(sorted(map(at, best)))), Line("trials", *columns(map(at, complete)), points=True)]
    return line_chart(lines, names[1], names[0])


def columns(points: Any) -> tuple[list[float], list[float]]:
    found = list(points)
    return [x for x, _ in found], [y for _, y in found]


def importance_bars(shares: Mapping[str, float]) -> Markup:
    """Horizontal bars of shares between 0 and 1, with their names."""
    height = ROW * len(shares) + 8
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="importance of parameters">']
    for place, (name, share) in enumerate(shares.items()):
        y = 6 + place * ROW
        length = share * (WIDTH - NAMES - 60)
        parts.append(f'<text x="{NAMES - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="c0 bar" x="{NAMES}" y="{y}" width="{length:.1f}" height="{ROW - 8}"/>')
        parts.append(f'<text x="{NAMES + length + 6:.1f}" y="{y + 13}">{share:.0%}</text>')
    return Markup("".join(parts) + "</svg>")
