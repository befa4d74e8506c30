"""What is applied: own verdicts and trusted keepers' word, once each, and back again."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from p2pllm import adopt
from p2pllm.adopt import Following, Vouched
from p2pllm.heads import Accepted, Head
from p2pllm.ids import ContentId, NodeId
from p2pllm.names import Place

ME, ANN, BEN = (NodeId(f"12D3KooW{letter * 44}") for letter in "MAB")
PLACE = Place("en", "medical")


def cid(number: int) -> ContentId:
    return ContentId(f"{number:064x}")


def some(*numbers: int, weight: float = 0.5) -> tuple[Accepted, ...]:
    return tuple(Accepted(cid(number), weight) for number in sorted(numbers))


def head(by: NodeId, *numbers: int, weight: float = 0.5) -> Head:
    return Head(by=by, place=PLACE, seq=1, accepted=some(*numbers, weight=weight))


def ids(found: tuple[Vouched, ...]) -> set[ContentId]:
    return {one.manifest for one in found}


def test_only_trusted_keepers_words_count() -> None:
    heads = [head(ANN, 1, 2), head(BEN, 2, 3)]
    assert ids(adopt.vouched(ME, (), heads, {ANN}, ())) == {cid(1), cid(2)}
    assert adopt.vouched(ME, (), heads, (), ()) == ()
    both = adopt.vouched(ME, some(9), heads, {ANN, BEN}, ())
    assert {one.manifest: one.by for one in both}[cid(2)] == (ANN, BEN)
    assert {one.manifest: one.by for one in both}[cid(9)] == (ME,)


def test_what_was_judged_and_refused_here_is_brought_in_by_nobody() -> None:
    assert ids(adopt.vouched(ME, (), [head(ANN, 1, 2)], {ANN}, {cid(2)})) == {cid(1)}


def test_an_old_head_of_our_own_told_by_others_is_not_our_word() -> None:
    assert adopt.vouched(ME, (), [head(ME, 1)], {ME}, ()) == ()


def test_the_largest_weight_of_a_voucher_counts() -> None:
    heads = [head(ANN, 1, weight=0.2), head(BEN, 1, weight=0.7)]
    assert adopt.vouched(ME, (), heads, {ANN, BEN}, ())[0].weight == 0.7


def test_an_update_is_applied_once_and_what_loses_its_voucher_goes() -> None:
    state, may = Following(auto=True), adopt.vouched(ME, (), [head(ANN, 1, 2)], {ANN}, ())
    for one in adopt.change(state, may).apply:
        state = adopt.applied(state, one, 10.0)
        assert adopt.applied(state, one, 20.0) == state, "the first time counts"
    assert adopt.change(state, may) == adopt.Change((), ())
    found = adopt.change(state, adopt.vouched(ME, (), [head(ANN, 2)], {ANN}, ()))
    assert found.drop == (cid(1),)
    state = adopt.dropped(state, found.drop, back=False)
    assert ids(adopt.change(state, may).apply) == {cid(1)}, "it may come back with its voucher"


def test_what_a_person_rolled_back_stays_out() -> None:
    may = adopt.vouched(ME, (), [head(ANN, 1)], {ANN}, ())
    state = adopt.dropped(adopt.applied(Following(), may[0], 1.0), {cid(1)}, back=True)
    assert adopt.change(state, may) == adopt.Change((), ())


@given(st.permutations([head(ANN, 1, 2), head(BEN, 2, 3), head(ME, 7)]))
def test_the_order_of_heads_does_not_matter(heads: list[Head]) -> None:
    usual = [head(ANN, 1, 2), head(BEN, 2, 3)]
    found = adopt.vouched(ME, some(4), heads, {ANN, BEN}, ())
    assert found == adopt.vouched(ME, some(4), usual, {ANN, BEN}, ())


def test_heirs_are_those_whom_trusted_keepers_name() -> None:
    named = [msgspec.structs.replace(head(ANN, 1), heirs=(BEN,)), head(BEN, 2)]
    assert adopt.heirs(named, {ANN}) == {BEN: {ANN}}
    assert adopt.heirs(named, {BEN}) == {}


def test_what_an_heir_brought_in_stays_when_it_counts_no_more() -> None:
    heads = [head(ANN, 1), head(BEN, 1, 2)]
    ann, both = (adopt.vouched(ME, (), heads, who, ()) for who in ({ANN}, {ANN, BEN}))
    state = Following(auto=True)
    for one in adopt.change(state, both, both).apply:
        state = adopt.applied(state, one, 10.0)
    assert adopt.change(state, ann, both) == adopt.Change((), ())
    assert adopt.change(state, ann).drop == (cid(2),)
    assert ids(adopt.change(Following(auto=True), ann, both).apply) == {cid(1)}
