"""What updates gave text of keepers: ours kept and told, others' asked and checked.

Nobody computes because of a question: an answer is what a round of the answerer has measured.
"""

import time
from collections.abc import Sequence

import msgspec
import trio

from gossip.announce import topic_of
from gossip.gains import ask_gains
from gossip.messages import MAX_GAINS
from node.services import Services
from p2pllm import gains
from p2pllm.bounds import Estimate, estimate
from p2pllm.errors import P2pllmError, PeerError, Unavailable
from p2pllm.gains import Gain
from p2pllm.ids import ContentId, NodeId
from p2pllm.jobs_shadow import Found, Part
from p2pllm.names import Place

ASKED = 8  # peers of a place; those that stand best here
WAIT_S = 5.0  # for all of them: an answer is a look-up, and it is asked again


def keep_own(services: Services, place: Place, update: ContentId, found: Found) -> None:
    """Keep what an update gave our own documents, and its mean, signed, to tell."""
    trust = services.trust
    number = trust.books.place(place).book.rounds
    trust.db.keep_summary(place, number, _name(update), msgspec.json.encode(found))
    mean = gains.rounded(estimate(of_part(found, "probes")))
    held = services.library.get(update)
    if held is None or mean.error == float("inf"):
        return  # too few documents to say anything
    record = gains.seal(
        services.identity,
        Gain(
            by=services.identity.node,
            place=place,
            update=update,
            model=held.model,
            documents=mean.count,
            mean=mean.mean,
            error=mean.error,
            measured_at=time.time(),
        ),
    )
    trust.gate.keep_gain(place, update, services.identity.node, record)


def own(services: Services, place: Place, update: ContentId) -> Found | None:
    """What an update gave our own documents when it was measured last; None if it was not."""
    found = services.trust.db.summaries(place, _name(update))
    return msgspec.json.decode(found[max(found)], type=Found) if found else None


def _name(update: ContentId) -> str:
    return f"shadow/{update}"


def of_part(found: Found, part: Part) -> list[float]:
    """The gains of all documents of one part of the place's own text."""
    return [gain for one in found[:2] if one.part == part for gain in one.gains]


def told(services: Services, place: Place, update: ContentId) -> dict[NodeId, Estimate]:
    """What other keepers that are not shut out said of an update."""
    me, trust = services.identity.node, services.trust
    records = trust.gate.gains(place, update).items()
    heard = {by: gains.open_gain(raw) for by, raw in records if by != me}
    return {by: one.estimate for by, one in heard.items() if not trust.opinions.shut(by, place)}


async def ask(services: Services, place: Place, updates: Sequence[ContentId]) -> set[NodeId]:
    """Ask the peers of a place about updates; which of them keep the place, whatever they know.

    What they know is kept. Without a network nobody keeps it, as far as this node can tell.
    """
    if not updates:
        return set()
    try:
        here = services.network.swarm().peers(topic_of(place))
    except Unavailable:
        return set()
    opinions = services.trust.opinions
    peers = [peer for peer in opinions.ranked(here, place) if not opinions.shut(peer, place)]
    keepers: set[NodeId] = set()

    async def one(peer: NodeId) -> None:
        try:
            if await _ask(services, peer, place, tuple(updates[:MAX_GAINS])):
                keepers.add(peer)
        except PeerError as broken:
            services.events.refuse(broken, peer=peer, place=str(place))
        except (P2pllmError, trio.TooSlowError):
            return  # asked again as long as something waits

    async with trio.open_nursery() as nursery:
        for peer in peers[:ASKED]:
            nursery.start_soon(one, peer)
    return keepers


async def _ask(
    services: Services, peer: NodeId, place: Place, updates: tuple[ContentId, ...]
) -> bool:
    with trio.fail_after(WAIT_S):
        answer = await ask_gains(services.network.endpoint(), peer, place, updates)
    for record in answer.records:
        gain = gains.open_gain(record)
        held = services.library.get(gain.update)
        asked = gain.update in updates and held is not None and gain.model == held.model
        if (gain.by, gain.place) != (peer, place) or not asked:
            raise PeerError("E0603", f"{peer} tells gains that it was not asked for")
        services.trust.gate.keep_gain(place, gain.update, peer, record)
    return answer.keeps
