"""The swarm between real nodes: what is passed on, what it costs, and what cannot break it."""

import math
import os
import random
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from libp2p.pubsub.pb import rpc_pb2

from gossip import standing
from gossip.announce import AnnounceRules, seal
from gossip.p2pd_transport import PROTOCOL
from gossip.router import Router, message_id
from gossip.swarm import BURST, MAX_DATA_BYTES, RATE
from p2pllm.errors import PeerError, Unavailable
from p2pllm.ids import NodeId
from tests.gossip.swarm_nodes import (
    TOPIC,
    Node,
    dial,
    framed,
    homes,
    link,
    open_node,
    open_raw,
    rpc_of,
    until,
)
from tests.gossip.test_announce import ME, made


def judge_by_first_letter(_relayer: NodeId, _topic: str, data: bytes) -> str:
    return {b"A": "accept", b"R": "reject", b"I": "ignore"}[data[:1]]


class Line:
    """Three nodes, left - middle - right; the middle one judges."""

    def __init__(self, folder: Path, validate=judge_by_first_letter, score=lambda _: 0.0) -> None:
        self._folder, self._validate, self._score = folder, validate, score
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> tuple[Node, Node, Node]:
        await self._stack.__aenter__()
        left = await self._stack.enter_async_context(open_node(self._folder / "l"))
        middle = await self._stack.enter_async_context(
            open_node(self._folder / "m", self._validate, self._score)
        )
        right = await self._stack.enter_async_context(open_node(self._folder / "r"))
        await link(left, middle)
        await link(right, middle)
        return left, middle, right

    async def __aexit__(self, *fault: object) -> None:
        await self._stack.__aexit__(*fault)


def run(test) -> None:
    with homes() as folder:
        trio.run(test, folder)


def test_an_accepted_message_reaches_a_node_two_hops_away_from_its_relayer() -> None:
    async def test(folder: Path) -> None:
        async with Line(folder) as (left, middle, right):
            await left.swarm.publish(TOPIC, b"A one")
            await until(lambda: right.heard and middle.heard)
            assert right.data == [b"A one"] == middle.data
            assert middle.heard[0].relayer == left.id
            assert right.heard[0].relayer == middle.id
            assert left.heard == []  # nobody hears himself

    run(test)


def test_a_rejected_message_is_not_relayed_and_lowers_its_senders_score() -> None:
    async def test(folder: Path) -> None:
        async with Line(folder) as (left, middle, right):
            await left.swarm.publish(TOPIC, b"R bad")
            await left.swarm.publish(TOPIC, b"A good")
            await until(lambda: right.heard and middle.heard)
            await until(lambda: middle.swarm.counters()["reject"] == 1)
            assert right.data == [b"A good"] == middle.data
            assert middle.swarm.score(left.id) == pytest.approx(-standing.REJECTED, abs=0.5)
            assert middle.swarm.score(right.id) == 0
            assert right.swarm.score(middle.id) == 0

    run(test)


def test_an_ignored_message_is_not_relayed_and_costs_nothing() -> None:
    async def test(folder: Path) -> None:
        async with Line(folder) as (left, middle, right):
            await left.swarm.publish(TOPIC, b"I late")
            await left.swarm.publish(TOPIC, b"A good")
            await until(lambda: right.heard and middle.heard)
            await until(lambda: middle.swarm.counters()["ignore"] == 1)
            assert right.data == [b"A good"] == middle.data
            assert middle.swarm.score(left.id) == 0

    run(test)


def test_a_message_is_judged_once_however_often_it_comes() -> None:
    async def test(folder: Path) -> None:
        judged = []

        def validate(_relayer: NodeId, _topic: str, data: bytes) -> str:
            judged.append(data)
            return "accept"

        async with Line(folder, validate) as (left, middle, right):
            for _ in range(3):
                await left.swarm.publish(TOPIC, b"again")
            await left.swarm.publish(TOPIC, b"last")
            await until(lambda: len(right.heard) == 2)
            await until(lambda: middle.swarm.counters()["duplicate"] == 2)
            assert judged == [b"again", b"last"]
            assert set(right.data) == {b"again", b"last"}

    run(test)


