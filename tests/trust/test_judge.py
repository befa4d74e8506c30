"""The judge: verdicts on rounds of updates."""

import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trust.values import any_rounds, features, named, node, one_round, play
from trust.features import Measured
from trust.judge import Book, Round, harmless, judge
from trust.standing import Standing

HARM = {"agreement": -0.9}


def rounds(count: int, seed: int = 1, **odd: dict[str, object]) -> list[Round]:
    rng = random.Random(seed)
    return [one_round(rng, 10, **odd) for _ in range(count)]


def weight_of(verdicts: list, number: int) -> float:
    return sum(one.weight for one in verdicts if one.peer == node(number))


def test_honest_peers_become_trusted_and_none_is_ever_quarantined() -> None:
    book, verdicts = play(rounds(60))
    assert {standing.state for standing in book.peers.values()} == {"trusted"}
    assert all(one.decision == "accept" for found in verdicts for one in found)


def test_a_harmful_peer_is_quarantined_within_eight_rounds_and_its_weight_is_gone() -> None:
    book, verdicts = play(rounds(8, p3=HARM))
    assert book.peers[node(3)].state == "quarantined"
    last = next(one for one in verdicts[-1] if one.peer == node(3))
    assert (last.decision, last.weight) == ("reject", 0.0)
    assert {reason.code for reason in last.reasons} >= {"stake", "knowledge", "p", "copies"}


def test_a_defector_with_a_good_past_is_quarantined_as_fast() -> None:
    book, _ = play(rounds(50))
    book, _ = play(rounds(8, seed=2, p3=HARM), book)
    assert book.peers[node(3)].state == "quarantined"


def test_a_peer_that_turns_odd_loses_weight_and_is_never_quarantined() -> None:
    book, _ = play(rounds(30))
    book, verdicts = play(rounds(80, seed=2, p3={"norm": 6.0, "echo": -0.9}), book)
    assert weight_of(verdicts[0], 3) < 0.3 * weight_of(verdicts[0], 4)
    assert not any(one.state == "quarantined" for found in verdicts for one in found)


def test_an_update_that_is_no_update_is_rejected_at_once() -> None:
    book, verdicts = play(rounds(1, p3={"sound": False}))
    assert book.peers[node(3)].state == "quarantined"
    assert weight_of(verdicts[0], 3) == 0


def test_new_keys_with_tiny_updates_cannot_make_honest_ones_look_guilty() -> None:
    book, _ = play(rounds(20))
    rng = random.Random(8)
    for _ in range(20):
        crowd = [
            Measured(
                peer=node(1000 + n),
                update=named(f"{rng.random()}"),
                features=features(rng, norm=1e-6, agreement=-1.0),
            )
            for n in range(60)
        ]
        now = one_round(rng, 10)
        book, verdicts = judge(book, msgspec.structs.replace(now, batch=(*now.batch, *crowd)))
    assert {book.peers[node(n)].state for n in range(10)} == {"trusted"}
    assert all(book.peers[node(1000 + n)].shut for n in range(60))
    assert sum(one.weight for one in verdicts[10:]) == 0


def test_a_peer_that_sends_ten_updates_has_one_vote() -> None:
    book, _ = play(rounds(20))
    rng = random.Random(8)
    now = one_round(rng, 10)
    more = [
        Measured(peer=node(3), update=named(f"{rng.random()}"), features=features(rng))
        for _ in range(9)
    ]
    _, verdicts = judge(book, msgspec.structs.replace(now, batch=(*now.batch, *more)))
    assert weight_of(verdicts, 3) == pytest.approx(weight_of(verdicts, 4), rel=0.2)


COPY = {"sketch": tuple(math.sin(i) for i in range(64))}


def test_copies_share_one_vote_and_what_trust_one_earns() -> None:
    copies = dict.fromkeys(("p1", "p2", "p3", "p4"), COPY)
    book, verdicts = play(rounds(30, **copies))
    assert sum(weight_of(verdicts[-1], n) for n in (1, 2, 3, 4)) < weight_of(verdicts[-1], 5)
    assert {book.peers[node(n)].state for n in (1, 2, 3, 4)} == {"probation"}
    early, _ = play(rounds(7, p1=COPY, p2=COPY))
    assert {early.peers[node(n)].state for n in (1, 2)} == {"probation"}
    assert early.peers[node(5)].state == "trusted"


def test_who_is_copied_now_and_then_is_trusted_all_the_same() -> None:
    plain, copied = rounds(12), rounds(12, p1=COPY, p2=COPY)
    book, _ = play([(copied if n % 3 == 0 else plain)[n] for n in range(12)])
    assert book.peers[node(1)].state == "trusted"


