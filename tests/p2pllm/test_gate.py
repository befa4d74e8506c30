"""The three-stage rule: a lasting gain proposes, sure gain without damage enters, damage leaves."""

import math
import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm import gate, rollout
from p2pllm.arm import Arm, ArmRule, adopted, may_propose, observe, proposed
from p2pllm.bounds import Estimate, estimate, needed, pool, quantile
from p2pllm.gate import Decision, Facts, Rule, Shadow
from p2pllm.ids import ContentId, NodeId
from p2pllm.rollout import Pace, State, Waiting
from tests.bench import gate as bench

FACTS = Facts(
    update=ContentId("a" * 64),
    by=NodeId("proposer"),
    lineage="proposer",
    signed=True,
    base_known=True,
    size=4_000_000,
    trust=0.5,
    norm=0.4,
    spectrum=-0.3,
    novelty=0.8,
)
RULE, PACE, ARM = Rule(), Pace(), ArmRule()


def texts(mean: float, count: int = 600, spread: float = 0.08, seed: int = 0) -> list[float]:
    rng = random.Random(f"{mean} {count} {seed}")
    return [rng.gauss(mean, spread) for _ in range(count)]


def shadow(gain: float, damage: float, **changes: object) -> Shadow:
    probes = {NodeId(name): texts(gain, seed=at) for at, name in enumerate(("ann", "ben"))}
    made = Shadow(probes=probes, anchors=texts(-damage, 2000))
    return msgspec.structs.replace(made, **changes)


def judged(made: Shadow, facts: Facts = FACTS, look: int = 1) -> Decision:
    return gate.judge(facts, made, RULE, armed=False, look=look)


def run_arm(gains: Sequence[float]) -> list[bool]:
    state, armed = Arm(), []
    for gain in gains:
        state = observe(state, gain, 10_000, ARM)
        armed.append(state.armed)
    return armed


def test_a_child_arms_after_two_windows_and_stays_armed_between_the_limits() -> None:
    assert run_arm([0.05, 0.05]) == [False, True]
    assert run_arm([0.05] * 3 + [0.015] * 40)[-1]
    assert not run_arm([0.05] * 3 + [0.0] * 60)[-1]
    assert not any(run_arm([0.015] * 50))


def test_an_armed_child_waits_until_it_has_learnt_enough() -> None:
    state = observe(observe(Arm(), 0.1, 9_000, ARM), 0.1, 9_000, ARM)
    assert state.armed
    assert not may_propose(state, ARM)
    state = observe(state, 0.1, 9_000, ARM)
    assert may_propose(state, ARM)
    assert not may_propose(proposed(state), ARM)
    assert adopted(state).level is None


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, "accept"),
        ({"signed": False}, "reject"),
        ({"base_known": False}, "reject"),
        ({"seen": True}, "reject"),
        ({"trusted": False}, "reject"),
        ({"size": 2**40}, "reject"),
        ({"norm": 9.0}, "reject"),
        ({"spectrum": -9.0}, "reject"),
        ({"norm": math.nan}, "reject"),
        ({"novelty": 0.02}, "reject"),
        ({"novelty": 0.02, "refresh": True}, "accept"),
        ({"trust": 0.0}, "hold"),
        ({"density": 1.0, "queue": 2.0}, "hold"),
        ({"surprise": -1.0}, "hold"),
        ({"trust": 0.0, "signed": False}, "reject"),
    ],
)
def test_cheap_checks_refuse_for_good_or_for_now(change: dict[str, object], outcome: str) -> None:
    decision = gate.cheap(msgspec.structs.replace(FACTS, **change), RULE)
    assert decision.outcome == outcome
    assert bool(decision.failed) == (outcome != "accept")


def test_sure_gain_without_damage_is_accepted_with_its_numbers() -> None:
    decision = judged(shadow(0.06, 0.0))
    assert decision.outcome == "accept"
    numbers = {check.code: check for check in decision.checks}
    assert 0.02 < numbers["gain"].value < 0.06
    assert 0.0 < numbers["damage"].value < 0.01
    assert decision.gain == pytest.approx(0.06, abs=0.01)


@pytest.mark.parametrize(
    "made",
    [
        shadow(0.0, 0.0),
        shadow(0.008, 0.0),
        shadow(0.06, 0.03),
        shadow(-0.3, 0.7),
        shadow(0.06, 0.0, fairness=0.5),
        shadow(0.06, 0.0, descendants={"en/medical/heart": texts(-0.05)}),
    ],
)
def test_what_gains_nothing_or_damages_is_refused(made: Shadow) -> None:
    assert judged(made).outcome == "reject"