def test_repeating_a_rejected_message_is_charged_without_judging_it_again() -> None:
    async def test(folder: Path) -> None:
        judged = []

        def validate(_relayer: NodeId, _topic: str, data: bytes) -> str:
            judged.append(data)
            return "reject"

        async with open_node(folder / "n", validate) as node, open_raw(folder / "x", node) as raw:
            await raw.speak(node, rpc_of(b"bad"), rpc_of(b"bad"))
            await until(lambda: node.swarm.score(raw.id) < -1.5 * standing.REJECTED)
            assert judged == [b"bad"]

    run(test)


def test_real_announcements_forged_replayed_or_too_long_go_no_further() -> None:
    rules, now = AnnounceRules(), time.time()
    times = {"created_at": now - 10, "expires_at": now + 100}
    good, other = seal(ME, made(1, **times)), seal(ME, made(2, **times))
    forged = other[:-1] + bytes([other[-1] ^ 1])
    again = seal(ME, made(1, created_at=now - 5, expires_at=now + 200))
    long = good + b"\0" * 1000

    def validate(_relayer: NodeId, topic: str, data: bytes) -> str:
        return rules.judge(data, topic, now).verdict

    async def test(folder: Path) -> None:
        async with Line(folder, validate) as (left, middle, right):
            for data in (good, forged, again, long, other):
                await left.swarm.publish(TOPIC, data)
            await until(lambda: len(right.heard) == len(middle.heard) == 2)
            assert set(right.data) == set(middle.data) == {good, other}
            await until(lambda: middle.swarm.counters()["reject"] == 2)
            await until(lambda: middle.swarm.counters()["ignore"] == 1)
            assert middle.swarm.score(left.id) == pytest.approx(-20, abs=0.5)

    run(test)


def test_a_peer_whose_messages_are_rejected_is_soon_not_listened_to() -> None:
    async def test(folder: Path) -> None:
        async with (
            open_node(folder / "n", judge_by_first_letter) as node,
            open_raw(folder / "x", node) as raw,
        ):
            await raw.speak(node, *(rpc_of(b"R%d" % i) for i in range(9)), rpc_of(b"A good"))
            await until(lambda: node.swarm.counters()["ignore"] == 6)
            assert node.swarm.counters()["reject"] == 4
            assert node.heard == []

    run(test)


def test_a_peer_that_keeps_breaking_the_form_is_cut_off_and_stays_so() -> None:
    async def test(folder: Path) -> None:
        async with open_node(folder / "n") as node, open_raw(folder / "x", node) as raw:
            stream = await raw.speak(node, *(rpc_of(b"A", seqno=b"%d" % i) for i in range(12)))
            await _ends(stream)
            assert node.swarm.score(raw.id) < standing.GRAYLIST
            again = await raw.speak(node, rpc_of(b"A good"))
            await _ends(again)
            assert node.heard == []

    run(test)


def test_a_peer_below_the_publish_threshold_is_not_listened_to() -> None:
    async def test(folder: Path) -> None:
        async with (
            open_node(folder / "n", score=lambda _: standing.PUBLISH - 1) as node,
            open_raw(folder / "x", node) as raw,
        ):
            await raw.speak(node, rpc_of(b"A good"))
            await until(lambda: node.swarm.counters()["ignore"] == 1)
            assert node.heard == []

    run(test)


def test_a_message_of_the_wrong_form_is_never_judged() -> None:
    async def test(folder: Path) -> None:
        two = rpc_pb2.Message(topicIDs=[TOPIC, "p2pllm/1/en"], data=b"A")
        cases = [
            rpc_of(b"A" * (MAX_DATA_BYTES + 1)),
            rpc_of(b"A", topic="ok").replace(b"ok", b"\xff\xfe"),  # a topic that is no text
            rpc_of(b"A", seqno=b"1"),
            rpc_of(b"A", from_id=b"x", signature=b"y"),
            framed(rpc_pb2.RPC(publish=[two]).SerializeToString()),
        ]
        for number, rpc in enumerate(cases):
            async with (
                open_node(folder / f"n{number}") as node,
                open_raw(folder / f"x{number}", node) as raw,
            ):
                await raw.speak(node, rpc, rpc_of(b"after"))
                await until(lambda node=node: node.heard)
                assert node.data == [b"after"]
                assert node.swarm.counters()["reject"] == 1
                assert node.swarm.score(raw.id) == pytest.approx(-standing.REJECTED, abs=0.5)

    run(test)


