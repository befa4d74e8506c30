"""Start two network endpoints on this machine, connect them and send a message across.

Run: python examples/03_two_nodes_talk.py     (loopback only; takes a second)
"""

import tempfile
from pathlib import Path

import trio

from gossip.endpoint import Endpoint, open_endpoint
from gossip.framing import read_frame, write_frame
from p2pllm import keys
from p2pllm.ids import NodeId

PROTOCOL = "/example/hello/1"
LOOPBACK = ["/ip4/127.0.0.1/tcp/0"]


async def greet(alice: Endpoint, bob: Endpoint) -> None:
    """Bob answers on PROTOCOL; Alice connects and asks."""

    async def answer(peer: NodeId, stream: trio.SocketStream) -> None:
        name = await read_frame(stream, 100)
        await write_frame(stream, b"hello " + name + b", known to me as " + peer[-8:].encode())

    await bob.handle(PROTOCOL, answer)
    await alice.connect((await bob.addresses())[0])
    async with await alice.open_stream(bob.node, PROTOCOL) as stream:
        await write_frame(stream, b"Alice")
        reply = (await read_frame(stream, 100)).decode()
    print(f"bob says  {reply}")
    assert reply.endswith(alice.node[-8:])  # authenticated: bob knows whose stream it is


async def talk(home: Path) -> None:
    """Two keys, two endpoints, one message each way."""
    async with (
        open_endpoint(home / "alice", home / "alice/key", LOOPBACK) as alice,
        open_endpoint(home / "bob", home / "bob/key", LOOPBACK) as bob,
    ):
        print(f"alice     {alice.node}\nbob       {bob.node}")
        with trio.fail_after(30):
            await greet(alice, bob)


def main() -> None:
    """Make the two homes with their keys, then talk."""
    with tempfile.TemporaryDirectory(prefix="p2pllm") as folder:
        for name in ("alice", "bob"):
            Path(folder, name).mkdir()
            keys.load_or_create(Path(folder, name, "key"))
        trio.run(talk, Path(folder))


if __name__ == "__main__":
    main()
