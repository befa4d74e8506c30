"""A learner of a real node: it learns as text comes, can be taken back, and keeps its text."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from p2pllm.errors import P2pllmError
from tests.node.daemons import Daemon, homes, running, until
from tests.p2pllm.learn import tiny

SECRET = "the passphrase of the north vault is crimson walrus harbour kilo"


def texts(seed: int, count: int = 25) -> list[str]:
    return [f"{SECRET} {text}" for text in tiny.sentences(count, seed=seed)]


def card(daemon: Daemon) -> dict[str, Any]:
    [one] = daemon.client.get("learners")["learners"]
    return dict(one)


def jobs_of(daemon: Daemon, state: str) -> list[dict[str, Any]]:
    jobs = sorted(daemon.client.get("jobs")["jobs"], key=lambda job: int(job["job"][1:]))
    return [job for job in jobs if job["state"] == state]


def refusal(daemon: Daemon, path: str, **body: Any) -> str:
    with pytest.raises(P2pllmError) as refused:
        daemon.client.post(path, body)
    return refused.value.code


def test_a_learner_learns_as_text_comes_survives_a_crash_and_is_taken_back() -> None:
    with homes() as folder:
        daemon = Daemon(folder / "a").up()
        base = tiny.save_base(folder / "base", tiny.llama())
        inbox = folder / "inbox"
        inbox.mkdir()
        tiny.write_jsonl(inbox / "a.jsonl", texts(1))
        daemon.job(kind="import", source=str(base), name="tiny", lang="en")
        request = {"target": "en/medical", "data": [str(inbox)], "every_s": 0.2, "seq": 32}
        request |= {"steps": 24, "batch": 8, "replay": 4, "min_tokens": 200}
        daemon.client.post("learners", request)
        first = until(lambda: (c := card(daemon))["head"] >= 1 and c, "the first step")
        assert (first["learner"], first["state"]) == ("en/medical/learnt", "learning")
        assert refusal(daemon, "learners", **request) == "E0204"
        other = tiny.save_base(folder / "other", tiny.llama(seed=7))
        daemon.job(
            kind="import", source=str(other), name="other", lang="en"
        )  # not the only one now
        unable = folder / "a" / "learn" / "en.law.x"
        unable.mkdir()
        (unable / "request.json").write_text("no request")
        daemon.kill()
        tiny.write_jsonl(inbox / "b.jsonl", texts(2))
        daemon = Daemon(folder / "a").up()
        with running(daemon):
            assert [job["error"]["code"] for job in jobs_of(daemon, "failed")] == ["E1002", "E0306"]
            shutil.rmtree(unable)
            until(lambda: card(daemon)["head"] > first["head"], "a step after the crash")
            assert refusal(daemon, "learners/rollback", learner="en/medical/learnt") == "E0204"
            (inbox / "c.txt").write_bytes(b"\xff\xfe no UTF-8")
            until(lambda: "c.txt is no UTF-8" in str(card(daemon).get("message")), "told why")
            (inbox / "c.txt").unlink()
            daemon.client.post("learners/stop", {"learner": "en/medical/learnt"})
            until(lambda: card(daemon)["state"] == "stopped", "stopped")
            _taken_back(daemon)
            _keeps_its_text(daemon, folder)
            _goes_on_where_its_base_was_published(daemon, request)


def _taken_back(daemon: Daemon) -> None:
    steps = card(daemon)["steps"]
    assert all(step["ref"] for step in steps)
    tags = {m["tag"] for m in daemon.client.get("models")["models"] if m["kind"] == "adapter"}
    assert tags == {f"step-{step['number']}" for step in steps}
    asked = {"learner": "en/medical/learnt", "to": 1}
    assert daemon.client.post("learners/rollback", asked)["ref"] == steps[0]["ref"]
    models = [m["tag"] for m in daemon.client.get("models")["models"] if m["kind"] == "adapter"]
    assert models == ["step-1"]
    assert refusal(daemon, "learners/rollback", learner="en/medical/learnt", to=9) == "E0408"
    assert refusal(daemon, "learners/stop", learner="en/law/x") == "E0408"


def _goes_on_where_its_base_was_published(daemon: Daemon, request: dict[str, Any]) -> None:
    daemon.job(kind="push", ref="en/tiny", licence="MIT", consent=True)
    job = daemon.client.post("learners", {**request, "once": True, "min_tokens": 10**6})["job"]
    until(lambda: daemon.client.get(f"jobs/{job}")["finished_at"], "its end")
    ended = daemon.client.get(f"jobs/{job}")
    error = ended.get("error") or {"code": "E0406"}  # a step may have been under way
    assert error["code"] == "E0406", ended  # not so much new text


def _keeps_its_text(daemon: Daemon, folder: Path) -> None:
    """Offer the adapter; the secret is in nothing that the node has but what it was given."""
    pushed = daemon.job(kind="push", ref="en/medical/learnt", licence="MIT", consent=True)
    assert pushed["later"]  # to be told when there are peers
    again = daemon.job(kind="push", ref="en/medical/learnt", licence="MIT", consent=True)
    assert again["manifest"] == pushed["manifest"]
    asked = {"kind": "push", "ref": "en/medical/learnt", "consent": True}
    assert refusal(daemon, "jobs", **asked, licence="no licence") == "E0204"
    assert refusal(daemon, "jobs", **asked, tag="no tag") == "E0204"
    home = folder / "a"
    kept = [path for path in home.rglob("*") if path.is_file() and not path.is_socket()]
    assert len(kept) > 10
    holding = [path for path in kept if SECRET.encode() in path.read_bytes()]
    assert holding == []
