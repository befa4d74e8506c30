"""The DHT with real nodes: each a p2pd and a DHT process of its own, on loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from gossip import index
from gossip.dht import open_dht
from gossip.endpoint import Endpoint
from gossip.pipe import Entry
from gossip.shelf import FULL
from gossip.validator import key_id, shard_key, shard_path
from p2pllm import keys
from p2pllm.advert import Advert, index_keys, keys_of, presence_key, seal, subkey_of
from p2pllm.errors import Unavailable
from p2pllm.names import Place
from p2pllm.query import Query
from tests.gossip.dht_nodes import DhtNode, join, open_bare, open_nodes, until
from tests.gossip.records import advert, presence, provider

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0  # for what takes a second on an idle machine
QUERY = Query(lang="en", domain="medical", sub="", kind="adapter")


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def ended(pid: int) -> bool:
    return not alive(pid)


async def found_by(node: DhtNode, query: Query = QUERY) -> list[Advert]:
    return await index.search(node.dht, query, time.time())


async def finds(node: DhtNode, count: int) -> bool:
    return len(await found_by(node)) == count


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(DEADLINE_S):
            await main()

    trio.run(bounded)


def test_an_advert_is_found_by_other_nodes_under_every_filter_and_not_once_withdrawn() -> None:
    async def main() -> None:
        async with open_nodes(4) as nodes:
            publisher, *others = nodes
            ad = advert(publisher.identity)
            await index.publish(publisher.dht, publisher.identity, ad, time.time())
            for node in others:
                for query in (QUERY, Query(), Query(lang="en"), Query(domain="medical")):
                    assert await found_by(node, query) == [ad]
                assert await found_by(node, Query(lang="de")) == []
            await index.withdraw(publisher.dht, publisher.identity, ad, time.time())
            for node in others:
                assert await found_by(node) == []

    run(main)


def test_a_dead_dht_process_ends_the_block_and_every_ask_with_e0904() -> None:
    async def main() -> None:
        async with open_nodes(1) as [node]:
            os.kill(node.dht.pid, signal.SIGKILL)
            await node.gone.wait()
            assert node.fault is not None
            assert node.fault.code == "E0904"
            with pytest.raises(Unavailable, match="E0904"):
                await node.dht.size()

    run(main)


def test_a_dht_whose_p2pd_dies_ends_and_says_so() -> None:
    async def main() -> None:
        async with open_nodes(1) as [node]:
            os.kill(node.endpoint.pid, signal.SIGKILL)
            await node.gone.wait()
            assert node.fault is not None
            assert node.fault.code in ("E0903", "E0904")  # whichever is noticed first
            assert not alive(node.dht.pid)

    run(main)


def test_a_dht_process_can_be_started_again_on_the_same_p2pd() -> None:
    async def main() -> None:
        async with open_nodes(1) as [other], open_bare() as endpoint:
            for _ in range(3):
                with pytest.raises(Unavailable, match="E0904"):
                    await killed_at_once(endpoint, other)

    async def killed_at_once(endpoint: Endpoint, other: DhtNode) -> None:
        async with open_dht(endpoint.control) as dht:
            assert (await dht.bootstrap([other.address])).size == 1
            os.kill(dht.pid, signal.SIGKILL)
            await trio.sleep_forever()

    run(main)


def test_a_dht_without_p2pd_does_not_start_and_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(Unavailable) as caught:
            async with open_dht(tmp_path / "no.sock"):
                pass
        assert caught.value.code == "E0904"
        assert "no.sock" in caught.value.why[0]
        assert caught.value.why[-1] == "its exit status is 1"

    run(main)


def test_what_the_block_raises_comes_out_as_it_was_raised() -> None:
    async def main() -> None:
        pids: list[int] = []
        async with open_bare() as endpoint:
            with pytest.raises(KeyError, match="mine"):
                await fail(endpoint, pids)
            assert not alive(pids[0])

    async def fail(endpoint: Endpoint, pids: list[int]) -> None:
        async with open_dht(endpoint.control) as dht:
            pids.append(dht.pid)
            raise KeyError("mine")

    run(main)


def test_an_ask_given_up_leaves_the_others_and_the_process_well() -> None:
    async def main() -> None:
        async with open_nodes(2) as [node, other]:
            raw = seal(node.identity, presence(node.identity))
            key = presence_key(node.identity.node)
            for patience in (0.0, 0.0005, 0.002):
                with trio.move_on_after(patience):
                    await node.dht.put([Entry(key=key, value=raw)])
            assert await node.dht.put([Entry(key=key, value=raw)]) == [True]
            assert (await other.dht.get([key]))[key].values == (raw,)

    run(main)


def test_a_stopped_dht_process_is_killed_at_the_end() -> None:
    async def main() -> None:
        async with open_bare() as endpoint:
            async with open_dht(endpoint.control) as dht:
                os.kill(dht.pid, signal.SIGSTOP)
                with trio.move_on_after(0.1) as given_up:
                    await dht.size()
                assert given_up.cancelled_caught
            assert not alive(dht.pid)

    run(main)


PARENT = """
import sys, trio
from pathlib import Path
from gossip.dht import open_dht
async def main():
    async with open_dht(Path(sys.argv[1])) as dht:
        print(dht.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


def test_the_dht_process_ends_when_its_parent_is_killed() -> None:
    async def main() -> None:
        async with open_bare() as endpoint:
            command = [sys.executable, "-c", PARENT, str(endpoint.control)]
            parent = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, cwd=ROOT)
            assert parent.stdout is not None
            child = int(await parent.stdout.receive_some())
            assert alive(child)
            parent.kill()
            await parent.wait()
            await until(partial(ended, child))

    run(main)


