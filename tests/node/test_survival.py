"""What becomes of a node whose parts are killed, whose seeds are dead, or that has a double."""

import shutil
import time
from pathlib import Path

import psutil
import pytest

from tests.node.daemons import Daemon, free_port, homes, running, until


def test_kill_9_of_the_daemon_leaves_no_child_alive() -> None:
    with homes() as folder:
        daemon = Daemon(folder / "a").up()
        children = until(lambda: len(daemon.children()) >= 2 and daemon.children(), "two children")
        daemon.kill()
        until(
            lambda: not any(_alive(child) for child in children),
            f"still alive: {[child.cmdline() for child in children if _alive(child)]}",
            40.0,
        )


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("child", ["dht", "p2pd"])
def test_kill_9_of_a_child_is_survived(child: str) -> None:
    with homes() as folder:
        a = Daemon(folder / "a").up()
        b = Daemon(folder / "b", "--bootstrap", a.address)
        with running(a, b):
            before = b.wait(lambda s: s["swarm"]["dht_peers"] >= 1, "joined")
            psutil.Process(before["children"][child]["pid"]).kill()
            after = b.wait(
                lambda s: (
                    s["children"][child]["pid"] not in (None, before["children"][child]["pid"])
                    and s["swarm"]["dht_peers"] >= 1
                    and s["state"] == "online"
                ),
                f"{child} restarted and joined again",
            )
            assert after["children"][child]["restarts"] >= 1
            assert after["pid"] == before["pid"]
            assert b.client.post("search", {"lang": "en"})["results"] == []


def test_a_node_whose_seed_is_dead_is_up_at_once_and_joins_when_it_appears() -> None:
    with homes() as folder:
        port = free_port()
        listen = f"/ip4/127.0.0.1/tcp/{port}"
        seed = Daemon(folder / "seed", "--listen", listen).up()
        address = seed.address
        assert seed.stop() == 0
        began = time.monotonic()
        node = Daemon(folder / "a", "--bootstrap", address)
        with running(node):
            status = node.wait(lambda s: s["state"] == "isolated", "isolated")
            assert time.monotonic() - began < 5.0 * _slowness()
            until(
                lambda: (
                    "refused" in str(node.client.get("status")["reason"])
                    or "reach" in str(node.client.get("status")["reason"])
                ),
                f"a reason: {status}",
            )
            seed = Daemon(folder / "seed", "--listen", listen)
            with running(seed):
                node.wait(lambda s: s["state"] == "online" and s["swarm"]["dht_peers"] >= 1, "on")


def _slowness() -> float:
    """How much slower than an idle machine this one is now: 1 and up."""
    began = time.process_time(), time.monotonic()
    total = sum(number * number for number in range(2_000_000))
    assert total > 0
    used, took = time.process_time() - began[0], time.monotonic() - began[1]
    return max(1.0, took / used, psutil.getloadavg()[0] / 2)


def test_a_second_daemon_on_one_home_is_refused_and_names_the_first() -> None:
    with homes() as folder:
        first = Daemon(folder / "a").up()
        with running(first):
            second = Daemon(folder / "a")
            assert second.process.wait(timeout=30) == 3
            assert "error[E0303]" in first.log()
            assert f"pid {first.process.pid}" in first.log()
            assert first.client.get("status")["pid"] == first.process.pid


def test_a_copied_key_is_noticed_by_both() -> None:
    quick = {"P2PLLM_NETWORK__PRESENCE_S": "1"}
    with homes() as folder:
        seed = Daemon(folder / "seed", **quick).up()
        original = Daemon(folder / "a", "--bootstrap", seed.address, **quick).up()
        with running(seed, original):
            original.wait(lambda s: s["swarm"]["dht_peers"] >= 1, "joined")
            (folder / "b").mkdir()
            shutil.copyfile(folder / "a" / "key", folder / "b" / "key")
            copy = Daemon(folder / "b", "--bootstrap", seed.address, **quick)
            with running(copy):
                for daemon in (copy, original):
                    status = daemon.wait(lambda s: s["warnings"], "a warning")
                    assert status["warnings"][0]["code"] == "E0304"
                    assert status["state"] == "degraded"
            assert seed.client.get("status")["warnings"] == []


def test_a_daemon_killed_and_started_again_has_its_key_and_models(tmp_path: Path) -> None:
    with homes() as folder:
        daemon = Daemon(folder / "a").up()
        node = daemon.node
        daemon.kill()
        daemon = Daemon(folder / "a").up()
        with running(daemon):
            assert daemon.node == node


def test_a_home_whose_path_is_too_long_is_refused_with_the_reason() -> None:
    with homes() as folder:
        daemon = Daemon(folder / ("x" * 100))
        assert daemon.process.wait(timeout=30) == 2
        assert "error[E0205]" in daemon.log()
        assert "too long" in daemon.log()