def test_who_repeats_what_was_accepted_gets_less_than_half_a_vote() -> None:
    _, verdicts = play(rounds(30, p3={"fresh": (0.1, -0.1, 0.0)}))
    assert weight_of(verdicts[-1], 3) < 0.5 * weight_of(verdicts[-1], 4)


def test_who_helps_another_kind_each_round_is_noise_and_weighs_nothing() -> None:
    book, kinds = Book(), 10
    rng = random.Random(1)
    for number in range(40):
        helped = tuple(1.0 if kind == number % kinds else -0.1 for kind in range(kinds))
        now = one_round(rng, 10, p3={"fresh": helped})
        book, verdicts = judge(book, now)
    assert weight_of(verdicts, 3) == 0 < weight_of(verdicts, 4)
    assert book.peers[node(3)].state != "quarantined"


def test_a_short_update_adds_by_as_much_less() -> None:
    _, verdicts = play(rounds(10, p3={"norm": 0.05}))
    assert weight_of(verdicts[-1], 3) == 0
    _, verdicts = play(rounds(10, p3={"norm": 0.6}))
    assert weight_of(verdicts[-1], 3) > 0.5 * weight_of(verdicts[-1], 4)


@pytest.mark.parametrize(("taken", "out"), [(-1.9, False), (-3.5, True)])
def test_harm_to_one_kind_round_after_round_is_quarantined(taken: float, out: bool) -> None:
    book, _ = play(rounds(20))
    book, _ = play(rounds(20, seed=2, p3={"fresh": (1.0, taken, 0.0)}), book)
    assert book.peers[node(3)].shut is out


def test_who_sends_harm_and_help_in_one_round_answers_for_both() -> None:
    (book, _), rng = play(rounds(4)), random.Random(1)
    for _ in range(30):
        now = one_round(rng, 10, p3={"fresh": (0.2, -4.0, 0.0), "norm": 2.0})
        help_ = features(rng, fresh=(1.0, 0.0, 0.0))
        more = Measured(peer=node(3), update=named(f"{rng.random()}"), features=help_)
        book, _ = judge(book, msgspec.structs.replace(now, batch=(*now.batch, more)))
    assert min(book.peers[node(3)].gains) == pytest.approx(-2.0, abs=0.1)


def test_where_agreement_is_vague_who_harms_no_kind_is_spared() -> None:
    low = {"agreement": -0.2, "alignment": -0.1}
    harms = low | {"fresh": (1.0, -1.8, 0.0)}
    book, _ = play(rounds(20))
    assert not play(rounds(12, seed=2, p3=low), book)[0].peers[node(3)].shut
    assert play(rounds(12, seed=2, p3=harms), book)[0].peers[node(3)].shut


def test_who_harmed_no_kind_until_now_is_not_spared_now() -> None:
    low = {"agreement": -0.22, "alignment": 0.0}
    book, _ = play(rounds(30))
    kept, _ = play(rounds(4, seed=2, p3=low), book)
    out, _ = play(rounds(4, seed=2, p3=low | {"fresh": (1.0, -2.5, 0.0)}), book)
    assert kept.peers[node(3)].stake < out.peers[node(3)].stake


@pytest.mark.parametrize(("own_best", "out"), [(1.0, True), (2.0, False), (0.0, False)])
def test_until_others_are_trusted_own_training_says_what_is_harm(
    own_best: float, out: bool
) -> None:
    harms = one_round(random.Random(8), 2, p0={"fresh": (1.0, -3.5, 0.0)})
    book, _ = play([msgspec.structs.replace(harms, own_best=own_best)] * 6)
    assert book.peers[node(0)].shut is out


@pytest.mark.parametrize("own_best", [0.0, 1.0])
def test_new_keys_that_add_little_cannot_make_harm_of_what_others_take(own_best: float) -> None:
    book, rng = Book(), random.Random(8)
    for _ in range(20):
        now = one_round(rng, 2, p0={"fresh": (1.0, -1.5)}, p1={"fresh": (1.0, -1.5)})
        crowd = tuple(
            Measured(
                peer=node(1000 + n),
                update=named(f"{rng.random()}"),
                features=features(rng, fresh=(0.01, 0.0), agreement=-0.3),
            )
            for n in range(9)
        )
        more = msgspec.structs.replace(now, batch=(*now.batch, *crowd), own_best=own_best)
        book, _ = judge(book, more)
    assert max(book.peers[node(n)].damage for n in range(2)) == 0


def test_a_long_update_is_scaled_to_twice_the_usual_length() -> None:
    _, verdicts = play(rounds(10, p3={"norm": 10.0}))
    scale = next(one.scale for one in verdicts[-1] if one.peer == node(3))
    assert 0.1 < scale < 0.4