@pytest.mark.parametrize(
    "sent",
    [
        framed(b"\xff\xff\xff\xff\xff"),  # no protobuf
        b"\xff" * 16,  # a length without end
        framed(b"\0" * 9)[:1] + b"\0" * 9,
        b"\xff\xff\xff\x7f",  # a length of 256 MiB
    ],
)
def test_bytes_that_are_no_rpc_cost_their_sender_and_nobody_else(sent: bytes) -> None:
    async def test(folder: Path) -> None:
        async with (
            open_node(folder / "n") as node,
            open_node(folder / "o") as other,
            open_raw(folder / "x", node) as raw,
        ):
            await link(other, node)
            stream = await raw.speak(node, sent)
            await _ends(stream)
            assert node.swarm.counters()["malformed"] == 1
            assert node.swarm.score(raw.id) == pytest.approx(-standing.MALFORMED, abs=0.5)
            await other.swarm.publish(TOPIC, b"still here")
            await until(lambda: node.data == [b"still here"])

    run(test)


def test_no_bytes_end_the_swarm(monkeypatch: pytest.MonkeyPatch) -> None:
    for points in ("MALFORMED", "REJECTED", "EXCESS"):  # or the first few would end the test
        monkeypatch.setattr(standing, points, 0.0)
    ids = [b"0123456789abcdef" * 2, b"\xff" * 20]
    rpc = rpc_pb2.RPC(
        subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)],
        publish=[rpc_pb2.Message(topicIDs=[TOPIC], data=b"A fine")],
        senderRecord=b"x",
        control=rpc_pb2.ControlMessage(
            ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=ids)],
            iwant=[rpc_pb2.ControlIWant(messageIDs=ids)],
            graft=[rpc_pb2.ControlGraft(topicID=TOPIC)],
            prune=[rpc_pb2.ControlPrune(topicID=TOPIC, backoff=1)],
        ),
    ).SerializeToString()
    rng = random.Random(7)

    async def test(folder: Path) -> None:
        async with open_node(folder / "n") as node, open_raw(folder / "x", node) as raw:
            for _ in range(150):
                broken = bytearray(rpc)
                for _ in range(rng.randint(1, 4)):
                    broken[rng.randrange(len(broken))] = rng.randrange(256)
                async with await raw.endpoint.open_stream(node.id, PROTOCOL) as stream:
                    await stream.send_all(framed(bytes(broken)))
            with trio.fail_after(20):
                while b"still here" not in node.data:  # a stream of before may come in later yet
                    await raw.speak(node, rpc_of(b"still here"))
                    await trio.sleep(0.1)
            assert node.swarm.counters()["malformed"] > 10

    run(test)


def test_control_messages_for_foreign_topics_leave_nothing_behind() -> None:
    async def test(folder: Path) -> None:
        async with open_node(folder / "n") as node, open_raw(folder / "x", node) as raw:
            names = [f"p2pllm/1/en/t{i}" for i in range(60)]
            control = rpc_pb2.ControlMessage(
                graft=[rpc_pb2.ControlGraft(topicID=name) for name in names],
                prune=[rpc_pb2.ControlPrune(topicID=name, backoff=2**60) for name in names],
                ihave=[rpc_pb2.ControlIHave(topicID=n, messageIDs=[b"x" * 20]) for n in names],
                iwant=[rpc_pb2.ControlIWant(messageIDs=[os.urandom(20)]) for _ in names],
            )
            odd = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid="x" * 5000)]
            rpc = framed(rpc_pb2.RPC(control=control, subscriptions=odd).SerializeToString())
            await raw.speak(node, rpc, rpc_of(b"after"))
            await until(lambda: node.heard)
            router = node.swarm._rpcs.router
            assert set(router.mesh) == {TOPIC}
            assert router.back_off == {}
            assert set(node.swarm._rpcs.peer_topics) <= {TOPIC}

    run(test)


