"""The README and the docs are true: commands exist, links lead somewhere, output is real."""

import os
import re
from pathlib import Path

import click
import pytest

from node import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# CI names the output of the demo that it just ran.
DEMO_OUTPUT = Path(os.environ.get("P2PLLM_DEMO_OUTPUT", ROOT / "tests/data/demo_output.txt"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "bootstrap/README.md"]


def commands(text: str) -> list[list[str]]:
    """Every `p2pllm …` of a page, in words: in code blocks after '$ ', and between backticks."""
    lines = re.findall(r"^\$ (p2pllm .*)$", text, re.M) + re.findall(r"`(p2pllm [^`]+)`", text)
    return [line.split("#")[0].split()[1:] for line in lines]


def marked(name: str) -> str:
    """What stands between <!-- name --> and <!-- /name -->."""
    match = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README, re.S)
    assert match
    return match[1]


def shape(text: str) -> list[str]:
    """Lines without what differs from run to run: numbers, ids, the widths they take."""
    text = re.sub(r"12D3KooW\w+|\b[0-9a-f]{8,64}\b", "ID", text)
    text = re.sub(r"\d+(?:[.,]\d+)*", "N", text)
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


def find(words: list[str]) -> tuple[click.Command, list[str]] | None:
    """The command that these words name, and the words after its name."""
    context = click.Context(cli.root)
    words = [word for word in words if word not in ("--json", "-q", "-y")]
    while words[:1] == ["--home"]:
        words = words[2:]
    command: click.Command = context.command
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inner = command.get_command(context, words[0])
        if inner is None:
            return None
        command, words = inner, words[1:]
    return command, words


def test_a_verb_that_does_not_exist_is_noticed() -> None:
    assert find(["fetch", "REF"]) is None
    assert find(["--home", "DIR", "store", "gc"]) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_verb_and_option_of_a_page_exists(page: Path) -> None:
    wrong = []
    for words in commands(page.read_text()):
        if not words or not words[0].islower() or words[0].startswith("-"):
            continue  # `p2pllm VERB --help`, bare flags
        found = find(words)
        if found is None:
            wrong.append(" ".join(words))
            continue
        command, rest = found
        known = {name for param in command.params for name in param.opts}
        known |= {"--help", "--json", "--home", "--yes", "-q", "-y", "--debug", "--timeout"}
        wrong += [
            f"{words[0]} {word}" for word in rest if word.startswith("-") and word not in known
        ]
    assert wrong == []


def test_every_make_target_of_a_page_exists() -> None:
    targets = set(re.findall(r"^([a-z][\w./]*):", (ROOT / "Makefile").read_text(), re.M))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?:`|\$ |^    )make ([a-z][\w./]*)", page.read_text(), re.M)
    }
    assert {"demo", "test", "setup", "check"} <= named
    assert named - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    dead = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert dead == []


def test_first_screen_fits_40_lines_and_has_the_two_commands() -> None:
    screen = README.splitlines()[:40]
    assert any(line.startswith("$ make demo") for line in screen)
    assert any(line.startswith("$ make test") for line in screen)


def test_demo_block_shows_what_the_demo_prints() -> None:
    (*shown, shown_end), (*printed, printed_end) = (
        [line for line in text.splitlines() if re.match(r"\[\d+/\d+\]|OK ", line)]
        for text in (marked("demo output"), DEMO_OUTPUT.read_text())
    )
    assert len(shown) == 14
    assert len(printed) in (9, 14)  # CI stops before the poisoners come
    assert shape("\n".join(shown[: len(printed)])) == shape("\n".join(printed))
    assert shape(shown_end) == shape(printed_end)


def test_error_shown_is_what_the_command_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = re.search(r"^\$ p2pllm (.*)\n(error\[.*\n(?:  .*\n)+)", README, re.M)
    assert shown
    status = cli.main(["--home", str(tmp_path), "--no-color", *shown[1].split()])
    printed = capsys.readouterr().err
    assert printed == shown[2].replace("/home/you/.local/share/p2pllm", str(tmp_path))
    assert status == 3


def test_changelog_fragments_are_of_a_known_kind_and_not_empty() -> None:
    folder = ROOT / "docs/changelog.d"
    kinds = re.findall(r"^\| `(\w+)` \|", (folder / "README.md").read_text(), re.M)
    assert "wire" in kinds
    for path in sorted(folder.glob("*.md")):
        if path.name != "README.md":
            number, kind, _ = path.name.split(".")
            assert number.isdigit()
            assert kind in kinds
            assert path.read_text().strip()


@pytest.mark.parametrize("package", ["p2pllm", "gossip", "node"])
def test_the_code_map_names_every_module_and_no_other(package: str) -> None:
    page = (ROOT / "docs/ARCHITECTURE.md").read_text()
    part = page.split(f"\n**`{package}`**")[1].split("\n**`")[0]
    named = set(re.findall(r"`([a-z_]\w*)/?`", part))
    files = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert named == files | folders, "add or remove it in docs/ARCHITECTURE.md"
    assert len(page.splitlines()) < 200


def test_the_list_of_specifications_is_whole() -> None:
    folder = ROOT / "docs/specs"
    listed = set(re.findall(r"^\| \[(.*?)\]", (folder / "README.md").read_text(), re.M))
    assert listed == {path.name for path in folder.glob("*.md")} - {"README.md"}
