"""Ask peers of followed places what they observed, again and again."""

import trio

from gossip.announce import topic_of
from gossip.messages import MAX_TOLD
from gossip.testimony import ANSWER_S, ask_testimony
from node.services import Services
from p2pllm.errors import P2pllmError, PeerError, Unavailable
from p2pllm.ids import NodeId

PAGES = 4  # of one peer in one round; the rest comes in the next
ASKED = 16  # peers of one place


async def run(services: Services) -> None:
    """Ask until cancelled."""
    while True:
        await trio.sleep(services.config.trust.witness_s)
        try:
            await _ask_all(services)
        except Unavailable:
            continue  # no network now


async def _ask_all(services: Services) -> None:
    swarm = services.network.swarm()
    peers: set[NodeId] = set()
    for place in sorted(services.trust.followed):
        known = swarm.peers(topic_of(place))
        peers |= set(services.trust.opinions.ranked(known, place)[:ASKED])
    for peer in sorted(peers):
        await _ask(services, peer)


async def _ask(services: Services, peer: NodeId) -> None:
    endpoint, witnesses = services.network.endpoint(), services.trust.witnesses
    new = 0
    try:
        for _ in range(PAGES):
            with trio.fail_after(ANSWER_S):
                after = witnesses.from_number(peer)
                records = await ask_testimony(endpoint, peer, after)
            new += witnesses.take(peer, records)
            if len(records) < MAX_TOLD:
                break
    except PeerError as broken:
        services.events.refuse(broken, peer=peer)
    except (P2pllmError, trio.TooSlowError):
        return  # asked again next time
    if new:
        services.events.emit("testimony", peer=peer, observations=new)