def test_records_survive_the_death_of_three_of_nine_nodes() -> None:
    async def main() -> None:
        async with open_nodes(9) as nodes:
            adverts = [advert(node.identity, n) for n, node in enumerate(nodes)]
            for node, ad in zip(nodes, adverts, strict=True):
                await index.publish(node.dht, node.identity, ad, time.time())
            for node in nodes[:3]:
                os.kill(node.dht.pid, signal.SIGKILL)
                await node.gone.wait()
            for node in nodes[3:]:
                assert {ad.manifest for ad in await found_by(node)} == {
                    ad.manifest for ad in adverts
                }

    run(main)


def test_a_node_that_was_alone_shares_and_finds_once_it_has_joined() -> None:
    async def main() -> None:
        async with open_nodes(4) as others, open_nodes(1) as [alone]:
            first = advert(others[0].identity, 1)
            await index.publish(others[0].dht, others[0].identity, first, time.time())
            mine = advert(alone.identity, 2)
            await index.publish(alone.dht, alone.identity, mine, time.time())
            assert await found_by(alone) == [mine]
            assert (await alone.dht.bootstrap([others[1].address])).size == 4
            for node in (alone, *others):
                await until(partial(finds, node, 2))  # the spreading runs beside
            alone.scope.cancel()
            await alone.gone.wait()
            assert len(await found_by(others[3])) == 2

    run(main)


def test_nodes_that_come_later_take_over_the_records() -> None:
    async def main() -> None:
        async with open_nodes(3) as first, open_nodes(3, joined=False) as later:
            ad = advert(first[0].identity)
            await index.publish(first[0].dht, first[0].identity, ad, time.time())
            await join([first[0], *later])
            for node in first:
                node.scope.cancel()
                await node.gone.wait()
            assert await found_by(later[1]) == [ad]

    run(main)


def test_seeds_that_are_dead_or_nonsense_cost_nothing_but_themselves() -> None:
    async def main() -> None:
        async with open_nodes(2, joined=False) as [node, other]:
            dead = f"/ip4/127.0.0.1/tcp/9/p2p/{keys.generate().node}"
            nonsense = ["", "x", "/p2p/", "/ip4/1.2.3.4/p2p/zzz", "/ip4/999.0.0.1/tcp/1/p2p/1"]
            none = await node.dht.bootstrap([dead, *nonsense])
            assert (none.size, none.met) == (0, frozenset())
            one = await node.dht.bootstrap([dead, *nonsense, other.address])
            assert (one.size, one.met) == (1, frozenset([other.identity.node]))

    run(main)


def test_a_crowded_key_overflows_into_shards_and_all_of_it_is_found() -> None:
    async def main() -> None:
        async with open_nodes(3) as [publisher, node, _]:
            me = publisher.identity
            key = index_keys(advert(me))[0]
            crowd = [advert(me, n) for n in range(FULL)]
            entries = [Entry(key=key, value=seal(me, ad)) for ad in crowd]
            assert all(await publisher.dht.put(entries))
            late = [advert(me, n) for n in range(FULL, FULL + 5)]
            for ad in late:
                await index.publish(publisher.dht, me, ad, time.time())
            query = Query(
                lang="en",
                domain="medical",
                sub="",
                size_low=300 * 2**20,
                size_high=300 * 2**20,
                kind="adapter",
                limit=1000,
            )
            found = {ad.manifest for ad in await found_by(node, query)}
            assert found == {ad.manifest for ad in (*crowd, *late)}
            shard = shard_key(key, shard_path(subkey_of(late[0]))[:1])
            assert seal(me, late[0]) in (await node.dht.get([shard]))[shard].values

    run(main)


