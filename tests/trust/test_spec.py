"""docs/specs/evidence.md and the code name each other truly."""

import re
from pathlib import Path

from trust.evidence import MAX_OBSERVATION_BYTES
from trust.standing import ALLOWED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/specs/evidence.md").read_text()
TESTS = "\n".join(
    path.read_text()
    for folder in ("trust", "node")
    for path in (ROOT / "tests" / folder).glob("*.py")
)


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(test_\w+)`", PAGE)
    assert named
    assert [name for name in named if f"def {name}(" not in TESTS] == []


def test_the_limit_and_the_states_are_those_of_the_code() -> None:
    assert f"at most {MAX_OBSERVATION_BYTES:,} bytes" in PAGE
    for state, allowed in ALLOWED.items():
        [row] = [line for line in PAGE.splitlines() if line.startswith(f"| {state} |")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert (cells[4], cells[6]) == (str(allowed.rank), f"{allowed.testimony:g}")
        assert cells[2].startswith(f"{allowed.weight:g}")
