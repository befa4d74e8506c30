"""The node's one network endpoint: a p2pd process for the length of a block, streams in and out.

Goals: one key and one listening endpoint a node; streams whose other end is authenticated; no
p2pd left behind, however we die. Non-goals: which peers to know, what to say to them.

p2pd is held by a control connection: when this process ends, even by kill -9, that connection
closes and p2pd exits. If it is killed before the connection stands, p2pd exits after IDLE_S.
"""

import logging
import signal
import socket
import struct
import subprocess
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from os import kill
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from gossip import p2pd
from gossip.p2pd import PeerInfo
from p2pllm import keys
from p2pllm.errors import LocalError, P2pllmError, Unavailable
from p2pllm.ids import NodeId

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # so named by the stubs of trio that libp2p brings along

Handler = Callable[[NodeId, trio.SocketStream], Awaitable[None]]

IDLE_S = 30
START_S = 20.0  # 0.2 s alone; a machine with every core busy was seen to need 5
STOP_S = 3.0  # p2pd ends in milliseconds on SIGTERM
FIRST_MESSAGE_S = 10.0  # p2pd says at once whose stream it hands over
MAX_STREAMS = 512  # incoming; each costs a task and a descriptor of the usual 1,024
MAX_PEER_STREAMS = 32  # so that no peer takes more than a part of them
MAX_SOCKET_PATH = 100  # bytes; the kernel's own limit is 107
_LAST_WORDS = 8  # lines of p2pd's output kept for an error message

_log = logging.getLogger(__name__)


class Endpoint:
    """Our p2pd: who we are, whom we are connected to, streams in and out."""

    def __init__(self, node: NodeId, run_dir: Path, pid: int) -> None:
        self.node = node
        self.control = run_dir / "control.sock"  # speaks p2pd's control protocol
        self.pid = pid
        self.refused_streams = 0  # incoming ones over the limits
        self._inbox = run_dir / "streams.sock"
        self._handlers: dict[str, Handler] = {}
        self._open: Counter[NodeId] = Counter()

    async def addresses(self) -> list[str]:
        """Where others can dial us now: '/ip4/127.0.0.1/tcp/4001/p2p/12D3…'."""
        _, found = await p2pd.identify(self.control)
        return [f"{address}/p2p/{self.node}" for address in found]

    async def connect(self, address: str) -> NodeId:
        """Connect to the node at this address and return its id.

        Raises Unavailable E0901 if it cannot be reached, LocalError E0204 if it is no address.
        """
        peer, dial = p2pd.parse_address(address)
        await p2pd.connect(self.control, peer, dial)
        return peer

    async def open_stream(self, peer: NodeId, protocol: str) -> trio.SocketStream:
        """A stream to a peer, dialled if needed; Unavailable E0902 if it cannot be had."""
        return await p2pd.open_stream(self.control, peer, protocol)

    async def handle(self, protocol: str, handler: Handler) -> None:
        """Run `handler(peer, stream)` in a task of its own for each incoming stream.

        The stream is closed when the handler returns. A handler's expected faults (P2pllmError,
        a broken stream, a deadline) end that stream only; any other is a bug and ends the block.
        """
        assert protocol not in self._handlers
        self._handlers[protocol] = handler
        await p2pd.register(self.control, protocol, self._inbox)

    async def peers(self) -> list[PeerInfo]:
        """The peers connected now."""
        return await p2pd.list_peers(self.control)

    async def serve_inbox(self, *, task_status: "TaskStatus[None]") -> None:
        """Take incoming streams from p2pd until cancelled."""
        inbox = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        await inbox.bind(str(self._inbox))
        inbox.listen(128)
        task_status.started()
        await trio.serve_listeners(self._take, [trio.SocketListener(inbox)])

    async def _take(self, stream: trio.SocketStream) -> None:
        try:
            with trio.fail_after(FIRST_MESSAGE_S):
                incoming = await p2pd.read_incoming(stream)
            if self._full(incoming.node):
                self.refused_streams += 1
                return
            self._open[incoming.node] += 1
            try:
                await self._handlers[incoming.protocol](incoming.node, stream)
            finally:
                self._open[incoming.node] -= 1
                self._open += Counter()  # forget the peers that are at zero
        except* _STREAM_FAULTS as faults:
            _log.debug("an incoming stream ended: %s", faults.exceptions)
        finally:
            await trio.aclose_forcefully(stream)

    def _full(self, node: NodeId) -> bool:
        return self._open[node] >= MAX_PEER_STREAMS or self._open.total() >= MAX_STREAMS


_STREAM_FAULTS = (
    P2pllmError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
)


