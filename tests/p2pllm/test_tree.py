"""The tree: the same in any order, edges one level up, sizes falling, strangers silent."""

import random
from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from p2pllm.advert import Advert
from p2pllm.heads import Accepted, Head
from p2pllm.ids import ContentId, NodeId
from p2pllm.names import Place
from p2pllm.tree import MASTER, assemble, level_of, parent_of, within
from tests.vectors.values import ADVERT, NOW

NODES = [NodeId(f"12D3KooW{letter * 44}") for letter in "ABCD"]
TRUST = dict.fromkeys(NODES, 0.5)
MEDICAL = Place("en", "medical")
HEART = Place("en", "medical", "heart")


def cid(number: int) -> ContentId:
    return ContentId(f"{number:064x}")


def advert(place: Place, number: int, params: int, by: int = 0, **changes: object) -> Advert:
    plain = {
        "by": NODES[by],
        "manifest": cid(number),
        "kind": "base",
        "place": place,
        "name": f"model-{number}",
        "size": params * 2,
        "download": params * 2,
        "params": params,
        "gain": None,
    }
    return msgspec.structs.replace(ADVERT, **(plain | changes))


def head(place: Place, by: int, seq: int, *numbers: int) -> Head:
    accepted = tuple(Accepted(cid(number), 0.5) for number in sorted(numbers))
    return Head(by=NODES[by], place=place, seq=seq, accepted=accepted)


ADVERTS = [
    advert(MASTER, 1, 1000),
    advert(Place("en"), 2, 500),
    advert(MEDICAL, 3, 250),
    advert(MEDICAL, 3, 250, by=1),
    advert(MEDICAL, 4, 250, by=2, kind="adapter", size=520, download=20, gain=0.2),
    advert(HEART, 5, 125, by=3),
    advert(Place("es"), 6, 400, by=1),
]
HEADS = [head(MEDICAL, 0, 1, 4), head(MEDICAL, 0, 2, 4, 7), head(MEDICAL, 1, 1, 4, 7)]


@given(st.permutations(ADVERTS), st.permutations(HEADS), st.integers(0, 2**16))
def test_the_tree_does_not_depend_on_the_order_or_on_repetition(
    adverts: Sequence[Advert], heads: Sequence[Head], seed: int
) -> None:
    rng = random.Random(seed)
    again = [*adverts, *rng.choices(list(adverts), k=5)]
    more = [*heads, *rng.choices(list(heads), k=3)]
    assert assemble(again, more, TRUST) == assemble(ADVERTS, HEADS, TRUST)


@given(st.lists(st.sampled_from(ADVERTS), unique_by=id))
def test_every_place_stands_under_one_master_one_level_at_a_time(adverts: list[Advert]) -> None:
    tree = assemble(adverts, [], TRUST)
    places = {spot.place for spot in tree.spots}
    assert MASTER in places
    for at, spot in enumerate(tree.spots):
        assert spot.parent == parent_of(spot.place)
        assert spot.parent is None or spot.parent in {one.place for one in tree.spots[:at]}
        assert (spot.parent is None) == (spot.place == MASTER)


def test_levels_and_parts() -> None:
    assert [level_of(p) for p in (MASTER, Place("en"), MEDICAL, HEART)] == [
        "master",
        "language",
        "domain",
        "sub-domain",
    ]
    assert within(HEART, MEDICAL)
    assert within(HEART, MASTER)
    assert not within(Place("en"), MEDICAL)
    assert not within(Place("es", "medical"), MEDICAL)


def test_a_place_has_its_models_servers_head_gain_and_size() -> None:
    spot = assemble(ADVERTS, HEADS, TRUST).spot(MEDICAL)
    assert spot is not None
    assert [model.manifest for model in spot.models] == [cid(4), cid(3)]
    assert [server.node for server in spot.models[1].servers] == [NODES[0], NODES[1]]
    assert [one.manifest for one in spot.head] == [cid(4), cid(7)]
    assert [(keeper.seq, keeper.agrees) for keeper in spot.keepers] == [(2, True), (1, True)]
    assert (spot.params, spot.size, spot.gain, spot.trust) == (250, 500, 0.2, 0.5)
    assert spot.models[0].accepted == 0.5
    assert spot.updated_at == ADVERT.created_at <= NOW


def test_sizes_fall_on_every_edge_or_it_is_said() -> None:
    assert assemble(ADVERTS, HEADS, TRUST).faults == 0
    big = advert(HEART, 9, 300, by=3)
    spot = assemble([*ADVERTS, big], HEADS, TRUST).spot(HEART)
    assert spot is not None
    assert spot.faults == ("larger-than-parent", "costlier-than-parent")
    alone = assemble([advert(HEART, 5, 125)], [], TRUST).spot(HEART)
    assert alone is not None
    assert alone.faults == ("parent-has-no-model",)


def test_heads_of_concurrent_keepers_become_one() -> None:
    one, other = head(MEDICAL, 0, 5, 1, 2), head(MEDICAL, 1, 9, 2, 3)
    spot = assemble([], [one, other], TRUST).spot(MEDICAL)
    assert spot is not None
    assert [each.manifest for each in spot.head] == [cid(1), cid(2), cid(3)]
    assert not any(keeper.agrees for keeper in spot.keepers)


def test_the_head_outlives_a_keeper() -> None:
    spot = assemble([], [head(MEDICAL, 1, 1, 4, 7)], TRUST).spot(MEDICAL)
    assert spot is not None
    assert [each.manifest for each in spot.head] == [cid(4), cid(7)]


def test_who_is_shut_out_says_nothing_and_strangers_sign_no_heads() -> None:
    shut = TRUST | {NODES[3]: 0.0}
    assert assemble(ADVERTS, [], shut).spot(HEART) is None
    stranger = {NODES[1]: 0.5}
    spot = assemble(ADVERTS, HEADS, stranger).spot(MEDICAL)
    assert spot is not None
    assert [keeper.node for keeper in spot.keepers] == [NODES[1]]


def test_what_was_taken_back_comes_in_by_no_head() -> None:
    spot = assemble([], HEADS, TRUST, dropped={cid(7)}).spot(MEDICAL)
    assert spot is not None
    assert [each.manifest for each in spot.head] == [cid(4)]
