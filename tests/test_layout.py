"""The shape of the source: packages, sizes, docstrings, banned words, what an import costs."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("p2pllm", "gossip", "trust", "node")
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7  # with self; docs/decisions and the style ask for a struct past six
BANNED = re.compile(r"\b(pickle\.|import pickle|from pickle|torch\.load|cloudpickle|dill\b|joblib)")
LEARNING = {"torch", "transformers", "peft", "accelerate", "gguf"}
NETWORK = {"libp2p", "hivemind", "multiaddr"}
WEB = {"starlette", "hypercorn", "trio"}


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def where(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{where(path)}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]


def loaded_by(module: str) -> set[str]:
    """Top-level names in sys.modules of a fresh interpreter that imports only this module."""
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_lie_side_by_side_and_are_ours(package: str) -> None:
    """`node`, `gossip` and `trust` are names that other distributions use as well."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin == str(ROOT / package / "__init__.py")


def test_the_build_names_the_four_packages() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert config["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)


def test_no_module_is_longer_than_400_lines() -> None:
    sizes = {where(path): len(path.read_text().splitlines()) for path in sources()}
    assert {name: size for name, size in sizes.items() if size > MAX_MODULE_LINES} == {}


def test_no_function_is_longer_than_60_lines_or_takes_more_than_7_parameters() -> None:
    over = []
    for path in sources():
        for function in functions(ast.parse(path.read_text())):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            given = function.args
            count = len(given.posonlyargs + given.args + given.kwonlyargs)
            if lines > MAX_FUNCTION_LINES or count > MAX_PARAMETERS:
                over.append(f"{where(path)}:{function.lineno}: {lines} lines, {count} parameters")
    assert over == []


def test_every_module_says_its_idea_in_a_docstring() -> None:
    bare = [where(path) for path in sources() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert bare == []


def test_nothing_loads_code_from_data() -> None:
    """No pickle or its kin, no torch.load, no eval or exec."""
    calls = [
        f"{where(path)}:{node.lineno}: {ast.unparse(node.func)}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("eval", "exec")
    ]
    assert calls == []
    assert lines_with(BANNED) == []


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK|raise NotImplementedError)\b")
    assert lines_with(marks) == []


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("p2pllm.manifest", LEARNING | NETWORK | WEB),
        ("p2pllm.error_codes", LEARNING | NETWORK | WEB),
        ("node.cli", LEARNING | NETWORK | WEB),
        ("node.client", LEARNING | NETWORK | WEB),
        ("node.commands.status", LEARNING | NETWORK | WEB),
        ("node.commands.find", LEARNING | NETWORK | WEB),
        ("node.daemon", LEARNING | {"hivemind"}),
        ("gossip.discovery", LEARNING | {"libp2p"} | WEB),
    ],
)
def test_import_loads_nothing_heavy(module: str, unwanted: set[str]) -> None:
    assert loaded_by(module) & unwanted == set()
