"""An observer with a life at one place: rounds judged, observations signed, bundles of it."""

import random

from msgspec.structs import replace

from p2pllm import codec
from p2pllm.ids import ContentId, NodeId, content_id
from p2pllm.names import Place
from tests.trust.values import identity, named, one_round
from trust.bundle import Asked, make
from trust.evidence import FIRST, Observation, Shown, seal
from trust.judge import Book, Round, Verdict, judge
from trust.ledger import Event, Judged, append, apply

PLACE = Place("en", "medical")
NOW = 1.7e9
OBSERVER = identity(7)


class Observer:
    """Judges as a node does: each verdict goes into the ledger and into a signed observation."""

    def __init__(self, key: int = 7) -> None:
        self.identity = identity(key)
        self.book = Book()
        self.ledger: list[bytes] = []
        self.observations: list[bytes] = []
        self.verdicts: list[Verdict] = []
        self._entry, self._said = FIRST, FIRST

    def live(self, event: Event) -> None:
        if isinstance(event, Judged):
            _, verdicts = judge(self.book, event.round)
            for measured, verdict in zip(event.round.batch, verdicts, strict=True):
                features = content_id(codec.encode(measured.features))
                self.say(self.observation(verdict, features))
                self.verdicts.append(verdict)
        self.book = apply(self.book, event)
        self._entry, raw = append(self._entry, event)
        self.ledger.append(raw)

    def observation(self, verdict: Verdict, features: ContentId) -> Observation:
        return Observation(
            by=self.identity.node,
            seq=len(self.observations) + 1,
            before=self._said,
            subject=verdict.peer,
            update=verdict.update,
            place=PLACE,
            epoch=self.book.rounds + 1,
            verdict=verdict.decision,
            features=features,
            probe=named("probe"),
            reasons=tuple(Shown(r.code, r.value, r.limit) for r in verdict.reasons),
            observed_at=NOW,
        )

    def say(self, observation: Observation) -> None:
        record = seal(self.identity, observation)
        self._said = content_id(record)
        self.observations.append(record)

    def bundle(self, subject: NodeId, **given: object) -> bytes:
        asked = Asked(subject, PLACE, NOW)
        return make(self.identity, asked, self.ledger, self.observations, **given)


def lived(rounds: int = 8, peers: int = 6, seed: int = 1, **odd: dict[str, object]) -> Observer:
    """An observer after some rounds of honest peers; `p3={…}` changes features of peer 3."""
    observer, rng = Observer(), random.Random(seed)
    for now in range(rounds):
        observer.live(Judged(_fresh(one_round(rng, peers, **odd), now)))
    return observer


def _fresh(now: Round, number: int) -> Round:
    batch = [replace(one, update=named(f"{number} {one.peer}")) for one in now.batch]
    return replace(now, batch=tuple(batch))
