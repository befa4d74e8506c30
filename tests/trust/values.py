"""Peers, features and rounds for the trust tests: made up, seeded, any size."""

import random
from collections.abc import Sequence

import msgspec
from hypothesis import strategies as st

from p2pllm import keys
from p2pllm.ids import ContentId, NodeId, content_id, node_id_of
from trust.features import SKETCH, Features, Measured
from trust.judge import Book, Round, Verdict, judge


def node(number: int) -> NodeId:
    return node_id_of(number.to_bytes(32))


def named(text: str) -> ContentId:
    return content_id(text.encode())


def identity(number: int) -> keys.Identity:
    return keys.Identity(keys.SigningKey(number.to_bytes(32)))


def features(rng: random.Random, **given: object) -> Features:
    """What an ordinary honest update measures like."""
    plain = Features(
        sound=True,
        norm=rng.lognormvariate(0, 0.2),
        shares=tuple(rng.uniform(0.4, 0.6) for _ in range(4)),
        echo=rng.uniform(0.2, 0.5),
        agreement=rng.uniform(0.3, 1.0),
        alignment=rng.uniform(-0.2, 0.6),
        fresh=(rng.uniform(0.8, 1.2), rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)),
        sketch=tuple(rng.uniform(-0.2, 0.2) for _ in range(SKETCH)),
    )
    return msgspec.structs.replace(plain, **given)


def one_round(rng: random.Random, peers: int, **odd: dict[str, object]) -> Round:
    """A round of honest peers 0 to peers - 1; `p3={...}` changes features of peer 3."""
    batch = []
    for number in range(peers):
        seen = features(rng, **odd.get(f"p{number}", {}))
        batch.append(Measured(peer=node(number), update=named(f"{rng.random()}"), features=seen))
    return Round(batch=tuple(batch))


def play(rounds: Sequence[Round], book: Book | None = None) -> tuple[Book, list[list[Verdict]]]:
    """The book after some rounds, and the verdicts of each."""
    book, verdicts = book or Book(), []
    for now in rounds:
        book, found = judge(book, now)
        verdicts.append(found)
    return book, verdicts


_unit = st.floats(-1, 1)
_size = st.floats(0, 1e12)
_gain = st.floats(-1e12, 1e12)
any_features = st.builds(
    Features,
    sound=st.booleans(),
    norm=_size,
    shares=st.tuples(_size, _size),
    echo=_unit,
    agreement=_unit,
    alignment=_unit,
    fresh=st.lists(_gain, min_size=1, max_size=4).map(tuple),
    sketch=st.lists(_unit, min_size=4, max_size=4).map(tuple),
)


@st.composite
def any_rounds(draw: st.DrawFn) -> Round:
    """Any features of a few peers, each with one update."""
    numbers = draw(st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
    batch = tuple(
        Measured(peer=node(n), update=named(f"{n}"), features=draw(any_features)) for n in numbers
    )
    return Round(batch=batch, reference=draw(_unit), own_best=draw(_size))