@pytest.mark.parametrize(
    "made",
    [
        shadow(0.06, 0.0, probes={NodeId("ann"): texts(0.06)}),
        shadow(0.06, 0.0, probes={NodeId("ann"): texts(0.06), NodeId("proposer"): texts(0.06)}),
        shadow(0.06, 0.0, probes={NodeId("ann"): texts(0.06), NodeId("ben"): texts(0.06, 5)}),
        shadow(0.06, 0.0, anchors=[]),
    ],
)
def test_what_was_not_measured_on_others_is_not_accepted(made: Shadow) -> None:
    assert judged(made).outcome == "hold"


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_loss_that_is_no_number_never_passes(odd: float) -> None:
    anchors = [*texts(0.0, 2000), odd]
    assert judged(shadow(0.06, 0.0, anchors=anchors)).outcome == "reject"
    probes = {NodeId("ann"): [*texts(0.06), odd], NodeId("ben"): texts(0.06)}
    assert judged(shadow(0.06, 0.0, probes=probes)).outcome == "reject"


def test_an_unclear_measurement_asks_for_as_much_text_as_settles_it() -> None:
    few = shadow(0.05, 0.0, probes={NodeId(n): texts(0.05, 40, 0.15) for n in ("ann", "ben")})
    decision = judged(few)
    assert decision.outcome == "hold"
    assert 80 < decision.more <= RULE.most
    again = {NodeId(n): texts(0.05, decision.more, 0.15, seed=9) for n in ("ann", "ben")}
    assert judged(shadow(0.05, 0.0, probes=again), look=2).outcome == "accept"


def test_every_further_look_must_be_surer() -> None:
    made = shadow(0.06, 0.0)
    values = [
        {c.code: c.value for c in judged(made, look=look).checks}["gain"] for look in (1, 2, 3)
    ]
    assert values[0] > values[1] > values[2]


def test_a_known_line_needs_less() -> None:
    probes = {NodeId(name): texts(0.018, 2000, 0.05) for name in ("ann", "ben")}
    made = shadow(0.018, 0.0, probes=probes)
    assert judged(made).outcome == "reject"
    assert gate.judge(FACTS, made, RULE, armed=True).outcome == "accept"


def test_one_peer_in_league_cannot_carry_an_update() -> None:
    honest = {NodeId("ann"): texts(-0.01), NodeId("ben"): texts(-0.01, seed=1)}
    made = shadow(0.0, 0.0, probes={**honest, NodeId("eve"): texts(5.0)})
    assert judged(made).outcome == "reject"


@given(st.permutations(["ann", "ben", "eve", "dan"]))
def test_the_order_of_peers_does_not_matter(order: list[str]) -> None:
    by_peer = {name: texts(0.05, 64, seed=ord(name[0])) for name in order}
    parts = {name: estimate(found) for name, found in by_peer.items()}
    assert pool(parts, 0.02) == pool(dict(sorted(parts.items())), 0.02)


def test_bounds_hold_as_often_as_they_say() -> None:
    rng = random.Random(5)
    missed = 0
    for _ in range(2000):
        found = estimate([rng.gauss(0.0, 1.0) for _ in range(12)])
        missed += found.low(0.05) > 0
    assert 0.03 < missed / 2000 < 0.07
    assert quantile(0.95, 8) == pytest.approx(1.8595, rel=0.01)
    assert quantile(0.975, 30) == pytest.approx(2.0423, rel=0.005)
    assert needed(estimate([0.0, 0.2] * 50), 0.08, 0.05) == pytest.approx(68, abs=4)


def _waiting(name: str, since: int, line: str = "", gain: float = 0.05) -> Waiting:
    return Waiting(ContentId(name), line or name, gain, since)


def _accepted(state: State, *turns: Waiting) -> State:
    for turn in turns:
        state = rollout.decided(state, turn, Decision(outcome="accept", checks=()))
    return state


def test_a_batch_goes_in_when_it_is_full_or_its_first_has_waited() -> None:
    two = _accepted(State(), _waiting("a", 0), _waiting("b", 1))
    assert not rollout.is_due(two, 2, PACE)
    assert rollout.is_due(two, PACE.deadline, PACE)
    three = _accepted(two, _waiting("c", 2))
    assert rollout.is_due(three, 2, PACE)
    after, action = rollout.commit(three, ("a", "b", "c"), (), 2)
    assert action.kind == "commit"
    more = _accepted(after, *(_waiting(name, 3) for name in "def"))
    assert not rollout.is_due(more, 9, PACE), "one change is on trial"


