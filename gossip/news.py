"""Catch-up: a node that was away asks peers of a place what was announced meanwhile.

One stream /p2pllm/news/1, one question, one answer. Wire format: docs/specs/announce.md.
"""

import time
from collections.abc import Awaitable, Callable

import trio

from gossip.endpoint import Endpoint
from gossip.framing import read_frame, write_frame
from gossip.heard import HeardLog
from gossip.messages import (
    MAX_NEWS_BYTES,
    MAX_REQUEST_BYTES,
    NEWS_PROTOCOL,
    News,
    NewsList,
)
from gossip.standing import Allowances
from p2pllm import codec
from p2pllm.errors import PeerError
from p2pllm.ids import NodeId
from p2pllm.names import Place

# A node back after a week asks for each of its places, several pages each: 64 units at once. For
# ever, half a unit a second, which is 32 KB/s and costs no noticeable CPU.
BURST, RATE = 64.0, 0.5
COST_BYTES = 65536  # of an answer weigh as much as one question
ANSWER_S = 30.0  # from a stream's start to its end
OVERLAP_S = 600.0  # asked for twice, in case the answerer's clock was set back
MAX_PAGES = 20  # twice what an honest log holds for one place

_disk = trio.CapacityLimiter(2)


async def serve_news(endpoint: Endpoint, log: HeardLog) -> None:
    """Answer peers' questions from now on, as long as the endpoint runs."""
    allowances = Allowances(RATE, BURST)

    async def answer(peer: NodeId, stream: trio.SocketStream) -> None:
        if allowances.spend(peer, 1, trio.current_time()) > 0:
            return  # it asks too much; the stream ends without an answer
        with trio.fail_after(ANSWER_S):
            question = codec.decode(
                await read_frame(stream, MAX_REQUEST_BYTES), News, MAX_REQUEST_BYTES
            )
            news = await trio.to_thread.run_sync(
                log.news, question.place, question.since, time.time(), limiter=_disk
            )
            data = codec.encode(news)
            allowances.spend(peer, len(data) / COST_BYTES, trio.current_time())
            await write_frame(stream, data)

    await endpoint.handle(NEWS_PROTOCOL, answer)


async def ask_news(endpoint: Endpoint, peer: NodeId, place: Place, since: float) -> NewsList:
    """What this peer heard for a place since then (its clock): signed bytes, not yet judged.

    Raises Unavailable E0902 if it does not answer, PeerError E0603 if the answer is malformed.
    """
    stream = await endpoint.open_stream(peer, NEWS_PROTOCOL)
    async with stream:
        await write_frame(stream, codec.encode(News(place=place, since=since)))
        return codec.decode(await read_frame(stream, MAX_NEWS_BYTES), NewsList, MAX_NEWS_BYTES)


async def catch_up(
    endpoint: Endpoint,
    log: HeardLog,
    peer: NodeId,
    place: Place,
    take: Callable[[bytes], Awaitable[None]],
    least: float = 0.0,
) -> int:
    """Hand to `take` all that a peer heard for a place since we last asked it; says how many.

    least   Unix seconds: nothing older is asked for

    `take` judges and keeps each, as if it had come by gossip. How far we came is remembered in
    the log, page by page. The caller sets a deadline. Raises as `ask_news` does.
    """
    asked = await trio.to_thread.run_sync(log.asked, peer, place, limiter=_disk)
    since, taken = max(least, asked - OVERLAP_S), 0
    for _ in range(MAX_PAGES):
        news = await ask_news(endpoint, peer, place, since)
        for raw in news.announces:
            await take(raw)
        taken += len(news.announces)
        if news.more and news.until <= since:
            raise PeerError("E0603", f"newslist.1 of {peer}: more, but none after {since:.6f}")
        since, asked = news.until, max(asked, news.until)
        await trio.to_thread.run_sync(log.set_asked, peer, place, asked, limiter=_disk)
        if not news.more:
            break
    return taken
