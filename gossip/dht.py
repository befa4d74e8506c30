"""The DHT as the daemon sees it: a child process that is asked things over a pipe.

The child (`python -m gossip.discovery`) holds hivemind and asyncio; this side is trio and holds
neither. Goals: an answer or Unavailable E0904, never a hang; no child outlives its parent, since
the child ends when its standard input does. Not a goal: restarting, which is the daemon's.
"""

import math
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

import gossip
from gossip.pipe import (
    MAX_ADDRESSES,
    MAX_ENTRIES,
    MAX_KEYS,
    READY,
    Ask,
    Entry,
    Frames,
    Held,
    Reply,
    Verb,
    frame,
    read_reply,
)
from p2pllm.errors import PeerError, Unavailable
from p2pllm.ids import NodeId

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # so named by the stubs of trio that libp2p brings along

START_S = 30.0  # a machine under load; alone it takes 0.4 s
STOP_S = 3.0  # for the child to end by itself once its standard input is closed
_READ_BYTES = 256 * 1024
_WAITING = 64  # asks on their way to the pipe
_WORDS = 20  # last lines of the child's complaints, for the error


class Joined(msgspec.Struct, frozen=True):
    """What came of joining by some nodes."""

    size: int  # nodes known afterwards
    met: frozenset[NodeId]  # those of them that answered


class Dht:
    """Ask the DHT process. Every method raises Unavailable E0904 once that process is gone."""

    def __init__(self, outbox: trio.MemorySendChannel[bytes], pid: int) -> None:
        self.pid = pid
        self.fault: Unavailable | None = None  # why the process is gone
        self.refused = 0  # calls of peers that asked too much, as of the last `size`
        self.levels: dict[tuple[str, str], int] = {}  # (key, sub-key) of ours -> level it is on
        self._outbox = outbox
        self._number = READY
        self._slots: dict[int, _Slot] = {}

    async def bootstrap(self, addresses: Sequence[str]) -> Joined:
        """Join by these nodes ('/ip4/…/tcp/…/p2p/ID'), of which the first 256 are tried."""
        reply = await self._ask("bootstrap", addresses=tuple(addresses[:MAX_ADDRESSES]))
        return Joined(reply.size, frozenset(map(NodeId, reply.met)))

    async def put(self, entries: Sequence[Entry]) -> list[bool]:
        """Store each entry at the nodes nearest to its key; False where most of them refused it."""
        assert len(entries) <= MAX_ENTRIES
        return list((await self._ask("put", entries=tuple(entries))).stored)

    async def get(self, keys: Sequence[str]) -> dict[str, Held]:
        """What stands under each key."""
        assert len(keys) <= MAX_KEYS
        found = (await self._ask("get", keys=tuple(keys))).found
        return dict(zip(keys, found, strict=True))

    async def size(self) -> int:
        """How many nodes the routing table holds."""
        reply = await self._ask("size")
        self.refused = reply.refused
        return reply.size

    async def _ask(
        self,
        verb: Verb,
        *,
        entries: tuple[Entry, ...] = (),
        keys: tuple[str, ...] = (),
        addresses: tuple[str, ...] = (),
    ) -> Reply:
        self._number += 1
        ask = Ask(number=self._number, verb=verb, entries=entries, keys=keys, addresses=addresses)
        slot = self._slots[ask.number] = _Slot()
        try:
            if self.fault is None:
                await self._outbox.send(frame(ask))
                await slot.ready.wait()
        except trio.BrokenResourceError:
            pass  # the writer ended with the child; `fault` says why
        finally:
            del self._slots[ask.number]
        if slot.reply is None:
            raise self.fault or _unavailable("the DHT process is gone", [])
        if slot.reply.fault:
            raise _unavailable(f"the DHT process could not {verb}", [slot.reply.fault])
        return slot.reply

    def answer(self, reply: Reply) -> None:
        """Hand a reply to whoever asked; to nobody if that one was cancelled."""
        slot = self._slots.get(reply.number)
        if slot is not None:
            slot.reply = reply
            slot.ready.set()

    def end(self, fault: Unavailable) -> None:
        """Nothing will be answered any more, and why; the first reason stays."""
        self.fault = self.fault or fault
        for slot in self._slots.values():
            slot.ready.set()