def test_a_later_update_of_a_line_takes_the_turn_of_the_earlier() -> None:
    state = _accepted(State(), _waiting("a1", 0, "a"), _waiting("a2", 5, "a"))
    assert state.waiting == (_waiting("a2", 0, "a"),)


def test_held_and_refused_updates_do_not_wait() -> None:
    held = rollout.decided(State(), _waiting("a", 0), Decision(outcome="hold", checks=()))
    assert held == State()
    refused = rollout.decided(State(), _waiting("a", 0), Decision(outcome="reject", checks=()))
    assert refused.decided == ("a",)
    assert not refused.waiting


def test_what_does_not_pass_together_loses_its_least_until_it_does() -> None:
    turns = [_waiting("a", 0, gain=0.1), _waiting("b", 0, gain=0.02), _waiting("c", 0, gain=0.05)]

    def together(names: tuple[ContentId, ...]) -> Decision:
        return Decision(outcome="accept" if len(names) < 3 else "reject", checks=())

    assert rollout.choose(turns, together) == (("a", "c"), ("b",))


def _on_trial() -> State:
    state = _accepted(State(), _waiting("a", 0))
    return rollout.commit(state, ("a",), (), 10)[0]


def test_damage_in_use_takes_the_change_back() -> None:
    back, action = rollout.watch(_on_trial(), texts(-0.03, 400), 11, PACE)
    assert (action.kind, action.updates) == ("rollback", ("a",))
    assert back.committed == ()
    assert back.rolled_back == ("a",)
    assert "a" in back.decided, "it does not come again"


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_losses_that_are_no_numbers_take_the_change_back(odd: float) -> None:
    assert rollout.watch(_on_trial(), [*texts(0.0), odd], 11, PACE)[1].kind == "rollback"


def test_a_trial_without_measurement_does_not_end_well() -> None:
    assert rollout.watch(_on_trial(), [], 100, PACE)[1].kind == "none"
    assert rollout.watch(_on_trial(), texts(0.0), 11, PACE)[1].kind == "none"
    done, action = rollout.watch(_on_trial(), texts(0.0), 12, PACE)
    assert action.kind == "promote"
    assert done.canary is None
    assert done.committed == ("a",)


def test_the_bench_has_its_keys_and_meets_its_targets_in_short() -> None:
    found = bench.main(["--short"])
    assert found["false_accept"] <= 0.01
    assert found["useful_accept"] >= 0.95
    assert found["flaps_per_100"] <= 1
    assert found["commit_share"] <= 0.25
    assert found["gain_share"] > 0.7, "80 windows end with much still waiting"
    assert found["hidden_damage"]["promoted"] == 0
    assert found["baselines"]["always"]["false_accept"] == 1
    assert found["baselines"]["surprise only"]["false_accept"] > 0.1


def test_a_word_counts_by_its_weight_and_half_of_all_words_is_enough_to_stop() -> None:
    own, other = Estimate(0.1, 0.01, 40), Estimate(-0.2, 0.01, 40)
    parts = {"me": own, "ann": other, "ben": other}
    assert pool(parts, 0.02, {"ann": 0.5, "ben": 0.5}).mean < 0
    assert pool(parts, 0.02, {"ann": 0.25, "ben": 0.25}).mean == pytest.approx(0.1 / 1.5)
    up = {"me": Estimate(-0.1, 0.01, 40), "eve": Estimate(5.0, 0.01, 40)}
    assert pool(up, 0.02, {"eve": 1.0}).mean < 0


def test_with_few_other_keepers_own_text_must_say_more() -> None:
    few, many = gate.among(RULE, 1), gate.among(RULE, 5)
    assert (few.peers, many.peers) == (1, 3), "what one other has to say is not waited for"
    assert few.gain == pytest.approx(1.5 * RULE.gain)
    assert many.gain == RULE.gain
    me = NodeId("me")
    made = Shadow(probes={me: texts(0.035)}, own=me, anchors=texts(0.0, 2000))
    facts = msgspec.structs.replace(FACTS, by=me)  # its own update
    assert gate.judge(facts, made, few, armed=False).outcome != "accept"
    assert gate.judge(facts, made, many, armed=False).outcome == "hold"
    clear = msgspec.structs.replace(made, probes={me: texts(0.06)})
    assert gate.judge(facts, clear, few, armed=False).outcome == "accept"