def test_a_long_update_weighs_less_than_one_of_the_usual_length() -> None:
    _, verdicts = play(rounds(10, p3={"norm": 10.0}))
    assert weight_of(verdicts[-1], 3) < 0.3 * weight_of(verdicts[-1], 4)


def test_who_tells_nothing_apart_is_blamed_only_where_own_training_does_so_plainly() -> None:
    empty = {"agreement": 0.0, "alignment": 0.0}
    vague = rounds(20, p3=empty)
    plain = [msgspec.structs.replace(one, reference=0.8) for one in vague]
    assert play(vague)[0].peers[node(3)].state == "trusted"
    assert play(plain)[0].peers[node(3)].state == "quarantined"


def test_when_most_peers_turn_at_once_the_place_changed_and_nobody_is_blamed() -> None:
    book, _ = play(rounds(20))
    book, _ = play(rounds(20, seed=2, **{f"p{n}": HARM for n in range(7)}), book)
    assert not any(standing.shut for standing in book.peers.values())


def test_two_peers_that_are_judged_again_without_others_answer_for_themselves() -> None:
    book, _ = play(rounds(20))
    rng = random.Random(3)
    for _ in range(6):
        again = [
            Measured(peer=node(100 + n), update=named(f"{n}"), features=features(rng, **HARM))
            for n in range(2)
        ]
        book, _verdicts = judge(book, Round(batch=tuple(again)))
    assert all(book.peers[node(100 + n)].state == "quarantined" for n in range(2))


def test_a_quarantined_peer_that_turns_honest_comes_back() -> None:
    book, _ = play(rounds(8, p3=HARM))
    assert book.peers[node(3)].state == "quarantined"
    book, _ = play(rounds(20, seed=2), book)
    assert book.peers[node(3)].state in ("probation", "trusted")
    assert book.peers[node(3)].strikes == 1


def test_this_node_is_always_trusted_by_itself() -> None:
    own = [msgspec.structs.replace(one, own=node(0)) for one in rounds(20, p0=HARM)]
    book, verdicts = play(own)
    assert book.peers[node(0)].state == "trusted"
    assert weight_of(verdicts[0], 0) > weight_of(verdicts[0], 1)


@given(st.lists(any_rounds(), max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_a_round_does_not_matter(given: list[Round], rng: random.Random) -> None:
    shuffled = []
    for one in given:
        batch = list(one.batch)
        rng.shuffle(batch)
        shuffled.append(msgspec.structs.replace(one, batch=tuple(batch)))
    assert play(given)[0] == play(shuffled)[0]


@given(st.lists(any_rounds(), max_size=5))
def test_weights_scales_and_scores_stay_in_their_ranges(given: list[Round]) -> None:
    book, found = play(given)
    for verdicts in found:
        assert sum(one.weight for one in verdicts) == pytest.approx(1) or not any(
            one.weight for one in verdicts
        )
        assert all(one.weight >= 0 and 0 <= one.scale <= 1 for one in verdicts)
        assert all(one.weight == 0 for one in verdicts if one.decision != "accept")
    for standing in book.peers.values():
        assert 0 <= standing.reputation.lower <= standing.reputation.mean <= 1
        assert standing.worst >= 0


def test_an_empty_round_changes_nothing() -> None:
    book = Book(peers={node(1): Standing()})
    assert judge(book, Round(batch=())) == (book, [])


def test_a_merge_that_raises_the_loss_by_half_is_rolled_back() -> None:
    assert harmless(1.0, 1.5)
    assert not harmless(1.0, 1.6)
    assert not harmless(1.0, math.nan)


def test_a_new_key_each_time_one_is_caught_costs_ten_useful_updates_a_poisoned_vote() -> None:
    rng, book, key = random.Random(9), Book(), 100
    useful = poisoned = 0.0
    for _ in range(300):
        trusted = book.peers.get(node(key), Standing()).state == "trusted"
        harm = trusted or poisoned_now(book, key)
        now = one_round(rng, 10)
        liar = Measured(
            peer=node(key),
            update=named(f"{rng.random()}"),
            features=features(rng, **(HARM if harm else {})),
        )
        now = msgspec.structs.replace(now, batch=(*now.batch, liar))
        book, verdicts = judge(book, now)
        honest = sum(one.weight for one in verdicts[:10]) / 10
        useful += not harm
        poisoned += harm * verdicts[10].weight / honest
        if book.peers[node(key)].shut:
            key += 1
    assert key > 110
    assert useful / poisoned >= 10


def poisoned_now(book: Book, key: int) -> bool:
    """Whether this key has begun to do harm, and is not caught yet."""
    return book.peers.get(node(key), Standing()).stake > 0
