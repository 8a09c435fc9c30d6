"""A sweep's section of the report: history or front, importance; nothing where no sweep has run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pipelines.report.sweeps import sweep_sections

NAMES = ("psnr", "avatar_bytes")


def facts(objectives: list[str], best: list[int]) -> dict[str, Any]:
    figures = [(20.0, 300.0), (24.0, 900.0), (22.0, 500.0)]
    trials = [
        {
            "number": number,
            "state": "complete",
            "values": {"a.b": 0.5, "a.<c>": "x"},
            "figures": {"psnr": psnr, "avatar_bytes": size},
        }
        for number, (psnr, size) in enumerate(figures)
    ]
    trials.append({"number": 3, "state": "pruned", "values": {"a.b": 1.0, "a.<c>": "y"}, "figures": {}, "stopped_at": 15.0})
    trials.append({"number": 4, "state": "fail", "values": {"a.b": 1.0, "a.<c>": "y"}, "figures": {}, "reason": "lost"})
    direction = {"psnr": "maximize", "avatar_bytes": "minimize"}
    return {
        "study": "one",
        "objectives": [{"name": name, "direction": direction[name]} for name in objectives],
        "parameters": ["a.b", "a.<c>"],
        "best": best,
        "importance": {"psnr": {"a.b": 0.75, "a.<c>": 0.25}},
        "trials": trials,
    }


def section(folder: Path, objectives: list[str], best: list[int]) -> dict[str, Any]:
    (folder / "one.trials.json").write_text(json.dumps(facts(objectives, best)))
    (found,) = sweep_sections(folder)
    return found


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.partition("<div")[0])


def test_nothing_is_shown_where_no_sweep_has_run(tmp_path: Path) -> None:
    assert sweep_sections(tmp_path) == sweep_sections(tmp_path / "nowhere") == []


def test_history_has_every_trial_and_the_best_so_far(tmp_path: Path) -> None:
    found = section(tmp_path, ["psnr"], [1])
    assert found["counts"] == "3 complete, 1 pruned, 1 failed" and found["best"][0]["figures"] == ["24"]
    svg = parsed(found["history"])
    titles = [title.text or "" for title in svg.iter("title")]
    assert [text for text in titles if text.startswith("best so far: ")] == [
        f"best so far: trial {number}, psnr {value}" for number, value in ((0, 20), (1, 24), (2, 24))
    ]
    assert len([circle for circle in svg.iter("circle") if circle.get("class", "").startswith("point")]) == 4
    assert len(list(svg.iter("polyline"))) == 1


def test_importance_is_bars_as_long_as_their_shares(tmp_path: Path) -> None:
    ((name, bars),) = section(tmp_path, ["psnr"], [1])["importance"]
    widths = [float(bar.get("width", 0)) for bar in parsed(bars).iter("rect")]
    assert name == "psnr" and abs(widths[0] - 3 * widths[1]) < 0.2 and "a.&lt;c&gt;" in bars


def test_several_objectives_are_shown_as_a_front(tmp_path: Path) -> None:
    found = section(tmp_path, ["psnr", "avatar_bytes"], [1, 2, 0])
    assert found["title"] == "Pareto front: psnr, avatar_bytes"
    titles = [title.text or "" for title in parsed(found["history"]).iter("title")]
    assert "Pareto front: avatar_bytes 300, psnr 20" in titles and "trials: avatar_bytes 900, psnr 24" in titles
