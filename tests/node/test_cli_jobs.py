"""Long verbs: progress on stderr, one result or error, Ctrl-C cancels the job, nothing is lost."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node import client
from node.cli import main
from node.commands import follow
from tests.node.double import Double, open_double, sample
from tests.node.shapes import assert_shape

ROOT = Path(__file__).parent.parent.parent
REF = "en/medical/abstracts"
PULL = ["pull", REF]
RESULT = {"event": "result", "job": "j1", "result": sample("result")["result"]}
FAILED = {"event": "error", "job": "j1", "error": sample("event-error")["error"]}
PATIENCE_S = 30.0


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2p") as name:
        yield Path(name)


@pytest.fixture
def daemon(home: Path) -> Iterator[Double]:
    with open_double(home / "run" / "api.sock") as double:
        yield double


def run(home: Path, *argv: str) -> int:
    return main(["--home", str(home), *argv])


def command(home: Path, *argv: str) -> list[str]:
    return [sys.executable, "-m", "node.cli", "--home", str(home), *argv]


def progress(done: int) -> dict[str, Any]:
    return {**sample("progress"), "done": done}


def test_json_lines_end_with_exactly_one_result(
    home: Path, daemon: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.events = [*(progress(done) for done in range(30)), RESULT]
    assert run(home, *PULL, "--json") == 0
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert shown.err == ""
    assert [line["event"] for line in lines] == ["progress", "result"]  # all came at once
    assert_shape(lines[0], "progress")
    assert_shape(lines[1], "result")


def test_a_failed_job_ends_with_one_error_event_and_its_status(
    home: Path, daemon: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.events = [progress(1), FAILED]
    assert run(home, *PULL, "--json") == 7
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["progress", "error"]
    assert_shape(lines[1], "event-error")


def test_people_see_progress_on_stderr_and_the_result_on_stdout(
    home: Path, daemon: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.events = [progress(12), RESULT]
    assert run(home, *PULL) == 0
    shown = capsys.readouterr()
    assert shown.err == "train   30 %  12/40 steps  loss 2.871  eta 34 s  step 12\n"
    assert shown.out.startswith("✓ en/medical/abstracts@")


def test_quiet_prints_the_reference_alone(
    home: Path, daemon: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.events = [progress(12), RESULT]
    run(home, *PULL, "-q")
    shown = capsys.readouterr()
    assert (shown.out.strip(), shown.err) == (RESULT["result"]["ref"], "")


def test_a_broken_stream_is_taken_up_where_it_broke(
    home: Path, daemon: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.events = [progress(1), progress(2), progress(3), RESULT]
    daemon.break_first = 2
    assert run(home, *PULL, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["event"] == "result"
    assert [query["after"] for query in daemon.queries("GET", "events")] == ["0", "1", "2"]


def test_a_stream_that_broke_before_the_end_ends_with_what_the_daemon_remembers(
    home: Path, daemon: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    done = {**sample("job"), "job": "j1", "state": "done", "result": RESULT["result"]}
    daemon.answers["GET", "jobs/j1"] = (200, done)
    daemon.events = [progress(1)]
    assert run(home, *PULL, "-q") == 0
    assert capsys.readouterr().out.strip() == RESULT["result"]["ref"]


def test_a_job_that_ended_unheard_is_found_out(
    home: Path,
    daemon: Double,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(follow, "QUIET_S", 0.1)
    failed = {**sample("job"), "state": "failed", "error": FAILED["error"]}
    daemon.answers["GET", "jobs/j1"] = (200, failed)
    daemon.events, daemon.stall = [progress(1)], True  # the stream stays open and says nothing
    assert run(home, *PULL) == 7
    assert "error[E0708]" in capsys.readouterr().err


def test_a_daemon_that_dies_under_a_job_is_said_so(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(follow, "RETRY_S", 0.01)
    gone = follow.Client(home / "nothing")
    events = follow.Events()
    follow._read(gone, "j1", events)
    error = events.get()
    assert isinstance(error, Exception)
    assert error.args == ("the daemon is gone while job j1 was under way",)


def test_no_progress_for_the_given_time_cancels_the_job_and_ends_with_5(
    home: Path, daemon: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.events, daemon.stall = [progress(1)], True
    daemon.after_cancel = [FAILED]
    assert run(home, *PULL, "--timeout", "300ms") == 5
    assert daemon.cancelled.is_set()
    assert capsys.readouterr().err.splitlines()[-3].startswith("error[E0501] job j1")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_job_waits_for_its_end_and_has_its_status(
    home: Path, daemon: Double, number: int, status: int
) -> None:
    daemon.events, daemon.stall = [progress(1)], True
    daemon.after_cancel = [FAILED]
    with subprocess.Popen(
        command(home, *PULL, "--json"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["event"] == "progress"
        child.send_signal(number)
        rest = [json.loads(line) for line in child.stdout]
        assert child.wait(PATIENCE_S) == status
    assert daemon.cancelled.is_set()
    assert [line["event"] for line in rest] == ["error"]
    assert_shape(rest[0], "event-error")
    assert rest[0]["error"]["code"] == "E1001"
    assert rest[0]["error"]["kind"] == "LocalError"
    assert rest[0]["error"]["exit"] == status
    assert rest[0]["job"] == "j1"


def test_a_job_that_will_not_end_is_not_waited_for(home: Path, daemon: Double) -> None:
    daemon.events, daemon.stall = [progress(1)], True  # cancelled, the stream ends without a word
    daemon.answers["GET", "jobs/j1"] = (200, {**sample("job"), "state": "running"})
    with subprocess.Popen(
        command(home, *PULL, "--json"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        child.stdout.read()
        assert child.wait(PATIENCE_S) == 130
    assert time.monotonic() - began < 2 * follow.CANCEL_S + 2


class Terminal:
    """A command with a terminal of its own: what it shows, and what is typed."""

    def __init__(self, argv: list[str]) -> None:
        self._ours, theirs = pty.openpty()
        self.child = subprocess.Popen(
            argv, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.shown = ""

    def until(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.shown:
            ready, _, _ = select.select([self._ours], [], [], deadline - time.monotonic())
            assert ready, f"no {text!r} in {self.shown!r}"
            self.shown += os.read(self._ours, 65536).decode()

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        try:
            while data := os.read(self._ours, 65536):
                self.shown += data.decode()
        except OSError:  # the other side of a terminal that has closed
            pass
        os.close(self._ours)
        return self.child.wait(PATIENCE_S)


def test_push_asks_on_a_terminal_after_saying_what_becomes_public(
    home: Path, daemon: Double
) -> None:
    daemon.events = [RESULT]
    terminal = Terminal(command(home, "push", REF, "--licence", "mit"))
    terminal.until("Publish? [y/N]")
    for part in (
        "en/medical/abstracts",
        "licence",
        "mit",
        sample("identity")["peer_id"],
        "adapter_model.safetensors",
        "train tokens 20480",
        "cannot be called back",
    ):
        assert part in terminal.shown
    assert not daemon.bodies("POST", "jobs")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert "✓ published" in terminal.shown
    body = daemon.bodies("POST", "jobs")[0]
    assert body == {"kind": "push", "ref": REF, "licence": "mit", "consent": True}


def test_push_that_is_declined_publishes_nothing(home: Path, daemon: Double) -> None:
    terminal = Terminal(command(home, "push", REF))
    terminal.until("Publish? [y/N]")
    terminal.type("\n")
    assert terminal.end() == 7
    assert "error[E0701]" in terminal.shown
    assert not daemon.bodies("POST", "jobs")


def test_rm_asks_on_a_terminal(home: Path, daemon: Double) -> None:
    terminal = Terminal(command(home, "rm", REF))
    terminal.until("from this node? [y/N]")
    terminal.type("n\n")
    assert terminal.end() == 0
    assert "nothing removed" in terminal.shown
    assert not daemon.queries("DELETE", "models")


def test_a_terminal_has_a_moving_line_that_is_gone_at_the_end(home: Path, daemon: Double) -> None:
    daemon.events, daemon.stall = [progress(12)], True
    daemon.after_cancel = [RESULT]
    terminal = Terminal(command(home, *PULL))
    terminal.until("12/40 steps")
    assert "━" in terminal.shown
    daemon.cancelled.set()
    assert terminal.end() == 0
    assert "\x1b[3" not in terminal.shown
    assert terminal.shown.rpartition("\r")[2] == "\n" or " \r✓ en/" in terminal.shown


@pytest.mark.parametrize(("value", "coloured"), [("", True), ("1", False), ("no", False)])
def test_colours_are_for_terminals_and_no_color_is_obeyed(
    home: Path, monkeypatch: pytest.MonkeyPatch, value: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", value)
    terminal = Terminal(command(home, "doctor", "clock"))
    assert terminal.end() == 0
    assert ("\x1b[32m✓" in terminal.shown) is coloured
    assert "✓ clock" in terminal.shown or coloured


def test_push_without_a_terminal_needs_yes(
    home: Path, daemon: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(home, "push", REF) == 7
    err = capsys.readouterr().err
    assert err.startswith("error[E0701]")
    assert "these become public:" in err
    assert run(home, "push", REF, "--json") == 7
    assert not daemon.bodies("POST", "jobs")
    daemon.events = [RESULT]
    assert run(home, "push", REF, "--yes", "--tag", "v2", "--lang", "en", "--domain", "law") == 0
    wanted = {"kind": "push", "ref": REF, "tag": "v2", "place": "en/law", "consent": True}
    assert daemon.bodies("POST", "jobs") == [{**wanted, "licence": "apache-2.0"}]


def test_push_without_a_licence_is_refused_before_anything_is_asked(
    home: Path, daemon: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers["GET", "models/show"] = (200, {**sample("model"), "licence": "NOASSERTION"})
    assert run(home, "push", REF, "--yes") == 7
    assert capsys.readouterr().err.startswith("error[E0707]")
    assert not daemon.bodies("POST", "jobs")


def test_push_takes_a_peft_directory_made_elsewhere(
    home: Path, daemon: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "Notes"
    folder.mkdir()
    place = ["--lang", "en", "--domain", "medical"]
    given = [*place, "--base", "en/tiny", "--licence", "mit", "--yes"]
    assert run(home, "push", str(folder), *given) == 2
    assert "has no adapter_config.json" in capsys.readouterr().err
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"12345678")
    two = {**sample("models"), "models": sample("models")["models"][:1] * 2}
    daemon.answers["GET", "models"] = (200, two)
    assert run(home, "push", str(folder), *place, "--licence", "mit") == 2
    assert "which base does it stand on?" in capsys.readouterr().err
    assert run(home, "push", str(folder), "--licence", "mit") == 2
    assert "where it belongs is missing" in capsys.readouterr().err
    daemon.events = [RESULT]
    assert run(home, "push", str(folder), *given) == 0
    wanted = {"kind": "push", "path": str(folder), "base": "en/tiny", "place": "en/medical"}
    wanted |= {"name": "notes", "licence": "mit"}
    assert daemon.bodies("POST", "jobs") == [{**wanted, "consent": True}]


def _starting(daemon: Double, monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    """The daemon's DHT comes up after so many looks; what needs it is refused till then."""
    early = {**sample("error")["error"], "code": "E0904", "exit": 9, "why": ["it is starting"]}
    early["details"] = {"starting": "dht"}
    status, left = sample("status"), [looks]
    status["children"]["dht"]["state"] = "down"
    daemon.answers["GET", "status"] = (200, status)
    daemon.answers["POST", "search"] = (503, {"error": early})
    daemon.events = [{"event": "error", "job": "j1", "error": early}]

    def wait(_seconds: float) -> None:
        left[0] -= 1
        if left[0] == 0:
            status["children"]["dht"]["state"] = "up"
            daemon.answers["POST", "search"] = (200, sample("search"))
            daemon.events = [RESULT]

    monkeypatch.setattr(client, "_pause", SimpleNamespace(wait=wait))


@pytest.mark.parametrize("argv", [PULL, ["search"]], ids=["a job", "a question"])
def test_what_fails_since_the_daemon_is_starting_is_asked_again(
    home: Path,
    daemon: Double,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
) -> None:
    _starting(daemon, monkeypatch, 3)
    assert run(home, *argv, "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)
    assert shown.err.count("the daemon is starting") == 1
    assert len(daemon.queries("GET", "status")) == 3


def test_a_daemon_that_stays_starting_is_waited_for_so_long(
    home: Path,
    daemon: Double,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _starting(daemon, monkeypatch, 10**6)
    assert run(home, *PULL) == 9
    assert capsys.readouterr().err.splitlines()[-3].startswith("error[E0904]")
    assert len(daemon.queries("GET", "status")) == client.STARTING_S / client.LOOK_S