def test_a_flood_is_read_at_a_bounded_pace_and_others_are_heard_meanwhile() -> None:
    async def test(folder: Path) -> None:
        async with (
            open_node(folder / "n") as node,
            open_node(folder / "o") as other,
            open_raw(folder / "x", node) as raw,
        ):
            await link(other, node)
            stream = await raw.speak(node)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pour, stream)
                start = trio.current_time()
                await until(lambda: len(node.heard) > BURST / 2)
                await other.swarm.publish(TOPIC, b"a word")
                await until(lambda: b"a word" in node.data, 5)
                passed = trio.current_time() - start
                nursery.cancel_scope.cancel()
            assert len(node.heard) <= BURST + RATE * (passed + 1) + 20

    run(test)


async def _pour(stream: trio.SocketStream) -> None:
    number = 0
    while True:
        await stream.send_all(rpc_of(*(b"%d" % (number + i) for i in range(10))))
        number += 10


def test_a_peer_that_takes_nothing_holds_up_nobody() -> None:
    async def test(folder: Path) -> None:
        async with Line(folder) as (left, middle, right), open_raw(folder / "x", middle) as raw:

            async def take_nothing(_peer: NodeId, _stream: trio.SocketStream) -> None:
                await trio.sleep_forever()

            await raw.endpoint.handle(PROTOCOL, take_nothing)
            follow = rpc_pb2.RPC(
                subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)],
                control=rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID=TOPIC)]),
            )
            await raw.speak(middle, framed(follow.SerializeToString()))
            await until(lambda: raw.id in middle.swarm.peers(TOPIC))
            for number in range(150):
                await left.swarm.publish(TOPIC, b"A%04d" % number + b"x" * 4000)
                await until(lambda number=number: len(right.heard) == number + 1)

    run(test)


def test_a_node_goes_on_when_a_peer_vanishes_and_hears_it_again_when_it_is_back() -> None:
    async def test(folder: Path) -> None:
        async with open_node(folder / "m") as middle, open_node(folder / "r") as right:
            await link(right, middle)
            with pytest.raises(Unavailable):  # its own block ends with its p2pd
                await _live_and_die(folder / "l", middle)
            await until(lambda: middle.swarm.peers() == [right.id])
            await right.swarm.publish(TOPIC, b"one is gone")
            await until(lambda: middle.data == [b"one is gone"])
            async with open_node(folder / "l") as left:
                await link(left, middle)
                await left.swarm.publish(TOPIC, b"back")
                await until(lambda: right.data == [b"back"])

    run(test)


def test_a_link_that_breaks_on_one_side_is_made_again() -> None:
    async def test(folder: Path) -> None:
        async with open_node(folder / "a") as one, open_node(folder / "b") as two:
            await link(one, two)
            await until(lambda: one.id in two.swarm.peers())
            broken = next(iter(two.swarm._rpcs.peers.values()))
            broken.drop()
            await until(lambda: broken not in two.swarm._rpcs.peers.values())
            await until(lambda: one.id in two.swarm.peers())
            await two.swarm.publish(TOPIC, b"again")
            await until(lambda: one.data == [b"again"])

    run(test)


def test_a_peer_that_joins_the_mesh_is_told_what_it_just_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Leave the graft alone to tell it: otherwise the next heartbeat may, or may not.
    monkeypatch.setattr(Router, "gossip_heartbeat", lambda _: {})
    opinion = standing.MESH - 1
    got = bytearray()

    async def collect(_peer: NodeId, stream: trio.SocketStream) -> None:
        async for part in stream:
            got.extend(part)

    async def test(folder: Path) -> None:
        nonlocal opinion
        async with (
            open_node(folder / "n", score=lambda _: opinion) as node,
            open_raw(folder / "x", node) as late,
            open_raw(folder / "y", node) as other,
        ):
            await late.endpoint.handle(PROTOCOL, collect)
            follow = rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)
            stream = await late.speak(node, framed(_bytes(subscriptions=[follow])))
            await until(lambda: late.id in node.swarm.peers(TOPIC))
            message = rpc_pb2.Message(topicIDs=[TOPIC], data=b"missed")
            await other.speak(node, rpc_of(message.data))
            await until(lambda: node.data == [b"missed"])
            assert message_id(message) not in got
            opinion = 0.0
            graft = rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID=TOPIC)])
            await stream.send_all(framed(_bytes(control=graft)))
            await until(lambda: message_id(message) in got)

    run(test)


