"""Taking updates back: nothing built on them stays."""

from hypothesis import given
from hypothesis import strategies as st

from p2pllm.ids import ContentId
from tests.trust.values import named
from trust.lineage import descendants

A, B, C, D = (named(letter) for letter in "abcd")
PARENTS = {B: (A,), C: (B, D)}


def test_what_was_built_on_a_dropped_update_goes_with_it() -> None:
    assert descendants([A], PARENTS) == {A, B, C}
    assert descendants([D], PARENTS) == {D, C}


def test_a_circle_of_parents_ends() -> None:
    assert descendants([A], {A: (B,), B: (A,)}) == {A, B}


graphs = st.dictionaries(
    st.integers(0, 9).map(lambda n: named(str(n))),
    st.lists(st.integers(0, 9).map(lambda n: named(str(n))), max_size=3).map(tuple),
)
chosen = st.sets(st.integers(0, 9).map(lambda n: named(str(n))))


@given(graphs, chosen)
def test_what_is_left_has_no_dropped_update_above_it(
    parents: dict[ContentId, tuple[ContentId, ...]], drop: set[ContentId]
) -> None:
    gone = descendants(drop, parents)
    assert drop <= gone
    for update, above in parents.items():
        assert (update in gone) == (update in drop or not gone.isdisjoint(above))
