"""Each verb asks the daemon the right thing and says the answer, as JSON or for people."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node.cli import VERBS, main
from tests.node.double import Double, open_double, sample
from tests.node.shapes import assert_shape

REF = "en/medical/abstracts"
BASE = "en/smollm2-135m"
ROOT = Path(__file__).parent.parent.parent
PEER = "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2p") as name:  # short: it holds a socket
        yield Path(name)


@pytest.fixture
def daemon(home: Path) -> Iterator[Double]:
    with open_double(home / "run" / "api.sock") as double:
        double.events = [
            sample("progress"),
            {"event": "result", "result": sample("result")["result"]},
        ]
        yield double


@pytest.fixture
def ask(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["--home", str(home), *argv])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


Ask = Callable[..., tuple[int, str, str]]

ASKING = [
    (["status"], "status"),
    (["id"], "identity"),
    (["peers"], "peers"),
    (["peers", "ls"], "peers"),
    (["peers", "connect", PEER], "peer"),
    (["base", "ls"], "models"),
    (["ls"], "models"),
    (["search", "--lang", "en"], "search"),
    (["show", REF], "model"),
    (["rm", REF], "removed"),
    (["store"], "store"),
    (["store", "du"], "store"),
    (["store", "ls"], "models"),
    (["store", "gc", "--dry-run"], "gc"),
    (["store", "verify"], "verify"),
    (["store", "pin", REF], "pin"),
    (["store", "unpin", REF], "pin"),
    (["recommend", "summarise", "--lang", "en", "--max-mem", "2GB"], "recommend"),
    (["ask", "medical summaries, English, laptop, 2 GB, two seconds"], "ask"),
    (["profile"], "profile"),
    (["jobs"], "jobs"),
    (["jobs", "show", "j1"], "job"),
    (["jobs", "cancel", "j1"], "job"),
    (["push", REF, "--licence", "mit", "--dry-run"], "push"),
    (["trust"], "trust"),
    (["trust", "ls", "--place", "en/medical"], "trust"),
    (["trust", "explain", REF], "explanation"),
    (["trust", "set", PEER, "trusted", "--reason", "a friend"], "trust"),
    (["trust", "probes"], "trust"),
    (["trust", "probes", "add", "en/medical", "notes"], "probes"),
    (["trust", "probes", "rm", "en/medical", "notes"], "probes"),
    (["quarantine"], "quarantine"),
    (["quarantine", "show", REF], "explanation"),
    (["quarantine", "add", REF, "--reason", "spam"], "quarantine"),
    (["quarantine", "release", REF, "--reason", "sorry"], "quarantine"),
    (["follow"], "follow"),
    (["follow", "en/medical", "--auto"], "follow"),
    (["tree", "en"], "tree"),
    (["version"], "version"),
    (["help", "E0702"], "help"),
    (["completion", "bash"], "completion"),
    ([], "greeting"),
]


@pytest.mark.parametrize(("argv", "name"), ASKING, ids=[" ".join(a) or "bare" for a, _ in ASKING])
def test_json_is_one_document_of_the_recorded_shape(
    daemon: Double, ask: Ask, argv: list[str], name: str
) -> None:
    status, out, err = ask(*argv, "--json")
    assert status == 0
    assert out.count("\n") == 1
    assert out.isascii()
    document = json.loads(out)
    assert document["schema"] == sample(name)["schema"]
    assert_shape(document, name)
    assert name == "search" or not err


@pytest.mark.parametrize(("argv", "name"), ASKING, ids=[" ".join(a) or "bare" for a, _ in ASKING])
def test_people_get_lines_and_no_json(daemon: Double, ask: Ask, argv: list[str], name: str) -> None:
    status, out, _ = ask(*argv)
    assert status == 0
    assert out.strip()
    assert not out.startswith("{")


def test_every_verb_that_only_asks_is_in_the_table() -> None:
    long = {
        "tune",
        "distill",
        "learn",
        "merge",
        "quantise",
        "export",
        "block",
        "derive",
        "transfer",
        "eval",
        "pull",
        "up",
        "down",
        "demo",
        "doctor",
        "evidence",
    }
    assert {argv[0] for argv, _ in ASKING if argv} == set(VERBS) - long


@pytest.mark.parametrize("place", [0, 1, 2])
def test_global_flags_stand_anywhere(daemon: Double, ask: Ask, place: int) -> None:
    argv = ["store", "du"]
    argv.insert(place, "--json")
    assert_shape(json.loads(ask(*argv)[1]), "store")


def test_the_socket_can_be_named_after_the_verb(
    home: Path, daemon: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["id", "-q", "--api", str(home / "run" / "api.sock")]) == 0
    assert capsys.readouterr().out.strip() == sample("identity")["peer_id"]


def test_quiet_gives_ids_alone(daemon: Double, ask: Ask) -> None:
    refs = [model["ref"] for model in sample("models")["models"]]
    assert ask("ls", "-q") == (0, "\n".join(refs) + "\n", "")
    assert ask("-q", "search", "--lang", "en")[1].split() == [refs[1]]


def test_status_is_five_lines_and_what_is_wrong(daemon: Double, ask: Ask) -> None:
    lines = ask("status")[1].splitlines()
    assert lines[0] == "p2pllm 0.1.0 · 12D3KooW…Box2 · up 2 h 14 m · pid 4242"
    assert lines[1] == "swarm    online · 3 peers · 5 in the DHT · follows en/medical (2 peers)"
    assert lines[2].endswith("no answer in 5 s")
    assert lines[3] == "store    1.8 GB of 21.5 GB quota · 61.2 GB free on disk"
    assert lines[4:6] == ["models   1 base, 2 adapters", "jobs     1 running"]
    daemon.answers["GET", "status"] = (200, {**sample("status"), "refused": {"E0602": 2}})
    assert "refused  E0602 x2" in ask("status")[1].splitlines()
    assert lines[-1] == "warning  [E0304] another node uses this key"


def test_search_sends_only_the_filters_given(daemon: Double, ask: Ask) -> None:
    ask("search", "heart", "--lang", "en", "--size", "<200MB", "--kind", "adapter", "--limit", "5")
    wanted: dict[str, Any] = {"text": "heart", "lang": "en", "size": "<200MB"}
    assert daemon.bodies("POST", "search") == [wanted | {"kind": "adapter", "limit": 5}]


def test_search_by_base_asks_for_its_model_id(daemon: Double, ask: Ask) -> None:
    ask("search", "--base", BASE)
    ask("search", "--base", "c" * 64)
    assert daemon.queries("GET", "models/show") == [{"ref": BASE}]
    assert daemon.bodies("POST", "search") == [{"model": "a1" * 32}, {"model": "c" * 64}]


def test_a_search_without_a_match_ends_with_4(daemon: Double, ask: Ask) -> None:
    nothing = {"schema": "p2pllm.search/1", "results": [], "refused": 0}
    daemon.answers["POST", "search"] = (200, nothing)
    status, out, err = ask("search", "--lang", "xx")
    assert (status, out) == (4, "")
    assert "nothing matches" in err
    status, out, _ = ask("search", "--lang", "xx", "--json")
    assert (status, json.loads(out)) == (4, nothing)


def test_names_of_peers_cannot_steer_the_terminal(daemon: Double, ask: Ask) -> None:
    evil = sample("search")
    evil["results"][0] |= {"ref": "en/x\x1b[2J\u202e", "licence": "mit\r\n"}
    daemon.answers["POST", "search"] = (200, evil)
    for argv in (["search"], ["search", "--json"]):
        out = ask(*argv)[1]
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "\r" not in out
    assert "en/x\\x1b[2J\\u202e" in ask("search")[1]


def test_show_tells_files_report_and_lora(daemon: Double, ask: Ask) -> None:
    out = ask("show", REF)[1]
    for part in (
        "rank 8, alpha 16.0, on k_proj",
        "adapter_model.safetensors",
        "base loss",
        "3.412",
    ):
        assert part in out


def test_base_import_sends_the_embedded_name_or_an_absolute_path(
    daemon: Double, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2").mkdir()
    ask("base", "import", "smollm2", "--lang", "en")
    ask("base", "import", "./smollm2")
    assert ask("base", "import", "nowhere/model.gguf")[2].startswith("error[E0402]")
    sources = [body["source"] for body in daemon.bodies("POST", "jobs")]
    assert sources == ["smollm2", str(tmp_path / "smollm2")]
    assert daemon.bodies("POST", "jobs")[0] == {"kind": "import", "source": "smollm2", "lang": "en"}


def test_tune_sends_absolute_paths_its_place_and_what_was_set(
    daemon: Double, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.txt").write_text("y")
    argv = ["tune", "--base", BASE, "--data", "a.txt", "--data", "b.txt", "--name", "abstracts"]
    argv += ["--lang", "en", "--domain", "medical", "--steps", "40", "--lr", "2e-4"]
    assert ask(*argv)[0] == 0
    data = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    wanted = {"kind": "tune", "base": BASE, "data": data, "name": "abstracts"}
    wanted |= {"place": "en/medical", "steps": 40, "lr": 2e-4}
    assert daemon.bodies("POST", "jobs") == [wanted]


def test_a_place_needs_a_language_and_a_sub_domain_needs_a_domain(
    daemon: Double, ask: Ask, tmp_path: Path
) -> None:
    argv = ["tune", "--base", BASE, "--data", str(tmp_path), "--name", "x"]
    for flags in ([], ["--lang", "en", "--sub", "heart"], ["--domain", "medical"]):
        status, _, err = ask(*argv, *flags)
        assert status == 2
        assert err.startswith("error[E0201]")
    assert ask(*argv, "--place", "en", "--lang", "en")[2].startswith("error[E0204]")
    assert ask(*argv, "--place", "en/medical/heart")[0] == 0


def test_eval_and_pull_send_what_was_asked(daemon: Double, ask: Ask, tmp_path: Path) -> None:
    ask("eval", REF, "--data", str(tmp_path), "--split", "all", "--max-tokens", "64")
    ask("pull", REF, "--dest", str(tmp_path), "--from", "12D3KooWx", "--dry-run")
    ask("pull", REF)
    wanted: list[dict[str, Any]] = [
        {"kind": "eval", "ref": REF, "data": [str(tmp_path)], "split": "all", "max_tokens": 64},
        {"kind": "pull", "ref": REF, "dest": str(tmp_path), "from": ["12D3KooWx"], "dry_run": True},
        {"kind": "pull", "ref": REF},
    ]
    assert daemon.bodies("POST", "jobs") == wanted


def test_pin_and_unpin_differ_in_one_word(daemon: Double, ask: Ask) -> None:
    ask("store", "pin", REF)
    ask("store", "unpin", REF)
    assert daemon.bodies("POST", "store/pin") == [
        {"ref": REF, "pin": True},
        {"ref": REF, "pin": False},
    ]


def test_verify_that_finds_damage_ends_with_6(daemon: Double, ask: Ask) -> None:
    found = {"damaged": ["7" * 64], "models": [REF], "ok": False}
    daemon.answers["POST", "store/verify"] = (200, {**sample("verify"), **found})
    status, out, err = ask("store", "verify")
    assert status == 6
    assert "7" * 64 in out
    assert "again" in err
    assert REF in out


def test_rm_goes_on_after_one_that_is_not_here(daemon: Double, ask: Ask) -> None:
    gone = {"error": {**sample("error")["error"], "code": "E0402", "exit": 4, "message": "no"}}
    daemon.answers["DELETE", "models"] = (404, gone)
    status, out, err = ask("rm", REF, "en/other")
    assert (status, out) == (4, "")
    assert err.count("error[E0402]") == 1
    assert [query["ref"] for query in daemon.queries("DELETE", "models")] == [REF, "en/other"]


def test_rm_that_fails_in_part_writes_one_document(
    daemon: Double, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"error": {**sample("error")["error"], "code": "E0402", "exit": 4, "message": "no"}}
    asked = iter([(200, sample("removed")), (404, gone)])
    monkeypatch.setattr(daemon, "answers", SimpleNamespace(get=lambda *_: next(asked)))
    status, out, _ = ask("rm", REF, "en/other", "--json")
    assert (status, out.count("\n")) == (4, 1)
    document = json.loads(out)
    assert_shape(document, "removed")
    failed = [(one["ref"], one["code"]) for one in document["failed"]]
    assert (document["removed"], failed) == (sample("removed")["removed"], [("en/other", "E0402")])


def test_the_greeting_says_what_to_try(home: Path, daemon: Double, ask: Ask) -> None:
    status, out, err = ask()
    assert (status, len(out.splitlines())) == (0, 8)
    assert "try next" in err
    daemon.answers["GET", "status"] = (200, {**sample("status"), "models": {"bases": 0}})
    assert "p2pllm base import smollm2" in ask()[2]


def test_help_explains_verbs_and_codes(ask: Ask) -> None:
    assert "--licence" in ask("help", "push")[1]
    assert ask("help", "e0707")[1].startswith("E0707 no-licence:")
    assert ask("help")[1].startswith("Usage: p2pllm")
    assert "Usage: p2pllm store gc" in ask("help", "store", "gc")[1]
    assert ask("help", "E9999")[0] == 2
    assert ask("help", "store", "nosuch")[0] == 2


def test_the_demo_is_given_its_own_arguments(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def stand_in(argv: list[str]) -> int:
        given.append(argv)
        return 6

    monkeypatch.setitem(sys.modules, "node.demo", SimpleNamespace(main=stand_in))
    assert ask("demo", "--keep", "DIR", "--json")[0] == 6
    assert ask("--json", "demo", "-q")[0] == 6
    ask("help", "demo")
    assert given == [["--keep", "DIR", "--json"], ["--json", "-q"], ["--help"]]


def test_the_demo_fails_and_help_is_told_as_other_verbs(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for argv in (["--bogus"], ["--steps", "0"], ["--keep", str(tmp_path)]):
        status, out, _ = ask("demo", "--json", *argv)
        assert (status, json.loads(out)["error"]["code"]) == (2, "E0204")
    assert "Usage: p2pllm tune" in json.loads(ask("--json", "help", "tune")[1])["text"]


def test_the_version_is_one_word(ask: Ask) -> None:
    assert ask("--version")[:2] == (0, ask("version", "-q")[1])


@pytest.mark.parametrize("verb", [name for name in VERBS if name != "demo"])
def test_every_verb_has_help(ask: Ask, verb: str) -> None:
    status, out, _ = ask(verb, "--help")
    assert status == 0
    assert f"Usage: p2pllm {verb}" in out


def complete(home: Path, words: str) -> list[str]:
    """What a bash with our completion would be offered after these words."""
    environment = {**os.environ, "_P2PLLM_COMPLETE": "bash_complete", "COMP_WORDS": words}
    environment |= {"COMP_CWORD": str(len(words.split(" ")) - 1), "P2PLLM_HOME": str(home)}
    code = "import sys; from node.cli import main; sys.exit(main([]))"
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.split()]


def test_verbs_options_and_names_of_local_models_are_completed(home: Path, daemon: Double) -> None:
    assert complete(home, "p2pllm st") == ["status", "store"]
    assert complete(home, "p2pllm store g") == ["gc"]
    assert complete(home, "p2pllm push --li") == ["--licence"]
    assert complete(home, "p2pllm status --js") == ["--json"]
    assert complete(home, "p2pllm show en/") == ["en/medical/abstracts", "en/smollm2-135m"]
    assert complete(home, "p2pllm tune --base en/s") == ["en/smollm2-135m"]


def test_names_are_not_completed_without_a_daemon(home: Path) -> None:
    assert complete(home, "p2pllm show en/") == []


def test_status_watch_writes_again_until_interrupted(home: Path, daemon: Double) -> None:
    argv = [sys.executable, "-m", "node.cli", "status", "--watch", "--json", "--home", str(home)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(2):
            assert_shape(json.loads(child.stdout.readline()), "status")
        child.send_signal(signal.SIGINT)
        child.stdout.read()
        assert child.wait(30) == 130


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_us_back(ask: Ask, shell: str) -> None:
    assert "_P2PLLM_COMPLETE" in ask("completion", shell)[1]


def test_a_tree_of_a_node_that_is_alone_says_so(daemon: Double, ask: Ask) -> None:
    daemon.answers["GET", "tree"] = (200, sample("tree") | {"isolated": "no seed is configured"})
    status, out, err = ask("tree")
    assert status == 0
    assert "en/medical" in out
    assert "isolated: no seed is configured" in err
