"""What a verdict or a state does: scores, ranks, relay, fetches, weights, what is taken back."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip import standing as wire
from node import effects
from node.books import Taken
from p2pllm.heads import Accepted
from p2pllm.ids import ContentId, NodeId, content_id
from tests.vectors.values import VECTORS
from trust.judge import Book, Reason, Verdict
from trust.reputation import Reputation
from trust.standing import Standing, State

SUMMARY = next(v.value for v in VECTORS if v.name == "summary.1")
STATES: tuple[State, ...] = ("trusted", "probation", "suspect", "quarantined", "banned")


def node(number: int) -> NodeId:
    return NodeId("12D3KooW" + "ABCDEFGHJKLMNPQRSTUV"[number] * 44)


def named(name: str) -> ContentId:
    return content_id(name.encode())


def taken(name: str, peer: NodeId, number: int = 1, *, odd: bool = False) -> Taken:
    return Taken(update=named(name), peer=peer, number=number, scale=1.0, odd=odd)


def verdict(*reasons: Reason) -> Verdict:
    return Verdict(
        peer=node(1),
        update=named("a"),
        decision="accept",
        weight=1.0,
        scale=1.0,
        state="probation",
        reasons=reasons,
    )


def test_a_quarantined_peer_is_out_of_the_mesh_and_still_heard_a_banned_one_is_not() -> None:
    shut = effects.score([Standing(state="quarantined")])
    assert wire.PUBLISH < shut < wire.MESH
    assert effects.score([Standing(state="banned")]) < wire.GRAYLIST


def test_the_worst_place_decides_and_a_stranger_is_neutral() -> None:
    assert effects.score([]) == 0.0
    known = [Standing(state="trusted"), Standing(state="quarantined")]
    assert effects.score(known) == effects.score(known[1:])


def test_states_are_ranked_and_witnesses_order_within_one() -> None:
    orders = [effects.order(Standing(state=state), 0.5) for state in STATES]
    assert orders == sorted(orders)
    assert orders[-1][0] == effects.LEFT_OUT
    assert effects.order(Standing(), 0.9) < effects.order(Standing(), 0.2)
    assert effects.order(Standing(state="trusted"), 0.0) < effects.order(Standing(), 1.0)


def test_what_a_shut_out_peer_announces_is_not_passed_on() -> None:
    passed = [state for state in STATES if effects.relays(Standing(state=state))]
    assert passed == ["trusted", "probation", "suspect"]


def test_one_node_in_several_audits_a_quarantined_peer_and_none_a_banned_one() -> None:
    updates = [named(str(number)) for number in range(400)]
    shut = Standing(state="quarantined")
    audited = [one for one in updates if effects.fetches(shut, node(1), one, 4)]
    assert 60 < len(audited) < 140
    assert audited != [one for one in updates if effects.fetches(shut, node(2), one, 4)]
    assert not effects.fetches(Standing(state="banned"), node(1), updates[0], 1)
    assert effects.fetches(Standing(), node(1), updates[0], 4)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason("knowledge", -0.1, 0.0), "knowledge"),
        (Reason("alignment", -0.1, 0.0), "alignment"),
        (Reason("knowledge", 0.1, 0.0), None),
    ],
)
def test_what_is_below_what_honest_peers_have_is_not_taken(
    reason: Reason, code: str | None
) -> None:
    found = effects.unfit(verdict(reason), harmless())
    assert (found.code if found else None) == code


def harmless():
    return _after(SUMMARY, -0.5)


def _after(summary, change: float):
    here = summary.alone.influences[0]
    moved = msgspec.structs.replace(here, after=here.before + change, error=0.01)
    quiet = msgspec.structs.replace(summary.alone.battery, chain_score=0.1)
    alone = msgspec.structs.replace(summary.alone, influences=(moved,), battery=quiet)
    return msgspec.structs.replace(summary, alone=alone, merged=None)


def _recites(summary, score: float):
    battery = msgspec.structs.replace(summary.alone.battery, chain_score=score)
    loud = msgspec.structs.replace(summary.alone, battery=battery)
    return msgspec.structs.replace(summary, alone=loud)


def test_what_recites_a_text_nobody_asked_for_is_not_taken_alone_or_merged() -> None:
    own = _recites(harmless(), 0.5)
    loud = _recites(harmless(), 1.6)
    found = effects.unfit(verdict(), loud, own)
    assert found is not None
    assert (found.code, found.value, found.limit) == ("payload", 1.6, pytest.approx(1.5))
    merged = msgspec.structs.replace(harmless(), merged=loud.alone)
    assert effects.unfit(verdict(), merged, own) is not None
    assert effects.unfit(verdict(), loud, _recites(harmless(), 0.6)) is None
    assert effects.unfit(verdict(), loud) is not None
    assert effects.unfit(verdict(), own, None) is None


def test_what_raises_the_loss_of_the_places_own_text_is_not_taken() -> None:
    found = effects.unfit(verdict(), _after(SUMMARY, 0.05))
    assert found is not None
    assert found.code == "harm"
    assert effects.unfit(verdict(), _after(SUMMARY, 0.015)) is None


@given(
    states=st.lists(st.sampled_from(STATES), min_size=1, max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_a_served_set_weighs_at_most_one_whatever_the_order(states, order) -> None:
    peers = {node(number): Standing(state=state) for number, state in enumerate(states)}
    sets = [taken(f"{peer} {n}", peer, n + 1) for peer in peers for n in range(2)]
    found = effects.weighed(sets, Book(peers=peers))
    assert sum(pair.weight for pair in found) <= 1 + 1e-9
    shut = {one.update for one in sets if peers[one.peer].shut}
    assert not shut & {pair.manifest for pair in found}
    order.shuffle(sets)
    assert effects.weighed(sets, Book(peers=peers)) == found


def test_newcomers_together_weigh_little_beside_three_trusted_peers() -> None:
    trusted = {node(n): Standing(state="trusted", reputation=Reputation(9, 0)) for n in range(3)}
    new = {node(n): Standing() for n in range(3, 19)}
    book = Book(peers={**trusted, **new})
    found = effects.weighed([taken(peer, peer) for peer in book.peers], book)
    share = sum(pair.weight for pair in found if pair.manifest in {named(peer) for peer in new})
    assert share <= 0.1 + 1e-9


def test_what_a_shut_out_peer_gave_goes_and_what_grew_on_it() -> None:
    bad, good = node(1), node(2)
    book = Book(peers={bad: Standing(state="quarantined")})
    sets = [taken("a", bad), taken("b", good), taken("c", good)]
    parents = {named("b"): (named("a"),), named("c"): ()}
    assert effects.revoked(sets, book, parents) == tuple(sorted((named("a"), named("b"))))


def test_a_difference_tells_what_comes_goes_and_moves() -> None:
    old = (Accepted(named("a"), 0.5), Accepted(named("b"), 0.5))
    change = effects.difference(old, (Accepted(named("b"), 0.25), Accepted(named("c"), 0.5)))
    assert (change.added, change.gone, change.moved) == ((named("c"),), (named("a"),), 0.25)
