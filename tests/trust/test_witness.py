"""Witnesses: heard, and bounded, whatever their number."""

from hypothesis import given
from hypothesis import strategies as st

from p2pllm.ids import NodeId
from tests.trust.values import node
from trust.witness import CAP_KNOWN, KNOWN, Report, cap, witness_weights, witnessed

SUBJECT = node(0)
scores = st.floats(-1, 2)
peers = st.integers(1, 60).map(node)
opinions = st.lists(st.builds(Report, peers, st.just(SUBJECT), scores), max_size=80)
chatter = st.lists(st.builds(Report, peers, peers, st.floats(0, 1)), max_size=80)
trust = st.dictionaries(peers, st.floats(0, 1), max_size=20)


def slander(liars: range) -> list[Report]:
    return [Report(node(n), SUBJECT, 0.0) for n in liars]


@given(st.floats(0, 1), st.integers(0, 20), opinions, chatter, trust)
def test_no_set_of_witnesses_moves_a_score_beyond_the_cap(
    own: float,
    observed: int,
    reports: list[Report],
    about: list[Report],
    direct: dict[NodeId, float],
) -> None:
    found = witnessed(own, observed, reports, witness_weights(direct, about))
    assert 0 <= found <= 1
    assert abs(found - own) <= cap(observed) + 1e-12


def test_fifty_liars_lower_a_known_peer_by_at_most_five_hundredths() -> None:
    """Even if I trust all of them."""
    direct = {node(n): 1.0 for n in range(1, 51)}
    found = witnessed(0.9, KNOWN, slander(range(1, 51)), witness_weights(direct, []))
    assert 0.9 - CAP_KNOWN - 1e-9 <= found <= 0.9


def test_strangers_are_not_heard_however_many() -> None:
    vouching = [Report(node(n), node(n + 1), 1.0) for n in range(100, 200)]
    weights = witness_weights({node(1): 0.9}, vouching)
    assert set(weights) == {node(1)}
    assert witnessed(0.5, 0, slander(range(100, 200)), weights) == 0.5


def test_a_stranger_whom_a_trusted_peer_trusts_is_heard_a_little() -> None:
    weights = witness_weights({node(1): 0.9}, [Report(node(1), node(2), 0.9)])
    assert weights[node(2)] > 0
    assert witnessed(0.5, 0, slander(range(2, 3)), weights) < 0.5


def test_who_was_caught_is_not_heard_through_others() -> None:
    weights = witness_weights({node(1): 0.9, node(2): 0.0}, [Report(node(1), node(2), 1.0)])
    assert weights.get(node(2), 0.0) == 0


def test_one_liar_among_honest_witnesses_changes_nothing() -> None:
    direct = {node(n): 0.9 for n in range(1, 6)}
    honest = [Report(node(n), SUBJECT, 0.6) for n in range(1, 5)]
    weights = witness_weights(direct, [])
    with_liar = witnessed(0.5, 0, [*honest, Report(node(5), SUBJECT, 0.0)], weights)
    assert with_liar == witnessed(0.5, 0, honest, weights) == 0.6


@given(opinions, trust, st.randoms(use_true_random=False))
def test_the_order_of_reports_does_not_matter(
    reports: list[Report], direct: dict[NodeId, float], rng: object
) -> None:
    weights = witness_weights(direct, [])
    shuffled = list(reports)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert witnessed(0.5, 3, reports, weights) == witnessed(0.5, 3, shuffled, weights)


def test_nobody_testifies_about_itself() -> None:
    weights = {SUBJECT: 1.0}
    assert witnessed(0.5, 0, [Report(SUBJECT, SUBJECT, 1.0)], weights) == 0.5
