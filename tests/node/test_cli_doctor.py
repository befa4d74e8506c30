"""`doctor` names what is wrong with this machine and how to mend it, in five seconds."""

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from node.cli import main
from node.commands import checks, doctor
from node.commands.checks import CHECKS, Found
from node.commands.session import Flags, Session
from tests.node.double import open_double, sample
from tests.node.shapes import assert_shape


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2p") as name:
        yield Path(name)


@pytest.fixture
def session(home: Path) -> Session:
    return Session(Flags(home=str(home)))


def test_every_check_is_one_record_in_order(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json", "--home", str(home)])
    document = json.loads(capsys.readouterr().out)
    assert_shape(document, "doctor")
    assert [record["name"] for record in document["checks"]] == list(CHECKS)
    states = {record["status"] for record in document["checks"]}
    assert states <= {"pass", "warn", "fail", "skip"}
    assert status == (1 if "fail" in states else 10 if "warn" in states else 0)


def test_what_is_wrong_comes_with_its_fix(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {
        "good": lambda s: Found("pass", "fine"),
        "bad": lambda s: Found("fail", "broken", "here\x1b", "mend it"),
    }
    monkeypatch.setattr(doctor, "CHECKS", table)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "✓ good  fine",
        "✗ bad   broken",
        "        detail  here\\x1b",
        "        fix     mend it",
    ]
    table["bad"] = lambda s: Found("warn", "so-so")
    assert main(["doctor"]) == 10
    assert main(["doctor", "good"]) == 0
    assert main(["doctor", "--check", "nosuch"]) == 2


def test_a_check_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(doctor, "ALL_S", 0.2)
    monkeypatch.setattr(doctor, "CHECKS", {"hung": lambda s: never.wait(60)})
    began = time.monotonic()
    assert main(["doctor"]) == 10
    assert time.monotonic() - began < 5
    never.set()


def test_a_key_that_others_can_read_fails(session: Session, home: Path) -> None:
    assert checks.home(session).status == "skip"
    (home / "key").write_bytes(b"x")
    (home / "key").chmod(0o640)
    found = checks.home(session)
    assert (found.status, found.fix) == ("fail", f"chmod 600 {home}/key")
    (home / "key").chmod(0o600)
    assert checks.home(session).status == "pass"


def test_a_home_whose_socket_path_is_too_long_fails() -> None:
    with tempfile.TemporaryDirectory(prefix="p" * 100) as name:
        found = checks.home(Session(Flags(home=name)))
    assert found.status == "fail"
    assert "shorter --home" in found.fix


def test_little_disk_and_a_full_quota_warn(
    session: Session, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_double(home / "run" / "api.sock") as double:
        full = {"used_bytes": 99, "quota_bytes": 100}
        double.answers["GET", "status"] = (200, {**sample("status"), "store": full})
        assert "quota" in checks.disk(session).message
        double.answers["GET", "status"] = (200, sample("status"))
        assert checks.disk(session).status == "pass"
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e9))
    assert checks.disk(session).status == "warn"


def test_a_clock_that_is_behind_is_found(
    session: Session, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checks.clock(session).status == "pass"
    (home / "key").write_bytes(b"x")
    os.utime(home / "key", (time.time() + 3600, time.time() + 3600))
    assert checks.clock(session).status == "warn"
    monkeypatch.setattr(checks.time, "time", lambda: 1.6e9)
    assert checks.clock(session).status == "fail"


def test_the_daemon_and_its_network_are_looked_at(session: Session, home: Path) -> None:
    for check in (checks.daemon, checks.network, checks.dht):
        assert check(session).status == "skip"
    with open_double(home / "run" / "api.sock") as double:
        status = sample("status")
        assert checks.daemon(session).status == "warn"  # the sample has a warning
        assert "192.0.2.7" in checks.network(session).detail
        assert checks.dht(session).status == "pass"
        status |= {"state": "isolated", "reason": "no seed answers", "warnings": []}
        status["swarm"]["dht_peers"] = 0
        double.answers["GET", "status"] = (200, status)
        assert checks.daemon(session).status == "pass"
        assert checks.network(session).message == "no seed answers"
        assert checks.dht(session).status == "warn"
        status["children"]["dht"]["state"] = "down"
        double.answers["GET", "status"] = (200, status)
        assert checks.dht(session).status == "fail"


def test_a_missing_package_is_named(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.install(session).status == "pass"
    monkeypatch.setattr(checks, "PACKAGES", ("click", "no_such_package"))
    assert checks.install(session).detail == "no_such_package"


def test_p2pd_is_found_without_importing_hivemind(session: Session) -> None:
    assert checks.p2pd(session).status == "pass"


def test_the_embedded_model_package_is_looked_for(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert checks.model(session).status == "warn"
    assert checks.p2pd(session).status == "fail"
