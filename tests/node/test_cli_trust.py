"""The verbs that show trust: what they ask, what they say, and what they refuse."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from node.cli import main
from node.plain_words import REASONS, against, harmful, reason_rows
from p2pllm import codec
from tests.node.double import Double, open_double, sample
from tests.node.shapes import assert_shape
from tests.trust.bundles import Observer, lived
from tests.trust.values import node
from trust import bundle
from trust.evidence import open_observation, seal

LIAR = node(3)
REF = "en/medical/abstracts"
Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2p") as name:
        yield Path(name)


@pytest.fixture
def daemon(home: Path) -> Iterator[Double]:
    with open_double(home / "run" / "api.sock") as double:
        yield double


@pytest.fixture
def ask(home: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    def call(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["--home", str(home), *argv])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


@pytest.fixture(scope="module")
def observer() -> Observer:
    return lived(8, p3={"agreement": -0.9})


def explain(daemon: Double, observer: Observer, raw: bytes | None = None) -> dict[str, Any]:
    """The daemon explains peer 3 as this observer judged it."""
    document = sample("explanation")
    [told] = document["verdicts"]
    document["verdicts"] = [
        {
            **told,
            "manifest": one.update,
            "peer_id": one.peer,
            "round": number,
            "decision": one.decision,
            "weight": one.weight,
            "scale": one.scale,
            "state": one.state,
            "reasons": msgspec.to_builtins(one.reasons),
        }
        for number, one in enumerate((v for v in observer.verdicts if v.peer == LIAR), 1)
    ]
    states = {"en/medical": "quarantined"}
    document["subject"] = {"kind": "peer", "peer_id": LIAR, "states": states}
    daemon.answers["GET", "trust/explain"] = (200, document)
    daemon.answers["GET", "trust/evidence"] = (200, raw or observer.bundle(LIAR))
    return document


def framed(observer: Observer) -> bytes:
    """A bundle whose first observation says something that the numbers do not."""
    opened = bundle.open_bundle(observer.bundle(LIAR))
    first = open_observation(opened.observations[0])
    changed = seal(observer.identity, msgspec.structs.replace(first, verdict="hold"))
    turned = msgspec.structs.replace(opened, observations=(changed,))
    return codec.sign(observer.identity, bundle.PURPOSE, turned)


def test_ls_shows_each_peer_and_why_a_place_is_not_judged(daemon: Double, ask: Ask) -> None:
    out = ask("trust")[1]
    assert " quarantined 0.31 " in " ".join(out.split())
    assert "1 held, 3 rejected" in out
    assert "en/medical: 200 probe documents, 12 rounds judged, 1 updates served, 1 waiting" in out
    assert "not judging: no text to judge updates of en/legal with" in out
    ask("trust", "ls", "--place", "en/legal")
    assert daemon.queries("GET", "trust")[-1] == {"place": "en/legal"}


def test_explain_names_every_number_its_limit_and_the_harmful_side(
    daemon: Double, ask: Ask, observer: Observer
) -> None:
    explain(daemon, observer)
    status, out, _ = ask("trust", "explain", LIAR, "--all")
    assert status == 0
    verdicts = [one for one in observer.verdicts if one.peer == LIAR]
    for verdict in verdicts:
        for reason in verdict.reasons:
            assert reason.code in REASONS, f"{reason.code} has no words"
    assert "reject" in out
    assert "BAD IF" in out
    assert "odds against the peer" in out
    assert "quarantines" in out
    assert "probe: loss 3.1000 without it, 3.9000 with it (worse)" in out
    assert "recomputed here from the ledger: 8 of 8 signed verdicts come out the same" in out
    marked = [line for line in out.splitlines() if line.startswith("! ")]
    assert any("knowledge" in line for line in marked)


def test_explain_shows_the_last_verdict_on_each_update_unless_asked(
    daemon: Double, ask: Ask, observer: Observer
) -> None:
    document = explain(daemon, observer)
    for one in document["verdicts"]:
        one["manifest"] = "7" * 64
    out = ask("trust", "explain", LIAR)[1]
    assert "7 earlier verdicts: --all" in out
    assert "round 8" in out
    assert "round 2" not in out


def test_a_verdict_that_does_not_recompute_ends_with_6_and_says_where(
    daemon: Double, ask: Ask, observer: Observer
) -> None:
    explain(daemon, observer, framed(observer))
    status, out, _ = ask("trust", "explain", LIAR)
    assert status == 6
    assert "DOES NOT RECOMPUTE" in out
    assert "recorded hold, recomputed" in out


def test_a_record_without_a_valid_signature_is_said_loudly(daemon: Double, ask: Ask) -> None:
    document = sample("explanation")
    document["verdicts"][0]["signature_ok"] = False
    daemon.answers["GET", "trust/explain"] = (200, document)
    assert "NO VALID SIGNATURE" in ask("trust", "explain", REF)[1]


def test_without_evidence_it_says_that_nothing_was_recomputed(daemon: Double, ask: Ask) -> None:
    status, out, _ = ask("trust", "explain", REF)
    assert status == 0
    assert "not recomputed" in out
    forged = explain(daemon, lived(1)) and lived(1).bundle(LIAR)[:-1]
    daemon.answers["GET", "trust/evidence"] = (200, forged)
    status, _, err = ask("trust", "explain", REF)
    assert status == 6
    assert err.startswith("error[E0603]")


def test_names_and_reasons_of_peers_cannot_steer_the_terminal(daemon: Double, ask: Ask) -> None:
    evil = "\x1b[2J\u202e"
    for path, name in (("trust/explain", "explanation"), ("quarantine", "quarantine")):
        text = json.dumps(sample(name)).replace("en/medical", evil + "en").replace("spam", evil)
        daemon.answers["GET", path] = (200, json.loads(text, strict=False))
    for argv in (["trust", "explain", REF], ["quarantine"], ["quarantine", "show", REF]):
        out = ask(*argv)[1]
        assert out
        assert "\x1b" not in out
        assert "\u202e" not in out


def test_set_add_and_release_send_the_reason_and_need_one(daemon: Double, ask: Ask) -> None:
    assert ask("trust", "set", LIAR, "trusted", "--reason", "met")[0] == 0
    assert ask("trust", "set", LIAR, "probation", "--reason", "x", "--place", "en")[0] == 0
    assert ask("quarantine", "add", REF, "--reason", "spam")[0] == 0
    assert ask("quarantine", "release", REF, "--reason", "sorry")[0] == 0
    assert daemon.bodies("POST", "trust") == [
        {"peer": LIAR, "state": "trusted", "reason": "met"},
        {"peer": LIAR, "state": "probation", "reason": "x", "place": "en"},
    ]
    assert daemon.bodies("POST", "quarantine") == [{"subject": REF, "reason": "spam"}]
    assert daemon.bodies("DELETE", "quarantine") == [{"subject": REF, "reason": "sorry"}]
    for argv in (
        ["trust", "set", LIAR, "trusted"],
        ["trust", "set", LIAR, "banned", "--reason", "x"],
        ["quarantine", "add", REF],
        ["quarantine", "release", REF],
        ["trust", "probes", "add", "en"],
    ):
        status, _, err = ask(*argv)
        assert status == 2
        assert err.startswith("error[E0204]")


def test_probes_are_sent_as_absolute_paths(
    daemon: Double, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "200 documents judge en/medical" in ask("trust", "probes", "add", "en/medical", "a")[1]
    wanted = {"place": "en/medical", "paths": [str(tmp_path / "a")]}
    assert daemon.bodies("POST", "trust/probes") == [wanted]
    ask("trust", "probes", "rm", "en/medical", "a")
    daemon.answers["DELETE", "trust/probes"] = (200, {"place": "en/medical", "documents": 0})
    assert "no text judges en/medical" in ask("trust", "probes", "rm", "en/medical")[1]
    assert daemon.bodies("DELETE", "trust/probes") == [wanted, {**wanted, "paths": []}]


def test_quarantine_show_explains_who_is_in_it_and_nobody_else(daemon: Double, ask: Ask) -> None:
    out = ask("quarantine", "show", REF)[1]
    assert "shut out at en/medical since" in out
    assert "by the operator: spam" in out
    assert "is not served: harm 0.8 (> 0.1)" in out
    daemon.answers["GET", "quarantine"] = (200, {"peers": [], "updates": []})
    status, _, err = ask("quarantine", "show", REF)
    assert status == 4
    assert "is not in quarantine" in err
    assert "nobody and nothing" in ask("quarantine")[1]


def test_evidence_is_exported_and_verified_without_a_daemon(
    home: Path, ask: Ask, observer: Observer, tmp_path: Path
) -> None:
    file = tmp_path / "liar.evidence"
    with open_double(home / "run" / "api.sock") as double:
        double.answers["GET", "trust/evidence"] = (200, observer.bundle(LIAR))
        status, out, _ = ask("evidence", "export", LIAR, "-o", str(file), "--place", "en/medical")
        assert (status, file.read_bytes()) == (0, observer.bundle(LIAR))
        assert double.queries("GET", "trust/evidence") == [{"subject": LIAR, "place": "en/medical"}]
        assert "8 verdicts" in out
        assert ask("evidence", "export", LIAR, "-o", str(tmp_path / "no" / "x"))[0] == 2
    status, out, _ = ask("evidence", "verify", str(file))
    assert status == 0
    assert out.endswith("holds\n")
    assert "verdicts  8 recomputed, 8 of them signed, 8 the same" in out
    document = json.loads(ask("evidence", "verify", str(file), "--json")[1])
    assert document["schema"] == "p2pllm.verified/1"
    assert (document["sound"], document["state"]) == (True, "quarantined")
    assert_shape(document, "verified")
    assert "BAD IF" in ask("evidence", "verify", str(file), "--all")[1]


def test_evidence_that_was_tampered_with_ends_with_6(
    ask: Ask, observer: Observer, tmp_path: Path
) -> None:
    file = tmp_path / "evidence"
    file.write_bytes(framed(observer))
    status, out, _ = ask("evidence", "verify", str(file))
    assert status == 6
    assert "FAULT" in out
    assert out.endswith("DOES NOT HOLD\n")
    raw = bytearray(observer.bundle(LIAR))
    raw[len(raw) // 2] ^= 1
    for data in (bytes(raw), b"", b"hello"):
        file.write_bytes(data)
        status, out, err = ask("evidence", "verify", str(file))
        assert (status, out) == (6, "")
        assert err.startswith("error[E060")
    assert ask("evidence", "verify", str(tmp_path / "none"))[0] == 4
    assert ask("evidence", "verify", str(tmp_path))[0] == 4


@pytest.mark.parametrize("argv", [["trust"], ["quarantine"], ["trust", "explain", LIAR]])
def test_without_a_daemon_they_end_with_3(ask: Ask, argv: list[str]) -> None:
    assert ask(*argv)[0] == 3


def test_the_harmful_side_is_marked_and_an_unknown_number_never_is() -> None:
    bad = [{"code": "knowledge", "value": -0.1, "limit": 0.0}]
    edge = {"code": "stake", "value": 2.0, "limit": 2.0}
    assert harmful(bad[0])
    assert harmful(edge)
    assert not harmful({"code": "copies", "value": 1.0, "limit": 1.0})
    strange = {"code": "novel", "value": 9.0, "limit": 1.0}
    assert not harmful(strange)
    assert against([*bad, strange]) == "knowledge -0.1 (< 0)"
    assert "does not know" in reason_rows([strange])[1]


def test_explain_shows_what_the_gate_decided_with_its_numbers(daemon: Double, ask: Ask) -> None:
    status, out, _ = ask("trust", "explain", "en/medical")
    assert status == 0
    assert "alone in the shadow: reject" in out
    assert "! gain 0.004 (limit 0.03)" in out
    assert "gained +0.0100 ± 0.0040 nats a token on 40 documents; its word counts 0.5" in out
    assert "1 other keepers: own text had to show more" in out
