"""Starting and stopping: a second `up` is refused, a daemon that dies says why, `down` waits."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from node.cli import main
from node.commands import daemon as verbs
from node.commands.session import Flags, Session
from node.daemon import _stay_attached
from p2pllm.errors import P2pllmError
from tests.node.double import open_double, sample
from tests.node.shapes import assert_shape

ROOT = Path(__file__).parent.parent.parent
# A daemon as far as `up` can tell: it answers, and ends when asked to.
ANSWERS = """
import os, sys, threading
from pathlib import Path
from tests.node.double import open_double
with open_double(Path(sys.argv[1]) / "run" / "api.sock", pid=os.getpid()) as double:
    with double.seen:
        double.seen.wait_for(lambda: double.bodies("POST", "down"))
    threading.Event().wait(0.2)
"""
DIES = """
import sys
print("2026-11-21 starting")
print("error[E0301] the key file is damaged", file=sys.stderr)
print("  why   it has 3 bytes", file=sys.stderr)
print("  fix   restore it", file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2p") as name:
        yield Path(name)


def start(home: Path, code: str, timeout_s: float = 30.0) -> dict[str, object]:
    session = Session(Flags(home=str(home), timeout_s=timeout_s))
    command = [sys.executable, "-c", code, str(home)]
    return verbs._start(session, session.client(), command)


def test_a_second_up_is_refused_with_the_pid(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_double(home / "run" / "api.sock"):
        for argv in (["up"], ["up", "--detach"]):
            assert main([*argv, "--home", str(home)]) == 3
            err = capsys.readouterr().err
            assert err.startswith("error[E0303]")
            assert "pid 4242" in err
            assert "p2pllm down" in err


def test_a_log_that_has_grown_is_put_aside_at_a_start(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "MAX_LOG_BYTES", 100)
    (home / "run").mkdir()
    for said in ("a" * 200, "b" * 200):
        (home / "run" / "log").write_text(said)
        with pytest.raises(P2pllmError, match="key file"):
            start(home, DIES)
        assert (home / "run" / "log.old").read_text() == said
        assert "starting" in (home / "run" / "log").read_text()


def test_a_detached_daemon_outlives_us_and_down_waits_for_its_end(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = start(home, ANSWERS)
    pid = status["pid"]
    assert isinstance(pid, int)
    assert os.getsid(pid) == pid
    assert (home / "run").stat().st_mode & 0o077 == 0
    assert main(["down", "--json", "--home", str(home)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert_shape(document, "down")
    assert document["pid"] == pid
    assert not verbs._alive(pid)
    os.waitpid(pid, 0)


def test_a_daemon_that_dies_gives_its_reason_from_the_log(home: Path) -> None:
    (home / "run").mkdir()
    (home / "run" / "log").write_text("error[E0305] of an earlier run\n")
    with pytest.raises(P2pllmError) as caught:
        start(home, DIES)
    assert caught.value.code == "E0301"
    assert caught.value.message == "the key file is damaged"
    assert caught.value.why == ("it has 3 bytes",)
    assert caught.value.fix == ("restore it", f"less {home}/run/log")


def test_a_daemon_that_dies_without_a_word_gives_its_status(home: Path) -> None:
    with pytest.raises(P2pllmError) as caught:
        start(home, "import sys; sys.exit(9)")
    assert caught.value.message == "the daemon ended with status 9"


def test_a_daemon_that_does_not_answer_in_time_is_named(home: Path) -> None:
    with pytest.raises(P2pllmError) as caught:
        start(home, "import threading; threading.Event().wait(60)", timeout_s=0.3)
    assert caught.value.code == "E0501"
    pid = caught.value.details["pid"]
    assert isinstance(pid, int)
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def test_up_runs_our_node_whatever_the_working_directory_holds(home: Path, tmp_path: Path) -> None:
    """A folder called node, as JavaScript projects have, must not be what runs."""
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "__main__.py").write_text("print('not ours')")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from node.cli import main; main()"
    argv = [sys.executable, "-P", "-c", code, str(ROOT), "up", "--home", str(home), "--help"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--detach" in done.stdout
    command = verbs.daemon_command(Path("h"), {"--bootstrap": ["/ip4/1.2.3.4/tcp/1/p2p/x"]}, 5.0)
    assert command[1:] == ["-m", "node", "--home", "h", "--bootstrap", "/ip4/1.2.3.4/tcp/1/p2p/x",
                           "--quota", "5.0"]  # fmt: skip
    assert verbs.PACKAGES == ROOT


def test_down_without_a_daemon_ends_with_3(home: Path) -> None:
    assert main(["down", "--home", str(home)]) == 3


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()
    child.stdout.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not verbs._alive(child.pid)
    child.wait()
    assert not verbs._alive(child.pid)
    assert verbs._alive(os.getpid())
    assert not verbs._alive(None)


def test_the_up_sample_is_a_status(home: Path) -> None:
    assert_shape(start(home, ANSWERS), "status")
    assert main(["down", "-q", "--home", str(home)]) == 0
    os.waitpid(-1, 0)
    assert sample("status")["schema"] == "p2pllm.status/1"


@pytest.mark.parametrize("argv", [["up", "--detach"], ["up"]])
def test_a_home_that_cannot_be_used_is_named_and_no_fault_of_ours(
    argv: list[str], home: Path
) -> None:
    (home / "file").touch()
    command = [sys.executable, "-m", "node.cli", *argv, "--home", str(home / "file" / "in")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    assert f"error[E0308] cannot use {home / 'file'}" in ended.stderr
    assert "  fix   " in ended.stderr


def test_a_node_in_the_foreground_says_as_json_why_it_cannot_start(home: Path) -> None:
    (home / "key").write_text("no key")
    command = [sys.executable, "-m", "node", "--json", "--home", str(home)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    document = json.loads(ended.stdout)
    assert (document["error"]["code"], ended.returncode, ended.stderr) == ("E0301", 3, "")
    assert_shape(document, "error")


def test_an_answer_that_cannot_be_written_is_no_traceback(home: Path) -> None:
    command = [sys.executable, "-m", "node.cli", "--json", "status", "--home", str(home)]
    with Path("/dev/full").open("w") as out:
        ended = subprocess.run(
            command, cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True, check=False
        )
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 3


def test_a_node_that_is_attached_ends_with_its_standard_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inside, outside = os.pipe()
    with os.fdopen(inside) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        os.close(outside)  # as it is when its holder is killed
        ended: list[bool] = []
        trio.run(_stay_attached, lambda: ended.append(True))
    assert ended == [True]
