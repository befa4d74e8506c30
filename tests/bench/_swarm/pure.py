"""What the trust layer does against slander, new keys and a change of domain, on features alone.

Real daemons add nothing here: the same pure functions decide. The features are drawn from those of
really trained adapters, or made up for the short form; which, the bench says.
"""

import random
from collections.abc import Mapping, Sequence

import msgspec

from node.effects import BELOW
from tests.trust.values import named, node
from trust.features import Features, Measured
from trust.judge import Book, Round, judge
from trust.standing import ALLOWED, Standing
from trust.witness import Report, witness_weights, witnessed

HONEST = 9
ROUNDS = 60
SYBILS = 50


class Seen(msgspec.Struct, frozen=True):
    """One adapter as a node measured it."""

    features: Features
    unfit: bool = False  # by `node.effects.unfit`: it raises the loss, or recites


Pool = Mapping[str, Sequence[Seen]]  # family -> its adapters


class Life:
    """Rounds at one place; who sends what is chosen round by round."""

    def __init__(self, pool: Pool, seed: int) -> None:
        self.pool = pool
        self.rng = random.Random(seed)
        self.book = Book()
        self.served: dict[int, float] = {}  # the same weights, of what a node would serve

    def round(self, sent: Mapping[int, str]) -> dict[int, float]:
        """Judge one update a peer, each of some family; the weights."""
        drawn = {family: self.rng.sample(row, len(row)) for family, row in self.pool.items()}
        batch, unfit = [], {}
        for number, family in sent.items():
            one = drawn[family].pop()
            seen = _jittered(one.features, self.rng)
            unfit[number] = one.unfit
            update = named(f"{number} {self.rng.random()}")
            batch.append(Measured(peer=node(number), update=update, features=seen))
        self.book, verdicts = judge(self.book, Round(batch=tuple(batch)))
        self.served = {}
        for number, one in zip(sent, verdicts, strict=True):
            below = any(r.code in BELOW and r.value < r.limit for r in one.reasons)
            self.served[number] = 0.0 if below or unfit[number] else one.weight
        return {number: one.weight for number, one in zip(sent, verdicts, strict=True)}

    def standing(self, number: int) -> Standing:
        return self.book.peers.get(node(number), Standing())


def _jittered(seen: Features, rng: random.Random) -> Features:
    """The same adapter trained again: another sketch, nearly the same numbers."""
    sketch = tuple(max(-1.0, min(1.0, x + rng.gauss(0, 0.12))) for x in seen.sketch)
    return msgspec.structs.replace(
        seen, norm=seen.norm * rng.lognormvariate(0, 0.05), sketch=sketch
    )


def slander(pool: Pool, seed: int) -> dict[str, float | bool]:
    """50 Sybils against one trusted peer; alone, and vouched for by a trusted peer that lies."""
    life = Life(pool, seed)
    for _ in range(20):
        life.round(dict.fromkeys(range(HONEST), "honest"))
    victim, colluder, sybils = node(3), node(4), [node(1000 + n) for n in range(SYBILS)]
    direct = {
        peer: one.reputation.mean * ALLOWED[one.state].testimony
        for peer, one in life.book.peers.items()
    }
    own = life.standing(3).reputation.mean
    said = [Report(one, victim, 0.0) for one in sybils]
    said += [Report(one, other, 1.0) for one in sybils for other in sybils if one != other]
    vouched = [*said, Report(colluder, victim, 0.0), *(Report(colluder, o, 1.0) for o in sybils)]
    drops = []
    for reports in (said, vouched):
        heard = witnessed(
            own,
            life.standing(3).rounds,
            [one for one in reports if one.subject == victim],
            witness_weights(direct, reports),
        )
        drops.append(own - heard)
    state = life.standing(3).state
    return {"drop": max(drops), "drop_strangers": drops[0], "quarantined": state != "trusted"}


def whitewash(pool: Pool, family: str, seed: int, rounds: int = 300) -> tuple[float, float]:
    """Useful updates for each poisoned one of an honest peer's weight, with endless new keys.

    The attacker sends honest updates until its key is trusted, then poison until it is caught. Told
    by what a node serves, and by the weights of the verdicts alone. Less than one poisoned weight
    in all counts as one, so that the figure is never more than was seen.
    """
    life, key = Life(pool, seed), 100
    useful = served = judged = 0.0
    harming = False
    for _ in range(rounds):
        harming = harming or life.standing(key).state == "trusted"
        sent = {**dict.fromkeys(range(HONEST), "honest"), key: family if harming else "honest"}
        weights = life.round(sent)
        usual = sum(weights[number] for number in range(HONEST)) / HONEST
        useful += not harming
        if harming and usual:
            judged += weights[key] / usual
            served += life.served[key] / usual
        if life.standing(key).shut:
            key, harming = key + 1, False
    return useful / max(served, 1.0), useful / max(judged, 1.0)


def benign_shift(pool: Pool, seed: int) -> int:
    """How many honest peers were ever quarantined when a third of them changed their domain."""
    life, out = Life(pool, seed), set()
    for now in range(ROUNDS):
        moved = range(HONEST // 3) if now >= ROUNDS // 3 else range(0)
        life.round({n: "moved" if n in moved else "honest" for n in range(HONEST)})
        out |= {n for n in range(HONEST) if life.standing(n).shut}
    return len(out)


def rounds_to_quarantine(pool: Pool, family: str, seed: int) -> int | None:
    """After how many rounds a poisoner among honest peers is out; None if never."""
    life = Life(pool, seed)
    for now in range(1, ROUNDS + 1):
        life.round({**dict.fromkeys(range(HONEST), "honest"), 100: family})
        if life.standing(100).shut:
            return now
    return None
