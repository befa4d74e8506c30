"""The command line and a real daemon: the samples are what it answers, and what it is sent fits."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.cli import main
from node.client import Client
from node.requests import JobRequest, PeerRequest, PinRequest, SearchRequest, parse
from tests.node.double import open_double, sample
from tests.node.shapes import assert_shape

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 60.0


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2p") as name:
        yield Path(name)


def wait_for(home: Path, up: bool) -> None:
    client, until = Client(home / "run" / "api.sock", 5.0), time.monotonic() + PATIENCE_S
    while (client.running() is not None) != up:
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def daemon(home: Path) -> Iterator[Path]:
    assert main(["up", "--detach", "-q", "--home", str(home)]) == 0
    pid = Client(home / "run" / "api.sock").get("status")["pid"]
    yield home
    if main(["down", "-q", "--home", str(home)]) != 0:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


ANSWERED = [
    (["status"], 0, "status"),
    (["id"], 0, "identity"),
    (["peers"], 0, "peers"),
    (["ls"], 0, "models"),
    (["store"], 0, "store"),
    (["store", "gc", "--dry-run"], 0, "gc"),
    (["store", "verify"], 0, "verify"),
    (["jobs"], 0, "jobs"),
    (["profile"], 0, "profile"),
    (["recommend", "summarise", "--lang", "en"], 4, "recommend"),
    (["follow", "en/medical"], 0, "follow"),
    (["trust", "ls"], 0, "trust"),
    (["quarantine", "ls"], 0, "quarantine"),
    (["quarantine", "add", "nobody", "--reason", "x"], 4, "error"),
    (["show", "en/none"], 4, "error"),
    (["peers", "connect", "nonsense"], 2, "error"),
    (["up", "--detach"], 3, "error"),
    ([], 0, "greeting"),
]


def test_the_samples_are_what_a_real_daemon_answers(
    daemon: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv, wanted, name in ANSWERED:
        capsys.readouterr()
        status = main([*argv, "--json", "--home", str(daemon)])
        document = json.loads(capsys.readouterr().out)
        assert_shape(document, name)
        assert (argv, status) == (argv, wanted), document


def test_a_job_that_a_real_daemon_refuses_ends_with_its_code(
    daemon: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["eval", "en/none", "--data", str(daemon), "--json", "--home", str(daemon)]
    assert main(argv) == 4
    *_, last = capsys.readouterr().out.splitlines()
    assert_shape(json.loads(last), "event-error")


def test_up_in_the_foreground_is_the_daemon_until_ctrl_c(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [sys.executable, "-m", "node.cli", "up", "--home", str(home), "--quota", "1"]
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True) as child:
        wait_for(home, up=True)
        assert main(["up", "--home", str(home)]) == 3
        assert f"pid {child.pid}" in capsys.readouterr().err
        status = Client(home / "run" / "api.sock").get("status")
        assert status["store"]["quota_bytes"] == 1024**3
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 0
    assert "Traceback" not in err
    wait_for(home, up=False)


def test_a_bad_setting_is_told_by_a_detached_up(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "config.toml").write_text("[network]\nlissten = []\n")
    assert main(["up", "--detach", "--home", str(home)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error[E0205]")
    assert "network.listen" in err


def test_what_the_verbs_send_is_what_the_daemon_takes(home: Path) -> None:
    text = home / "a.txt"
    text.write_text("x")
    adapter = home / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).write_text("{}")
    place = ["--lang", "en", "--domain", "medical", "--sub", "heart"]
    tune = [
        "tune",
        "--base",
        "en/b",
        "--data",
        str(text),
        "--eval",
        str(text),
        "--name",
        "n",
        *place,
    ]
    numbers = ["rank", "alpha", "steps", "lr", "batch", "seq", "seed", "threads"]
    tune += [word for name in numbers for word in (f"--{name}", "9")]
    push = ["--licence", "mit", "--description", "d", "--tag", "t", "--name", "n", "--yes", *place]
    jobs = [
        ["base", "import", "x", "--name", "n", "--lang", "en", "--licence", "mit"],
        [*tune, "--licence", "mit"],
        ["eval", "en/a", "--data", str(text), "--split", "all", "--max-tokens", "64"],
        ["push", "en/a", *push],
        ["push", str(adapter), "--base", "en/b", *push],
        ["pull", "en/a", "--dest", str(home), "--from", "p", "--dry-run"],
    ]
    search = ["search", "text", "--size", ">1GB", "--kind", "base", "--base", "c" * 64, *place]
    rest = [[*search, "--licence", "mit", "--limit", "3"], ["peers", "connect", "/ip4/x"]]
    rest += [["store", "pin", "en/a"]]
    with open_double(home / "run" / "api.sock") as double:
        double.events = [{"event": "result", "result": sample("result")["result"]}]
        for argv in [*jobs, *rest]:
            assert main([*argv, "--json", "--home", str(home)]) == 0
    kinds = {"jobs": JobRequest, "search": SearchRequest, "peers": PeerRequest}
    sent = [(path, body) for method, path, _, body in double.asked if method == "POST"]
    assert len(sent) == len(jobs) + len(rest)
    for path, body in sent:
        assert parse(json.dumps(body).encode(), kinds.get(path, PinRequest))
