"""A DHT node that breaks the rules, as a process: `python -m tests.gossip.rogue`.

Reads one JSON line: `control` (socket of a p2pd), `join` (addresses), `lies` (records in hex, its
answer to every question, or to those for the key ids `at`), `push` (pairs of key id and record in
hex, to store at every node met), `accept` (what it says to who wants to store), `flood` (whether to
store rubbish without pause at every node met). Writes a JSON line once it has pushed, with what the
others said, one `asked` for each question it answered, and one `refused` for each refused flood.
"""

import asyncio
import json
import os
import sys

from gossip import discovery

discovery._empty_packages()

from hivemind.proto import dht_pb2  # noqa: E402

from gossip.kademlia import Wire  # noqa: E402
from gossip.replicas import Replicas  # noqa: E402
from gossip.shelf import RECORDS_A_CALL, Kept  # noqa: E402
from p2pllm import codec  # noqa: E402


async def main() -> None:
    plan = json.loads(sys.stdin.readline())
    lies = tuple(bytes.fromhex(lie) for lie in plan["lies"])
    invented = [bytes([0, 36]) + os.urandom(36) for _ in range(20)]

    async def rpc_find(self, request: dht_pb2.FindRequest, _context) -> dht_pb2.FindResponse:
        response = dht_pb2.FindResponse(peer=self.node_info)
        for key in request.keys:
            told = lies if not plan["at"] or key.hex() in plan["at"] else ()
            kept = codec.encode(Kept(records=told, more=True))
            response.results.add(type=dht_pb2.FOUND_REGULAR, value=kept, nearest_peer_ids=invented)
        print(json.dumps({"asked": len(request.keys)}), flush=True)
        return response

    async def rpc_store(self, request: dht_pb2.StoreRequest, _context) -> dht_pb2.StoreResponse:
        accept = [plan["accept"]] * len(request.keys)
        return dht_pb2.StoreResponse(store_ok=accept, peer=self.node_info)

    rpc_find.__annotations__ = Wire.rpc_find.__annotations__
    rpc_store.__annotations__ = Wire.rpc_store.__annotations__
    rogue = type("Rogue", (Wire,), {"rpc_find": rpc_find, "rpc_store": rpc_store})
    wire = await rogue.open(plan["control"])
    await Replicas(wire).join(plan["join"])
    push = [(bytes.fromhex(key), bytes.fromhex(value)) for key, value in plan["push"]]
    said = []
    for node in wire.neighbours(bytes(20)):
        said += [await wire.store(node, [entry]) for entry in push]
    print(json.dumps({"known": wire.known, "said": said}), flush=True)
    if plan["flood"]:
        wire.spawn(flood(wire, wire.neighbours(bytes(20))))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


async def flood(wire: Wire, nodes: list[bytes]) -> None:
    rubbish = [(bytes(20), b"rubbish")] * RECORDS_A_CALL
    while True:
        said = await asyncio.gather(*(wire.store(node, rubbish) for node in nodes * 8))
        if None in said:
            print(json.dumps({"refused": said.count(None)}), flush=True)


asyncio.run(main())
