"""Catch-up between real nodes: an announcement missed is not an update missed."""

import time
from pathlib import Path

import pytest
import trio

from gossip import heard
from gossip.announce import AnnounceRules, seal
from gossip.framing import read_frame, write_frame
from gossip.heard import HeardLog
from gossip.messages import MAX_REQUEST_BYTES, NEWS_PROTOCOL, News, NewsList
from gossip.news import BURST, ask_news, catch_up, serve_news
from p2pllm import codec
from p2pllm.errors import P2pllmError, PeerError, Unavailable
from p2pllm.ids import NodeId
from p2pllm.names import Place
from tests.gossip.swarm_nodes import TOPIC, dial, homes, link, open_node, open_peer, until
from tests.gossip.test_announce import ME, PLACE, made


def run(test) -> None:
    with homes() as folder:
        trio.run(test, folder)


def announced(number: int) -> tuple[bytes, object]:
    now = time.time()
    announce = made(number, created_at=now - 100, expires_at=now + 1000)
    return seal(ME, announce), announce


def fill(log: HeardLog, numbers: range) -> list[bytes]:
    raws = []
    for number in numbers:
        raw, announce = announced(number)
        log.add(raw, announce, time.time())
        raws.append(raw)
    return raws


class Taker:
    """What a node does with news: judge, keep, remember."""

    def __init__(self, log: HeardLog) -> None:
        self.log, self.rules, self.new = log, AnnounceRules(), []

    async def take(self, raw: bytes) -> None:
        judged = self.rules.judge(raw, TOPIC, time.time())
        if judged.verdict == "accept":
            self.log.add(raw, judged.announce, time.time())
            self.new.append(raw)


def test_a_node_that_was_away_catches_up_page_by_page_and_then_asks_for_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heard, "MAX_NEWS", 4)

    async def test(folder: Path) -> None:
        with HeardLog(folder / "a.db") as old, HeardLog(folder / "b.db") as new:
            async with open_peer(folder / "a") as one, open_peer(folder / "b") as two:
                told = fill(old, range(10))
                await serve_news(one, old)
                await dial(two, one)
                taker = Taker(new)
                assert await catch_up(two, new, one.node, PLACE, taker.take) == 10
                assert taker.new == told == new.since(PLACE, 0)
                told += fill(old, range(10, 12))
                await catch_up(two, new, one.node, PLACE, taker.take)
                assert taker.new == told
                asked = new.asked(one.node, PLACE)
                await catch_up(two, new, one.node, PLACE, taker.take)
                assert taker.new == told
                assert new.asked(one.node, PLACE) == asked > 0
                assert await catch_up(two, new, one.node, Place("en", "law"), taker.take) == 0

    run(test)


def test_an_announcement_published_while_a_node_was_down_reaches_it_when_it_returns() -> None:
    async def test(folder: Path) -> None:
        with HeardLog(folder / "a.db") as log, HeardLog(folder / "b.db") as away_log:
            async with open_node(folder / "a") as here:
                await serve_news(here.endpoint, log)
                async with open_node(folder / "p") as publisher:
                    await link(publisher, here)
                    raw, announce = announced(1)
                    await publisher.swarm.publish(TOPIC, raw)
                    await until(lambda: here.data == [raw])
                    log.add(raw, announce, time.time())
                async with open_node(folder / "b") as returned:  # the publisher is gone by now
                    await link(returned, here)
                    taker = Taker(away_log)
                    await catch_up(returned.endpoint, away_log, here.id, PLACE, taker.take)
                    assert taker.new == [raw]

    run(test)


def test_forged_and_replayed_news_are_judged_as_gossip_is() -> None:
    async def test(folder: Path) -> None:
        with HeardLog(folder / "b.db") as log:
            async with open_peer(folder / "a") as liar, open_peer(folder / "b") as node:
                raw, _ = announced(1)
                forged = raw[:-1] + bytes([raw[-1] ^ 1])

                async def lie(_peer: NodeId, stream: trio.SocketStream) -> None:
                    await read_frame(stream, MAX_REQUEST_BYTES)
                    lies = NewsList(announces=(forged, raw, raw, b""), until=1.0)
                    await write_frame(stream, codec.encode(lies))

                await liar.handle(NEWS_PROTOCOL, lie)
                await dial(node, liar)
                taker = Taker(log)
                assert await catch_up(node, log, liar.node, PLACE, taker.take) == 4
                assert taker.new == [raw]

    run(test)


def test_a_peer_that_always_has_more_and_never_comes_further_is_left() -> None:
    async def test(folder: Path) -> None:
        with HeardLog(folder / "b.db") as log:
            async with open_peer(folder / "a") as liar, open_peer(folder / "b") as node:
                asked = []

                async def lie(_peer: NodeId, stream: trio.SocketStream) -> None:
                    asked.append(await read_frame(stream, MAX_REQUEST_BYTES))
                    await write_frame(
                        stream, codec.encode(NewsList(announces=(), until=0.0, more=True))
                    )

                await liar.handle(NEWS_PROTOCOL, lie)
                await dial(node, liar)
                with pytest.raises(PeerError, match="E0603"):
                    await catch_up(node, log, liar.node, PLACE, Taker(log).take)
                assert len(asked) == 1

    run(test)


def test_a_peer_that_floods_questions_is_answered_a_bounded_number_of_times() -> None:
    async def test(folder: Path) -> None:
        with HeardLog(folder / "a.db") as log:
            async with (
                open_peer(folder / "a") as node,
                open_peer(folder / "x") as greedy,
                open_peer(folder / "o") as other,
            ):
                fill(log, range(3))
                await serve_news(node, log)
                await dial(greedy, node)
                await dial(other, node)
                answers = 0
                start = trio.current_time()
                for _ in range(int(BURST) + 60):
                    try:
                        await ask_news(greedy, node.node, PLACE, 0.0)
                        answers += 1
                    except Unavailable:
                        pass
                assert answers <= BURST + 1 + (trio.current_time() - start)
                assert answers > BURST / 2
                assert len((await ask_news(other, node.node, PLACE, 0.0)).announces) == 3

    run(test)


@pytest.mark.parametrize(
    "question",
    [b"", b"\xc1", b"x" * (MAX_REQUEST_BYTES + 1), codec.encode({"type": "news.1", "since": -1})],
)
def test_a_question_that_is_none_gets_no_answer_and_harms_nobody(question: bytes) -> None:
    async def test(folder: Path) -> None:
        with HeardLog(folder / "a.db") as log:
            async with open_peer(folder / "a") as node, open_peer(folder / "b") as peer:
                told = fill(log, range(1))
                await serve_news(node, log)
                await dial(peer, node)
                async with await peer.open_stream(node.node, NEWS_PROTOCOL) as stream:
                    await write_frame(stream, question)
                    with pytest.raises(P2pllmError):
                        await read_frame(stream, 1024)
                news = await ask_news(peer, node.node, PLACE, 0.0)
                assert list(news.announces) == told

    run(test)


def test_the_wire_form_of_a_question_is_small() -> None:
    place = Place("xxx-yyyyyyyy", "d" * 32, "s" * 32)
    assert len(codec.encode(News(place=place, since=2.0**33))) < MAX_REQUEST_BYTES
