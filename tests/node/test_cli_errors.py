"""How the command line fails: what, why, fix, the right status, and never a traceback unasked."""

import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import cli
from node.cli import error_card, main
from node.client import Client, DaemonError, read_events
from p2pllm.error_codes import ERROR_CODES
from p2pllm.errors import LocalError, P2pllmError
from tests.node.double import open_double, sample
from tests.node.shapes import assert_shape


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2p") as name:
        yield Path(name)


def test_without_a_daemon_a_verb_ends_with_3_and_says_how_to_start_one(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--home", str(home)]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "error[E0302] no daemon is running",
        f"  why   nothing answers at {home}/run/api.sock",
        "  fix   p2pllm up --detach",
    ]


def test_a_json_error_is_a_document_on_stdout(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["id", "--json", "--home", str(home)]) == 3
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert shown.err == ""
    assert document["schema"] == "p2pllm.error/1"
    assert_shape(document, "error")


@pytest.mark.parametrize(
    "argv",
    [["nosuch"], ["status", "--nosuch"], ["show"], ["store", "nosuch"], ["ls", "--timeout", "x"]],
)
def test_a_misspelt_command_ends_with_2(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith("error[E0204]")
    assert main([*argv, "--json"]) == 2
    assert_shape(json.loads(capsys.readouterr().out), "error")


def test_a_misspelt_verb_gets_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    main(["serch"])
    assert "did you mean search?" in capsys.readouterr().err


def test_what_the_daemon_refuses_keeps_its_code_reasons_and_status(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = {"code": "E0203", "kind": "LocalError", "message": "two models", "exit": 2}
    with open_double(home / "run" / "api.sock") as double:
        double.answers["GET", "models/show"] = (409, {"error": {**card, "why": ["a@1", "a@2"]}})
        assert main(["show", "en/a", "--home", str(home)]) == 2
        err = capsys.readouterr().err
        said, mend = err.splitlines()[:3], err.splitlines()[3:]
        assert said == ["error[E0203] two models", "  why   a@1", "        a@2"]
        assert mend == [f"  fix   {ERROR_CODES['E0203'].fix}"]  # it gave none of its own
        main(["show", "en/a", "--home", str(home), "--json"])
    assert_shape(json.loads(capsys.readouterr().out), "error")


def test_a_code_of_a_newer_daemon_keeps_the_status_it_came_with() -> None:
    assert error_card(DaemonError({"code": "E0799", "message": "new", "exit": 7}))["exit"] == 7


@pytest.mark.parametrize("code", ERROR_CODES)
def test_the_status_of_a_code_is_that_of_the_table(code: str) -> None:
    assert error_card(LocalError(code, "x"))["exit"] == ERROR_CODES[code].exit


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [(200, b"<html>", "E0302"), (500, b"oops", "E0101"), (200, b"[1]", "E0302")],
)
def test_an_answer_that_is_not_ours_is_an_error_not_a_crash(
    home: Path, status: int, body: bytes, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_double(home / "run" / "api.sock") as double:
        double.answers["GET", "status"] = (status, body)
        assert main(["status", "--home", str(home)]) == int(code[1:3])
    assert capsys.readouterr().err.startswith(f"error[{code}]")


def test_a_fault_of_ours_shows_a_traceback_only_with_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(session: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("node.commands.status.greet", broken)
    assert main([]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error[E0101]")
    assert "ZeroDivisionError: a fault" in err
    assert "Traceback" not in err
    assert main(["--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_daemon_that_does_not_answer_ends_with_5(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(home / "run" / "api.sock"))
        deaf.listen()
        assert main(["status", "--home", str(home), "--timeout", "200ms"]) == 5
    assert capsys.readouterr().err.startswith("error[E0501] the daemon gave no answer in 0.2 s")


def test_a_daemon_that_hangs_up_is_said_to_have_stopped(home: Path) -> None:
    path = home / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def hang_up() -> None:
            server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(P2pllmError) as caught:
            Client(path, 5.0).get("status")
        thread.join()
    assert caught.value.code == "E0302"


def test_a_socket_left_by_a_dead_daemon_is_no_daemon(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home / "s"))
    assert Client(home / "s").running() is None


def test_event_streams_are_read_over_pings_and_split_data() -> None:
    lines = [b": ping\n", b"\n", b"id: 7\r\n", b'data: {"event":\r\n', b'data: "log"}\r\n', b"\r\n"]
    lines += [b'data: {"event":"result"}\n', b"\n", b'data: {"cut":\n']
    events = list(read_events(iter(lines)))
    assert events == [{"event": "log", "seq": 7}, {"event": "result", "seq": 7}]


def test_interrupted_and_terminated_have_their_own_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for raised, status in ((KeyboardInterrupt(), 130), (cli.Terminated(), 143)):

        def stop(session: object, raised: BaseException = raised) -> None:
            raise raised

        monkeypatch.setattr("node.commands.status.greet", stop)
        assert main([]) == status
        assert "Traceback" not in capsys.readouterr().err


def test_the_recorded_samples_have_a_schema() -> None:
    for path in Path(__file__).parent.joinpath("samples").glob("*.json"):
        assert sample(path.stem)["schema"].startswith("p2pllm.")


def test_a_number_that_is_none_is_refused_before_it_is_sent(home: Path) -> None:
    with pytest.raises(LocalError, match="nan") as caught:
        Client(home / "api.sock").post("jobs", {"lr": float("nan")})
    assert caught.value.code == "E0204"