class _Slot:
    """Where one ask waits for its reply."""

    def __init__(self) -> None:
        self.ready = trio.Event()
        self.reply: Reply | None = None


@asynccontextmanager
async def open_dht(control: Path) -> AsyncIterator[Dht]:
    """Run a DHT node on the p2pd behind `control` for the length of the block.

    Raises Unavailable E0904 if the process cannot start, or when it dies.
    """
    process = await _start(control)
    outbox, asks = trio.open_memory_channel[bytes](_WAITING)
    dht = Dht(outbox, process.pid)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_supervise, process, dht, nursery.cancel_scope)
            nursery.start_soon(_write, process, asks)
            yield dht
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _alone(group) from None
    finally:
        died = dht.fault
        dht.end(_unavailable("the DHT process is stopped", []))
        await _stop(process)
    if died is not None:
        raise died


async def _start(control: Path) -> trio.Process:
    # A bare environment: no setting of ours or of hivemind's reaches the child by accident.
    environment = {"PYTHONPATH": str(Path(gossip.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    return await trio.lowlevel.open_process(
        [sys.executable, "-m", "gossip.discovery", str(control)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


async def _supervise(
    process: trio.Process,
    dht: Dht,
    scope: trio.CancelScope,
    *,
    task_status: "TaskStatus[None]",
) -> None:
    """Hand out replies until the child ends; then end the block, with the child's last words."""
    words: deque[str] = deque(maxlen=_WORDS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hear, process, words)
        with trio.move_on_after(START_S) as starting:
            await _read(process, dht, starting, task_status)
        if starting.cancelled_caught:
            words.append(f"it was not ready after {START_S:.0f} s")
            process.kill()
        words.append(await _ending(process))
    dht.end(_unavailable("the DHT process ended", words))
    if starting.deadline < math.inf:  # it was never ready
        raise dht.fault or _unavailable("the DHT process did not start", words)
    scope.cancel()


async def _ending(process: trio.Process) -> str:
    with trio.move_on_after(STOP_S):
        await process.wait()
    process.kill()  # nothing, if it has ended
    status = await process.wait()
    return f"signal {-status} ended it" if status < 0 else f"its exit status is {status}"


async def _read(
    process: trio.Process,
    dht: Dht,
    starting: trio.CancelScope,
    task_status: "TaskStatus[None]",
) -> None:
    assert process.stdout is not None
    frames = Frames()
    while data := await process.stdout.receive_some(_READ_BYTES):
        try:
            replies = [read_reply(body) for body in frames.feed(data)]
        except PeerError as fault:
            dht.end(_unavailable("the DHT process does not make sense", [str(fault)]))
            return
        for reply in replies:
            if reply.number == READY:
                starting.deadline = math.inf
                task_status.started()
            else:
                dht.answer(reply)


async def _hear(process: trio.Process, words: deque[str]) -> None:
    assert process.stderr is not None
    rest = b""
    while data := await process.stderr.receive_some(_READ_BYTES):
        *lines, rest = (rest + data)[-_READ_BYTES:].split(b"\n")
        words.extend(line.decode(errors="replace")[:500] for line in lines if line.strip())


async def _write(process: trio.Process, asks: trio.MemoryReceiveChannel[bytes]) -> None:
    assert process.stdin is not None
    async with asks:
        async for ask in asks:
            try:
                await process.stdin.send_all(ask)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the child is ending; the reader sees it too and ends the block


async def _stop(process: trio.Process) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with trio.CancelScope(shield=True):
        await process.stdin.aclose()
        with trio.move_on_after(STOP_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await process.stdout.aclose()
        await process.stderr.aclose()


def _alone(group: BaseExceptionGroup[BaseException]) -> BaseException:
    # What the block raised reaches the caller as it was raised, unless several things were.
    alone: BaseException = group
    while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
        alone = alone.exceptions[0]
    return alone


def _unavailable(message: str, why: Sequence[str]) -> Unavailable:
    return Unavailable(
        "E0904", message, why=list(why), fix=["it is started again by itself; try later"]
    )
