"""The table of error codes, its page and the code agree."""

import ast
import re
from pathlib import Path

import msgspec
import pytest

from p2pllm.error_codes import ERROR_CODES, KINDS, exit_status, page
from p2pllm.errors import in_words
from p2pllm.jobs import EvalJob
from p2pllm.names import Place

ROOT = Path(__file__).parent.parent
PACKAGES = ("p2pllm", "gossip", "trust", "node")
CODE = re.compile(r"\bE\d{4}\b")


def texts(path: Path) -> list[tuple[int, str]]:
    """Every string constant of a module with its line, docstrings included."""
    tree = ast.parse(path.read_text())
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_page_is_what_the_table_says() -> None:
    assert (ROOT / "docs/errors.md").read_text() == page(), "run `make docs/errors.md`"


def test_every_code_in_the_packages_is_in_the_table() -> None:
    unknown = [
        f"{path.relative_to(ROOT)}:{line}: {code}"
        for path in modules()
        for line, text in texts(path)
        for code in CODE.findall(text)
        if code not in ERROR_CODES
    ]
    assert unknown == []


def test_every_error_raised_by_name_has_a_code_of_the_table() -> None:
    """PeerError("E…"), LocalError("E…"), Unavailable("E…"): a literal code is one of ours."""
    wrong = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            first = node.args[0]
            if name not in ("PeerError", "LocalError", "Unavailable"):
                continue
            if isinstance(first, ast.Constant) and first.value not in ERROR_CODES:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {first.value!r}")
    assert wrong == []


def test_every_code_in_the_docs_is_in_the_table() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    unknown = {
        f"{path.relative_to(ROOT)}: {code}"
        for path in pages
        for code in CODE.findall(path.read_text())
        if code not in ERROR_CODES
    }
    assert unknown == set()


def test_slugs_are_unique_and_rows_are_whole() -> None:
    assert len({row.slug for row in ERROR_CODES.values()}) == len(ERROR_CODES)
    for row in ERROR_CODES.values():
        assert row.kind == KINDS[row.exit]
        assert row.meaning.endswith(".")
        assert row.fix.endswith(".")
        assert "|" not in row.meaning + row.fix, "a bar would break the page's table"


@pytest.mark.parametrize(("code", "status"), [("E0101", 1), ("E0702", 7), ("E1003", 10)])
def test_exit_status_is_the_hundreds_of_the_code(code: str, status: int) -> None:
    assert exit_status(code) == status


def test_exit_status_of_a_code_of_a_newer_version_is_1() -> None:
    assert exit_status("E9999") == 1


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        (EvalJob, {"max_tokens": 1}, "max_tokens must be at least 16"),
        (Place, {"lang": "EN"}, "lang has a form or characters that it may not have"),
        (Place, {"lang": 5}, "Expected `str`, got `int` - at `$.lang`"),
    ],
)
def test_a_field_out_of_bounds_is_told_in_words(
    kind: type, given: dict[str, object], told: str
) -> None:
    whole = {"job": "eval", "base_dir": "b", "data": ["t"], **given}
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(whole, kind)
    assert in_words(caught.value) == told