def _bytes(**fields: object) -> bytes:
    return rpc_pb2.RPC(**fields).SerializeToString()  # type: ignore[arg-type]


@pytest.mark.parametrize("failing", ["raises", "nan", "none"])
def test_a_score_that_cannot_be_computed_is_no_trust(failing: str) -> None:
    async def test(folder: Path) -> None:
        bad: set[NodeId] = set()

        def score(peer: NodeId) -> float:
            if peer not in bad:
                return 0.0
            if failing == "raises":
                raise RuntimeError("the ledger is gone")
            return math.nan if failing == "nan" else None  # type: ignore[return-value]

        async with Line(folder, score=score) as (left, middle, right):
            bad.add(left.id)
            assert middle.swarm.score(left.id) == standing.LOWEST < standing.GRAYLIST
            await left.swarm.publish(TOPIC, b"A from one that cannot be judged")
            await until(lambda: left.id not in middle.swarm.peers())
            await right.swarm.publish(TOPIC, b"A fine")
            await until(lambda: middle.data == [b"A fine"])
            assert right.data == left.data == []

    run(test)


def test_a_validate_that_fails_lets_nothing_through_and_ends_nothing() -> None:
    async def test(folder: Path) -> None:
        def validate(_relayer: NodeId, _topic: str, data: bytes) -> str:
            if data == b"bug":
                raise RuntimeError("a fault of ours")
            if data == b"peer":
                raise PeerError("E0603", "no announcement")
            return "accept"

        async with Line(folder, validate) as (left, middle, right):
            for data in (b"bug", b"peer", b"fine"):
                await left.swarm.publish(TOPIC, data)
            await until(lambda: right.data == [b"fine"])
            await until(lambda: middle.swarm.counters()["ignore"] == 1)
            await until(lambda: middle.swarm.counters()["reject"] == 1)

    run(test)


def test_what_nobody_takes_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(folder: Path) -> None:
        monkeypatch.setattr("gossip.swarm.MAX_HEARD", 0)
        async with open_node(folder / "n") as node, open_raw(folder / "x", node) as raw:
            await raw.speak(node, rpc_of(b"1", b"2", b"3"))
            await until(lambda: node.swarm.counters()["accept"] == 3)
            assert node.swarm.counters()["dropped"] >= 2
            await until(lambda: len(node.heard) + node.swarm.counters()["dropped"] == 3)

    run(test)


def test_a_topic_not_joined_can_be_published_to() -> None:
    async def test(folder: Path) -> None:
        async with open_node(folder / "a", topics=()) as one, open_node(folder / "b") as two:
            await dial(one.endpoint, two.endpoint)
            await one.swarm.connect(two.id)
            await until(lambda: one.swarm.peers(TOPIC) == [two.id])
            await one.swarm.publish(TOPIC, b"from outside")
            await until(lambda: two.data == [b"from outside"])

    run(test)


def test_connecting_to_a_peer_that_is_not_there_is_unavailable() -> None:
    async def test(folder: Path) -> None:
        async with open_node(folder / "a") as node, open_raw(folder / "x", node) as raw:
            with pytest.raises(Unavailable, match="E0902"):
                await node.swarm.connect(raw.id)
            await dial(node.endpoint, raw.endpoint)
            with pytest.raises(Unavailable, match="E0902"):
                await node.swarm.connect(raw.id)  # there, but takes no gossip
            assert node.swarm.peers() == []

    run(test)


async def _live_and_die(home: Path, middle: Node) -> None:
    async with open_node(home) as node:
        await link(node, middle)
        os.kill(node.endpoint.pid, signal.SIGKILL)
        await trio.sleep_forever()


async def _ends(stream: trio.SocketStream) -> None:
    """Wait until the other end closes this stream."""
    with trio.fail_after(20):
        try:
            while await stream.receive_some(1024):
                pass
        except trio.BrokenResourceError:
            pass