@asynccontextmanager
async def open_rogue(**plan: object) -> AsyncIterator[tuple[trio.Process, dict[str, Any]]]:
    """A node that lies; gives its process, and what it said after it joined."""
    async with open_bare() as endpoint:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.gossip.rogue"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        defaults: dict[str, object] = {"lies": [], "at": [], "push": [], "accept": True}
        defaults["flood"] = False
        full = defaults | {"control": str(endpoint.control)} | plan
        await process.stdin.send_all(json.dumps(full).encode() + b"\n")
        try:
            yield process, await said(process, "known")
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                await process.stdin.aclose()
                await process.stdout.aclose()


async def said(process: trio.Process, what: str) -> dict[str, Any]:
    """The next line of a rogue that has this in it."""
    assert process.stdout is not None
    rest = b""
    while part := await process.stdout.receive_some():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if what in json.loads(line):
                return dict(json.loads(line))
    raise AssertionError("the rogue died")


def refused_records() -> dict[str, tuple[str, bytes]]:
    """Name -> key and record, each breaking one rule."""
    me, other, now = keys.generate(), keys.generate(), time.time()
    good = advert(me)
    key = index_keys(good)[0]
    path = shard_path(subkey_of(good))
    wrong = "0" if path[0] != "0" else "1"
    return {
        "forged": (key, seal(other, advert(other))[:64] + seal(me, good)[64:]),
        "expired": (key, seal(me, advert(me, expires_at=now - 1))),
        "far future": (key, seal(me, advert(me, expires_at=now + 10**6))),
        "wrong key": (key, seal(me, advert(me, place=Place("de")))),
        "wrong kind": (key, seal(me, provider(me))),
        "wrong shard": (shard_key(key, wrong), seal(me, good)),
        "nonsense": (key, b"\x00" * 200),
    }


def test_real_nodes_keep_no_record_that_breaks_a_rule() -> None:
    async def main() -> None:
        bad, me = refused_records(), keys.generate()
        good = (keys_of(advert(me))[0], seal(me, advert(me)))
        push = [(key_id(key).hex(), raw.hex()) for key, raw in (*bad.values(), good)]
        async with (
            open_nodes(3) as nodes,
            open_rogue(push=push, join=[node.address for node in nodes]) as (_, told),
        ):
            assert told["said"] == [*[[False]] * len(bad), [True]] * len(nodes)
            for key, raw in bad.values():
                for node in nodes:
                    assert raw not in (await node.dht.get([key]))[key].values

    run(main)


@pytest.mark.parametrize(
    ("name", "blamed"), [("forged", True), ("wrong key", True), ("expired", False)]
)
def test_a_node_that_lies_to_a_search_changes_nothing(name: str, blamed: bool) -> None:
    async def main() -> None:
        key, lie = refused_records()[name]
        plan = {"lies": [lie.hex()], "at": [key_id(key).hex()]}
        async with (
            open_nodes(3) as nodes,
            open_rogue(**plan, join=[nodes[0].address]) as (rogue, told),
        ):
            assert told["known"] == 3
            ad = advert(nodes[0].identity)
            await index.publish(nodes[0].dht, nodes[0].identity, ad, time.time())
            for node in nodes:
                assert await found_by(node) == [ad]
            assert await asked(rogue) > 0
            for node in nodes:  # who told a lie that no clock excuses is not asked again
                assert await found_by(node) == [ad]
            assert (await asked(rogue) == 0) is blamed

    run(main)


async def asked(rogue: trio.Process) -> int:
    """How often a rogue has been asked since this was last called."""
    assert rogue.stdout is not None
    heard = b""
    with trio.move_on_after(0.1):
        while True:
            heard += await rogue.stdout.receive_some()
    return heard.count(b"asked")


def test_a_node_that_refuses_everything_hides_nothing() -> None:
    async def main() -> None:
        async with (
            open_nodes(3) as nodes,
            open_rogue(accept=False, join=[nodes[0].address]),
        ):
            ad = advert(nodes[0].identity)
            await index.publish(nodes[0].dht, nodes[0].identity, ad, time.time())
            for node in nodes:
                assert await found_by(node) == [ad]

    run(main)


def test_a_node_that_calls_without_pause_is_refused_and_the_others_are_answered() -> None:
    async def main() -> None:
        async with (
            open_nodes(3) as nodes,
            open_rogue(flood=True, join=[node.address for node in nodes]) as (rogue, _),
        ):
            await said(rogue, "refused")
            publisher, *others = nodes
            ad = advert(publisher.identity)
            await index.publish(publisher.dht, publisher.identity, ad, time.time())
            for node in others:
                assert await found_by(node) == [ad]
            await said(rogue, "refused")
            for node in nodes:
                await node.dht.size()
            assert any(node.dht.refused for node in nodes)

    run(main)
