"""A real p2pd on loopback: one key, streams in and out, and none left behind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import trio

import gossip.endpoint
from gossip import p2pd
from gossip.endpoint import open_endpoint
from gossip.framing import read_frame, write_frame
from p2pllm import keys
from p2pllm.errors import LocalError, PeerError, Unavailable
from p2pllm.ids import NodeId
from tests.gossip.endpoints import LISTEN, open_endpoints

PROTOCOL = "/p2pllm/test/1"


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2e") as name:
        keys.load_or_create(Path(name) / "key")
        yield Path(name)


async def echo(peer: NodeId, stream: trio.SocketStream) -> None:
    while True:
        await write_frame(stream, peer.encode() + b" " + await read_frame(stream, 1000))


def test_key_file_decides_the_node_id(home: Path) -> None:
    async def check() -> None:
        identity = keys.load(home / "key")
        for _ in range(2):
            async with open_endpoint(home / "run", home / "key", LISTEN) as endpoint:
                assert endpoint.node == identity.node
                assert (await p2pd.identify(endpoint.control))[0] == identity.node
                (address,) = await endpoint.addresses()
                assert address.endswith(f"/p2p/{identity.node}")
                assert p2pd.parse_address(address)[0] == identity.node

    trio.run(check)


def test_streams_carry_frames_both_ways_and_name_the_peer() -> None:
    async def check() -> None:
        async with open_endpoints(2) as (one, two):
            await one.handle(PROTOCOL, echo)
            async with await two.open_stream(one.node, PROTOCOL) as stream:
                for number in range(3):
                    await write_frame(stream, b"%d" % number)
                    assert await read_frame(stream, 100) == b"%s %d" % (two.node.encode(), number)
            assert [peer.node for peer in await two.peers()] == [one.node]
            assert [peer.node for peer in await one.peers()] == [two.node]

    trio.run(check)


def test_peer_is_found_by_its_id_through_a_third_node() -> None:
    async def check() -> None:
        async with open_endpoints(3) as (_, two, three):
            await three.handle(PROTOCOL, echo)
            await answered(two, three.node)

    trio.run(check)


def test_stream_for_a_protocol_nobody_handles_is_refused() -> None:
    async def check() -> None:
        async with open_endpoints(2) as (one, two):
            with pytest.raises(Unavailable) as refused:
                await two.open_stream(one.node, "/p2pllm/none/1")
            assert refused.value.code == "E0902"

    trio.run(check)


def test_dead_seeds_are_unavailable_and_the_endpoint_stays_up() -> None:
    async def check() -> None:
        async with open_endpoints(1) as (endpoint,):
            for _ in range(3):
                seed = f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{keys.generate().node}"
                with pytest.raises(Unavailable) as dead:
                    await endpoint.connect(seed)
                assert dead.value.code == "E0901"
            assert await endpoint.addresses()

    trio.run(check)


@pytest.mark.parametrize(
    "address",
    ["", "/ip4/127.0.0.1/tcp/4001", "/ip4/1.2.3/tcp/1/p2p/{id}", "/p2p/12D3KooW", "x/p2p/{id}"],
)
def test_what_is_no_address_of_a_node_is_refused(address: str) -> None:
    with pytest.raises(LocalError) as refused:
        p2pd.parse_address(address.format(id=keys.generate().node))
    assert refused.value.code == "E0204"


def test_p2pd_that_is_killed_ends_the_block() -> None:
    async def check() -> None:
        async with open_endpoints(1) as (endpoint,):
            os.kill(endpoint.pid, signal.SIGKILL)
            await trio.sleep_forever()

    with pytest.raises(Unavailable) as died:
        trio.run(check)
    assert died.value.code == "E0903"


def test_request_to_a_dead_p2pd_is_its_death() -> None:
    async def check() -> None:
        async with open_endpoints(1) as (endpoint,):
            os.kill(endpoint.pid, signal.SIGKILL)
            while True:
                await endpoint.peers()

    with pytest.raises(Unavailable) as died:
        trio.run(check)
    assert died.value.code == "E0903"


def test_leaving_the_block_ends_p2pd_and_lets_errors_through_bare() -> None:
    pids = []

    async def check() -> None:
        async with open_endpoints(1) as (endpoint,):
            pids.append(endpoint.pid)
            raise LocalError("E0101", "the body's own")

    with pytest.raises(LocalError, match="the body's own"):
        trio.run(check)
    assert not psutil.pid_exists(pids[0])


def test_cancelling_the_block_ends_p2pd() -> None:
    async def check() -> None:
        with trio.CancelScope() as scope:
            async with open_endpoints(1) as (endpoint,):
                pid = endpoint.pid
                scope.cancel()
                await trio.sleep_forever()
        assert not psutil.pid_exists(pid)

    trio.run(check)


_OWNER = """
import sys, trio
from pathlib import Path
from gossip.endpoint import open_endpoint
async def main():
    home = Path(sys.argv[1])
    async with open_endpoint(home / "run", home / "key", ["/ip4/127.0.0.1/tcp/0"]) as endpoint:
        print(endpoint.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


def test_no_p2pd_outlives_its_killed_owner(home: Path) -> None:
    command = [sys.executable, "-c", _OWNER, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert psutil.pid_exists(pid)
        owner.kill()
    wait_until(lambda: not psutil.pid_exists(pid), 40)


def test_p2pd_that_nobody_ever_held_ends_by_itself(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gossip.endpoint, "IDLE_S", 1)
    with start_alone(home) as process:
        assert process.wait(20) == 0


def test_p2pd_left_over_from_an_earlier_run_is_ended(home: Path) -> None:
    async def check() -> None:
        async with open_endpoint(home / "run", home / "key", LISTEN) as endpoint:
            assert leftover.poll() is not None
            assert endpoint.pid != leftover.pid
            assert await endpoint.addresses()

    (home / "run").mkdir()
    with start_alone(home) as leftover:
        trio.run(check)
    assert leftover.returncode == -signal.SIGKILL


def test_sockets_of_a_dead_p2pd_are_in_nobodys_way(home: Path) -> None:
    async def check() -> None:
        async with open_endpoint(home / "run", home / "key", LISTEN) as endpoint:
            assert await endpoint.addresses()

    (home / "run").mkdir()
    with start_alone(home) as process:
        process.kill()
    assert (home / "run" / "control.sock").is_socket()
    trio.run(check)


def test_two_endpoints_cannot_have_one_port(home: Path) -> None:
    async def check() -> None:
        async with open_endpoint(home / "run", home / "key", listen):
            raise AssertionError("p2pd took a port that is in use")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = [f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"]
        with pytest.raises(LocalError) as failed:
            trio.run(check)
    assert failed.value.code == "E0305"
    assert any("address already in use" in line for line in failed.value.why)


def test_p2pd_that_is_not_ready_in_time_is_ended(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gossip.endpoint, "START_S", 0.0)

    async def check() -> None:
        async with open_endpoint(home / "run", home / "key", LISTEN):
            raise AssertionError("p2pd was ready in no time")

    with pytest.raises(LocalError) as failed:
        trio.run(check)
    assert failed.value.code == "E0305"
    assert not [p for p in psutil.Process().children() if p.name() == "p2pd"]


def test_socket_path_that_is_too_long_says_so(home: Path) -> None:
    async def check() -> None:
        async with open_endpoint(home / ("x" * 90), home / "key", LISTEN):
            raise AssertionError("a path of that length cannot be bound")

    with pytest.raises(LocalError) as failed:
        trio.run(check)
    assert failed.value.code == "E0305"


def test_folder_of_the_sockets_is_for_this_user_alone(home: Path) -> None:
    async def check() -> None:
        async with open_endpoint(home / "run", home / "key", LISTEN):
            assert (home / "run").stat().st_mode & 0o777 == 0o700

    (home / "run").mkdir(mode=0o755)
    trio.run(check)


def test_handlers_expected_fault_ends_its_stream_only() -> None:
    async def misbehave(_peer: NodeId, stream: trio.SocketStream) -> None:
        await read_frame(stream, 100)
        raise PeerError("E0603", "malformed")

    async def check() -> None:
        async with open_endpoints(2) as (one, two):
            await one.handle(PROTOCOL, misbehave)
            for _ in range(2):
                async with await two.open_stream(one.node, PROTOCOL) as stream:
                    await write_frame(stream, b"x")
                    with pytest.raises(Unavailable):
                        await read_frame(stream, 100)

    trio.run(check)


def test_handlers_bug_is_not_hidden() -> None:
    async def fail(_peer: NodeId, _stream: trio.SocketStream) -> None:
        raise ZeroDivisionError

    async def check() -> None:
        async with open_endpoints(2) as (one, two):
            await one.handle(PROTOCOL, fail)
            async with await two.open_stream(one.node, PROTOCOL):
                await trio.sleep_forever()

    with pytest.raises(ZeroDivisionError):
        trio.run(check)


def test_peer_that_opens_too_many_streams_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip.endpoint, "MAX_PEER_STREAMS", 2)

    async def check() -> None:
        async with open_endpoints(2) as (one, two):
            await one.handle(PROTOCOL, echo)
            first, second = [await two.open_stream(one.node, PROTOCOL) for _ in range(2)]
            async with first, second:
                for stream in (first, second):
                    await write_frame(stream, b"1")
                    assert await read_frame(stream, 100)
                assert not await answers(two, one.node)
                assert one.refused_streams == 1
                await first.aclose()
                await answered(two, one.node)

    trio.run(check)


async def answered(endpoint: gossip.endpoint.Endpoint, peer: NodeId) -> None:
    """Return once the peer answers: p2pd needs a moment to learn of a peer, or of a lost one."""
    with trio.fail_after(20):
        while not await answers(endpoint, peer):  # noqa: ASYNC110  another process has no event
            await trio.sleep(0.01)


async def answers(endpoint: gossip.endpoint.Endpoint, peer: NodeId) -> bool:
    try:
        async with await endpoint.open_stream(peer, PROTOCOL) as stream:
            await write_frame(stream, b"1")
            return bool(await read_frame(stream, 100))
    except Unavailable:
        return False


def start_alone(home: Path) -> subprocess.Popen[bytes]:
    """A p2pd as an endpoint starts it, but which nobody holds; returns once it answers."""
    (home / "run").mkdir(exist_ok=True)
    command = gossip.endpoint._command(home / "run" / "control.sock", home / "key", LISTEN)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    while b"Peer ID" not in process.stdout.readline():
        assert process.poll() is None
    return process


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        os.sched_yield()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize("text", ["nonsense", "", "/ip4/1.2.3.4", "/ip4/1.2.3.4/tcp/70000"])
def test_what_is_no_address_to_listen_on_is_refused_at_once(text: str) -> None:
    with pytest.raises(LocalError) as caught:
        p2pd.check_listening(text)
    assert caught.value.code == "E0205"
    p2pd.check_listening("/ip6/::/tcp/4001")