@asynccontextmanager
async def open_endpoint(
    run_dir: Path, key_file: Path, listen: Sequence[str]
) -> AsyncIterator[Endpoint]:
    """Run p2pd with this key, listening at these multiaddrs, for the length of the block.

    The caller owns `run_dir` alone (the node's lock): a p2pd found alive in it is left over from
    a run that was killed, and is ended first. No peer has to be reachable.
    Raises LocalError E0301 (bad key) or E0305 (p2pd cannot start); Unavailable E0903 ends the
    block when p2pd dies.
    """
    node = keys.load(key_file).node
    control = _prepare(run_dir)
    await _end_leftover(control)
    command = _command(control, key_file, listen)
    try:
        async with trio.open_nursery() as nursery:
            pid: int = await nursery.start(_run_p2pd, command)
            holder = await p2pd.hold(control)
            endpoint = Endpoint(node, run_dir, pid)
            await nursery.start(endpoint.serve_inbox)
            async with holder:
                yield endpoint
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        fault = _fault_of(group)
        raise fault from fault.__cause__


def _prepare(run_dir: Path) -> Path:
    """Make the folder of the sockets, for this user alone, and return the control socket's path."""
    control = run_dir / "control.sock"
    if len(bytes(control)) > MAX_SOCKET_PATH:
        raise LocalError(
            "E0305",
            f"p2pd cannot start: the path of its socket is too long: {control}",
            why=[f"a unix socket's path has at most {MAX_SOCKET_PATH} bytes here"],
            fix=["choose a home with a shorter path"],
        )
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    run_dir.chmod(0o700)
    return control


def _command(control: Path, key_file: Path, listen: Sequence[str]) -> list[str]:
    command = [
        str(p2pd.binary()),
        f"-listen=/unix{control}",
        f"-id={key_file}",
        f"-hostAddrs={','.join(listen)}",
        f"-idleTimeout={IDLE_S}s",
        "-dhtServer=1",  # of p2pd's own DHT: finds a peer's addresses by its id
        "-connManager=1",
    ]
    if all(address.startswith(("/ip4/127.", "/ip6/::1/")) for address in listen):
        return command
    return [*command, "-natPortMap=1", "-autonat=1"]


async def _run_p2pd(command: list[str], *, task_status: "TaskStatus[int]") -> None:
    """Run p2pd until cancelled; started when it answers. Its own end is Unavailable E0903."""
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C in a terminal is for us; we end p2pd in order
    )
    words: deque[str] = deque(maxlen=_LAST_WORDS)
    ready = False
    try:
        with trio.move_on_after(START_S):
            ready = await _read_output(process, words, b"Peer ID:")
        if process.poll() is not None or not ready:
            raise LocalError(
                "E0305",
                "p2pd does not start",
                why=list(words) or [f"it was not ready after {START_S:.0f} s"],
                fix=["check that the listening port is free and the address is this machine's"],
            )
        task_status.started(process.pid)
        await _read_output(process, words, None)
        status = await process.wait()
        raise Unavailable("E0903", f"p2pd (pid {process.pid}) died: status {status}", why=words)
    finally:
        await _end(process)


async def _read_output(process: trio.Process, words: deque[str], until: bytes | None) -> bool:
    """Read p2pd's output line by line, so that it never blocks on a full pipe; False at its end."""
    assert process.stdout is not None
    line = b""
    async for part in process.stdout:
        *whole, line = (line + part).split(b"\n")
        words.extend(text.decode(errors="replace")[:500] for text in whole if text)
        line = line[:4096]
        if until is not None and any(until in text for text in whole):
            return True
    return False


async def _end(process: trio.Process) -> None:
    with trio.CancelScope(shield=True):
        if process.poll() is None:
            process.terminate()
            with trio.move_on_after(STOP_S):
                await process.wait()
        if process.poll() is None:
            process.kill()
            await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()


async def _end_leftover(control: Path) -> None:
    """Kill the p2pd that still listens on our control socket, if any, and remove the sockets."""
    with suppress(OSError):
        async with await trio.open_unix_socket(str(control)) as stream:
            raw = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid: int = struct.unpack("3i", raw)[0]
            _log.warning("p2pd (pid %d) is left over from an earlier run: ended", pid)
            kill(pid, signal.SIGKILL)
            with trio.move_on_after(STOP_S), suppress(trio.BrokenResourceError):
                await stream.receive_some(1)  # ends when the process does
    for path in (control, control.with_name("streams.sock")):
        path.unlink(missing_ok=True)


def _fault_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The death of p2pd if it is among the faults, or the only fault; else the group itself."""
    leaves = list(_leaves(group))
    for leaf in leaves:
        if isinstance(leaf, Unavailable) and leaf.code == "E0903":
            return leaf
    return leaves[0] if len(leaves) == 1 else group


def _leaves(fault: BaseException) -> list[BaseException]:
    if isinstance(fault, BaseExceptionGroup):
        return [leaf for inner in fault.exceptions for leaf in _leaves(inner)]
    return [fault]
