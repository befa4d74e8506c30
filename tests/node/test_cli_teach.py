"""`distill` asks the daemon for what was said, with paths that mean the same to it."""

from pathlib import Path

import pytest

from tests.node.double import Double
from tests.node.test_cli_verbs import BASE, Ask, ask, daemon, home

__all__ = ["ask", "daemon", "home"]  # fixtures


def test_distill_sends_teacher_student_and_what_was_set(
    daemon: Double, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    argv = ["distill", BASE, "--into", "en/small", "--data", "a.txt", "--name", "taught"]
    assert ask(*argv, "--place", "en/medical", "--steps", "9", "--hard", "0.5")[0] == 0
    wanted = {"kind": "distill", "teacher": BASE, "student": "en/small", "name": "taught"}
    wanted |= {"data": [str(tmp_path / "a.txt")], "place": "en/medical"}
    assert daemon.bodies("POST", "jobs") == [wanted | {"steps": 9, "hard": 0.5}]


CARD = {
    "learner": "en/medical/learnt",
    "state": "learning",
    "head": 2,
    "documents_seen": 40,
    "forgetting": 0.0125,
    "steps": [
        {
            "number": 2,
            "at": 1_700_000_000.0,
            "documents": 20,
            "before": 3.5,
            "after": 3.25,
            "forgetting": 0.0125,
            "ref": "en/medical/learnt@abcd",
        }
    ],
}


def test_learn_start_sends_what_was_set_and_does_not_wait(
    daemon: Double, ask: Ask, tmp_path: Path
) -> None:
    daemon.answers["POST", "learners"] = (202, {"schema": "p2pllm.job/1", "job": "j7"})
    status, out, _ = ask("learn", "start", "en/medical", "--data", str(tmp_path), "--every", "3")
    assert status == 0
    assert "j7" in out
    wanted = {"kind": "learn", "target": "en/medical", "data": [str(tmp_path)]}
    assert daemon.bodies("POST", "learners") == [wanted | {"once": False, "every_s": 3.0}]


def test_learn_once_is_followed_to_its_end(daemon: Double, ask: Ask, tmp_path: Path) -> None:
    daemon.answers["POST", "learners"] = (202, {"schema": "p2pllm.job/1", "job": "j1"})
    asked = ("learn", "start", "en/medical", "--data", str(tmp_path), "--once")
    done = {"step": 1, "documents": 9, "before": 3.5, "after": 3.0, "ref": "en/medical/learnt"}
    daemon.events = [{"event": "result", "result": done}]
    status, out, _ = ask(*asked)
    assert status == 0
    assert "3.5000 -> 3.0000" in out
    daemon.events = [{"event": "result", "result": {"step": 0, "waiting_tokens": 12}}]
    assert "12 tokens" in ask(*asked)[1]


def test_learn_status_stop_and_rollback(daemon: Double, ask: Ask) -> None:
    daemon.answers["GET", "learners"] = (
        200,
        {"schema": "p2pllm.learners/1", "learners": [CARD]},
    )
    assert "+0.0125" in ask("learn", "status")[1]
    assert "3.5000 -> 3.2500" in ask("learn", "status", "en/medical/learnt")[1]
    assert daemon.queries("GET", "learners") == [{}, {"learner": "en/medical/learnt"}]
    answer = {"learner": "en/medical/learnt", "head": 1, "still_offered": ["en/medical/learnt@ab"]}
    daemon.answers["POST", "learners/stop"] = (200, answer)
    daemon.answers["POST", "learners/rollback"] = (200, answer)
    assert ask("learn", "stop", "en/medical/learnt")[0] == 0
    status, out, _ = ask("learn", "rollback", "en/medical/learnt", "--to", "1")
    assert status == 0
    assert "still offered: en/medical/learnt@ab" in out
    sent = {"learner": "en/medical/learnt", "to": 1, "again": False}
    assert daemon.bodies("POST", "learners/rollback") == [sent]


def test_transfer_sends_the_way_and_both_texts_and_tells_what_it_gave(
    daemon: Double, ask: Ask, tmp_path: Path
) -> None:
    done = {"ref": "en/medical/taught", "from": "en/medical/heart/knows", "steps": 40}
    losses = {"base_loss": 4.0, "loss": 3.5, "source_loss": 3.25, "spared": 0.01}
    made = {"made_up": 96, "refused": {"personal": 4}, "path": "/models/taught"}
    daemon.events = [{"event": "result", "result": {**done, **losses, **made}}]
    texts = ("--data", str(tmp_path), "--keep", str(tmp_path))
    status, out, _ = ask("transfer", "up", "en/medical/heart/knows", "--name", "taught", *texts)
    assert status == 0
    assert "loss 4.0000 -> 3.5000 nats a token; who knows has 3.2500" in out
    assert "96 rows made up, 4 of them refused" in out
    wanted = {"kind": "transfer", "direction": "up", "ref": "en/medical/heart/knows"}
    wanted |= {"name": "taught", "data": [str(tmp_path)], "keep": [str(tmp_path)]}
    assert daemon.bodies("POST", "jobs") == [wanted]
