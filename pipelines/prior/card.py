"""A prior's model card: what it was trained on, under which licence, its codes, and how well it fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avatar_models.heads.nphm.sizes import NphmSizes

DATA = {
    "procedural": "made-up people of this project's own head model; no person's data, no licence of others",
    "ict": "made-up people of ICT-FaceKit (Li et al. 2020, MIT licence)",
    "nphm": "registrations of the NPHM dataset (Giebenhain et al. 2023), whose terms bind what is derived of it",
    "flame": "made-up people of FLAME (Li et al. 2017), whose own licence binds what is derived of it",
}


def card(facts: Mapping[str, Any], sizes: NphmSizes) -> str:
    """Markdown."""
    options = facts["options"]
    width = f"{sizes.identity_code}: {sizes.global_code} of the whole head"
    codes = f"{width}, {sizes.local_code} of each of {sizes.num_regions} regions"
    people = f"{facts['people']} people, {facts['expressions']} expressions " + ("in all" if facts["codes_of"] else "each")
    return f"""# A neural parametric head

MonoNPHM's model (Giebenhain et al., CVPR 2024), size `{options["sizes"]}`: {facts["parameters"]:,} parameters. Metres.

| | |
| --- | --- |
| data | {DATA[options["scans"]]} |
| scans | {people}, {options["steps"]} steps of {options["batch"]} scans |
| identity code | {codes} |
| expression code | {sizes.expression_code} |
| appearance | not trained: these scans have no colours |
| unseen people, neutral | {facts["unseen_mm"]} mm |
| unseen people with unseen expressions | {facts["unseen_expression_mm"]} mm |

Errors: a head is fitted to points of a surface; what is given is the mean distance of other points of that surface, over
{options["unseen"]} people.
"""
