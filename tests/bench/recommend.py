"""The recommender: what it says of memory and speed beside real runs, and how well it chooses.

`python -m tests.bench recommend [--draws 10000] [--seed 1] [--work DIR] [--short]`. Some five
minutes of one core; with a work directory a run that was cut off goes on. The choices are made in
made-up worlds (`_recommend/table.py`), the runs are real (`_recommend/shapes.py`).
"""

import argparse
from pathlib import Path
from typing import Any

from tests.bench._recommend import shapes
from tests.bench._recommend.choice import choices

PER_WORLD = 250


def main(argv: list[str]) -> dict[str, Any]:
    """Errors of the estimates, infeasible picks and regret."""
    parser = argparse.ArgumentParser(prog="recommend", description=__doc__)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--short", action="store_true", help="a few draws, one small model")
    given = parser.parse_args(argv)
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    if given.short:
        measured = shapes.measure(list(shapes.SHORT), smollm=False, seconds=1.0)
        return {**choices(60, given.seed, 60), **measured}
    names = list(shapes.SHAPES)
    measured = shapes.measure(names, smollm=True, seconds=10.0, work=given.work)
    return {**choices(given.draws, given.seed, PER_WORLD, given.work), **measured}
