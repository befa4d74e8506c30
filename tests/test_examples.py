"""Every example runs to its end, as its docstring says to run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_examples_are_numbered_from_01_without_a_gap() -> None:
    assert [path.name[:3] for path in EXAMPLES] == [f"{n + 1:02}_" for n in range(len(EXAMPLES))]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short_and_runs(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 80
    assert f"Run: python examples/{path.name} " in text
    short = ["--short"] if "--short" in text else []
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(path), *short],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400 if short else 120,  # real daemons, on a machine that may be busy
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\w+ ", done.stdout, re.M), "an example prints what it did"
