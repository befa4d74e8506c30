"""What the gate's cheap checks need to know of an update, out of what its round has measured."""

from collections.abc import Sequence
from math import log
from statistics import median

from node.books import PlaceBook, Ruling
from node.services import Services
from p2pllm import codec, summary
from p2pllm.gate import Facts
from p2pllm.ids import ContentId
from p2pllm.summary import MAX_SUMMARY_BYTES, UpdateSummary
from trust.standing import ALLOWED, Standing

KNOWN = 64  # served updates that a new one is compared with, the latest
USUAL = 3  # fewer say nothing of what is usual
LEAST_SPREAD = 0.35  # of a logarithm or an entropy: four of these are four times the usual length


def facts_of(services: Services, known: PlaceBook, found: Ruling, *, seen: bool) -> Facts:
    """What is known of an update before it is applied to anything.

    That its signature holds, that it fits our base and that `trust` accepted it was found before.
    No claim of its publisher is read, so there is nothing to say of surprise or density.
    """
    update, peer = found.verdict.update, found.verdict.peer
    mine = peer == services.identity.node
    standing = known.book.peers.get(peer, Standing())
    weight = ALLOWED[standing.state].weight * standing.reputation.mean
    one = _summary(services, known, update, found.number)
    latest = sorted(known.taken.values(), key=lambda taken: -taken.number)[:KNOWN]
    read = (_summary(services, known, taken.update, taken.number) for taken in latest)
    served = [found for found in read if found is not None]
    return Facts(
        update=update,
        by=peer,
        lineage=str(peer),
        signed=True,
        base_known=services.library.base_of(services.models.manifest(update).model) is not None,
        seen=seen,
        size=services.models.manifest(update).size,
        trust=1.0 if mine else weight,
        norm=_odd(_lengths(served), _lengths([one] if one else [])),
        spectrum=_odd(_entropies(served), _entropies([one] if one else [])),
        novelty=novelty(one.sketch, [s.sketch for s in served]) if one else 1.0,
    )


def novelty(sketch: bytes, known: Sequence[bytes]) -> float:
    """The share of an update outside of the served one that is nearest to it, by their sketches."""
    nearest = max((summary.cosine(sketch, other) for other in known), default=0.0)
    return 1.0 - max(0.0, nearest) ** 2


def _odd(usual: Sequence[float], one: Sequence[float]) -> float:
    """How many deviations a value is off the usual; 0 where nothing is usual yet."""
    if not one or len(usual) < USUAL:
        return 0.0
    [value] = one
    middle = median(usual)
    spread = 1.4826 * median(abs(one - middle) for one in usual)
    return (value - middle) / max(LEAST_SPREAD, spread)


def _summary(
    services: Services, known: PlaceBook, update: ContentId, number: int
) -> UpdateSummary | None:
    raw = services.trust.db.summaries(known.place, update).get(number)
    return codec.decode(raw, UpdateSummary, MAX_SUMMARY_BYTES) if raw is not None else None


def _lengths(found: Sequence[UpdateSummary]) -> list[float]:
    return [log(max(one.geometry.norm, 1e-12)) for one in found]


def _entropies(found: Sequence[UpdateSummary]) -> list[float]:
    return [one.geometry.spectrum.entropy for one in found]
