"""The pages of docs/specs and the code name each other truly."""

import re
from pathlib import Path

import pytest

from p2pllm import heads, manifest, partial, summary

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "docs/specs" / name for name in ("records.md", "manifest.md", "store.md", "summary.md")
]
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_test_and_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"`(test_\w+)`", text)
    assert named
    assert [name for name in named if f"def {name}(" not in TESTS] == []
    files = re.findall(r"`((?:p2pllm|tests|gossip)/[\w./*]+\.(?:py|hex))`", text)
    assert [name for name in files if not list(ROOT.glob(name))] == []


def test_the_limits_are_those_of_the_code() -> None:
    records = (ROOT / "docs/specs/records.md").read_text()
    for tag, limit in [
        ("`manifest.1`", manifest.MAX_MANIFEST_BYTES),
        ("`head.1`", heads.MAX_HEAD_BYTES),
        ("`partial.1`", partial.MAX_MAP_BYTES),
        ("`sketch.1`", summary.MAX_SKETCH_BYTES),
        ("`summary.1`", summary.MAX_SUMMARY_BYTES),
    ]:
        [row] = [line for line in records.splitlines() if line.startswith(f"| {tag} |")]
        assert f"{limit:,}" in row
