"""Taking updates back: nothing built on them stays."""

from hypothesis import given
from hypothesis import strategies as st

from p2pllm.heads import Accepted, Head, canonical
from p2pllm.ids import ContentId
from p2pllm.names import Place
from tests.trust.values import named, node
from trust.lineage import descendants, revoke

A, B, C, D = (named(letter) for letter in "abcd")
PARENTS = {B: (A,), C: (B, D)}


def head(*updates: ContentId, seq: int = 3) -> Head:
    pairs = canonical(Accepted(update, 0.5) for update in updates)
    return Head(by=node(1), place=Place("en"), seq=seq, accepted=pairs)


def test_what_was_built_on_a_dropped_update_goes_with_it() -> None:
    [(before, after)] = revoke([head(A, B, C, D), head(D)], [A], PARENTS)
    assert before == head(A, B, C, D)
    assert after == head(D, seq=4)


def test_a_circle_of_parents_ends() -> None:
    assert descendants([A], {A: (B,), B: (A,)}) == {A, B}


graphs = st.dictionaries(
    st.integers(0, 9).map(lambda n: named(str(n))),
    st.lists(st.integers(0, 9).map(lambda n: named(str(n))), max_size=3).map(tuple),
)
chosen = st.sets(st.integers(0, 9).map(lambda n: named(str(n))))


@given(graphs, chosen, chosen)
def test_a_rebuilt_head_holds_nothing_dropped_and_all_the_rest(
    parents: dict[ContentId, tuple[ContentId, ...]], held: set[ContentId], drop: set[ContentId]
) -> None:
    gone = descendants(drop, parents)
    heads = [head(*held)]
    for _, after in revoke(heads, drop, parents):
        assert {pair.manifest for pair in after.accepted} == held - gone
        assert revoke([after], drop, parents) == []
    if not held & gone:
        assert revoke(heads, drop, parents) == []
