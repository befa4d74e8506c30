"""The DHT process: `python -m gossip.discovery CONTROL_SOCKET`, asked over standard input.

Started by `gossip.dht` and imported by nobody. It ends when standard input does, so that it
outlives no parent, and when p2pd does.
"""

import asyncio
import importlib
import os
import sys
import traceback
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import TYPE_CHECKING

from gossip.pipe import READY, Ask, Frames, Reply, frame, read_ask
from gossip.replicas import Replicas

if TYPE_CHECKING:
    from gossip.kademlia import Wire

_READ_BYTES = 256 * 1024
# What the emptied `hivemind.utils` must still export to the modules that we load.
_EXPORTS = {
    "logging": ("get_logger",),
    "serializer": ("MSGPackSerializer", "SerializerBase"),
    "timed_storage": ("get_dht_time",),
}


def main(control: str) -> None:
    """Serve standard input until it ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # so that nothing that prints can break a frame
    _empty_packages()
    asyncio.run(_serve(control, answers))


def _empty_packages() -> None:
    """Let hivemind's DHT modules be imported without the `__init__`s above them.

    Those import torch and all of hivemind's training: 280 MB and 2 s, where the DHT needs 38 MB
    and 0.15 s.
    """
    for name in ("hivemind", "hivemind.dht", "hivemind.utils"):
        parent, _, child = name.rpartition(".")
        spec = PathFinder.find_spec(name, sys.modules[parent].__path__ if parent else None)
        assert spec is not None
        package: ModuleType = module_from_spec(spec)
        sys.modules[name] = package
        if parent:
            setattr(sys.modules[parent], child, package)
    for child, names in _EXPORTS.items():
        module = importlib.import_module(f"hivemind.utils.{child}")
        for name in names:
            setattr(sys.modules["hivemind.utils"], name, getattr(module, name))


async def _serve(control: str, answers: int) -> None:
    from gossip.kademlia import Wire  # only now: it imports hivemind

    try:
        wire = await Wire.open(control)
    except OSError as fault:
        sys.exit(f"no p2pd answers at {control}: {fault}")
    replicas = Replicas(wire)
    wire.spawn(replicas.keep_up())
    loop = asyncio.get_running_loop()
    questions = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(answers, "wb", buffering=0)
    )
    out = asyncio.StreamWriter(transport, protocol, None, loop)
    out.write(frame(Reply(number=READY)))
    asking = loop.create_task(_answer_all(wire, replicas, questions, out))
    p2pd = loop.create_task(wire.closed())
    await asyncio.wait([asking, p2pd], return_when=asyncio.FIRST_COMPLETED)
    if not asking.done():
        print("p2pd closed its control socket", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(0)  # calls that wait for other nodes have nobody to answer to


async def _answer_all(
    wire: "Wire", replicas: Replicas, questions: asyncio.StreamReader, out: asyncio.StreamWriter
) -> None:
    frames = Frames()
    while data := await questions.read(_READ_BYTES):
        for body in frames.feed(data):
            wire.spawn(_answer(replicas, read_ask(body), out))


async def _answer(replicas: Replicas, ask: Ask, out: asyncio.StreamWriter) -> None:
    try:
        reply = await _done(replicas, ask)
    except Exception as fault:  # noqa: BLE001  # the edge of this process: the asker must hear
        traceback.print_exc()
        reply = Reply(number=ask.number, fault=f"{type(fault).__name__}: {fault}")
    out.write(frame(reply))
    await out.drain()


async def _done(replicas: Replicas, ask: Ask) -> Reply:
    if ask.verb == "put":
        return Reply(number=ask.number, stored=tuple(await replicas.put(ask.entries)))
    if ask.verb == "get":
        return Reply(number=ask.number, found=tuple(await replicas.get(ask.keys)))
    if ask.verb == "bootstrap":
        met = tuple(await replicas.join(ask.addresses))
        return Reply(number=ask.number, size=replicas.known, met=met)
    return Reply(number=ask.number, size=replicas.known, refused=replicas.refused)


if __name__ == "__main__":
    main(sys.argv[1])
