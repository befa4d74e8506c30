"""Keep a place with three keepers: their heads merge into one, and a follower applies it, once.

Run: python examples/09_one_head.py     (no network, no files)
"""

from itertools import permutations

from p2pllm import adopt, heads, keys
from p2pllm.adopt import Following
from p2pllm.heads import Accepted, Head
from p2pllm.ids import ContentId, content_id
from p2pllm.names import parse_place

PLACE = parse_place("en/medical")
NIGHT, WARD, LAB, ODD = (content_id(name.encode()) for name in ("night", "ward", "lab", "odd"))


def head(seq: int, *updates: ContentId) -> Head:
    """What a keeper accepted, signed and opened again as whoever gets it does."""
    keeper = KEEPERS[seq % 3]
    accepted = heads.canonical(Accepted(one, 0.5) for one in updates)
    made = Head(by=keeper.node, place=PLACE, seq=seq, accepted=accepted)
    return heads.open_head(heads.seal(keeper, made))


KEEPERS = [keys.generate() for _ in range(3)]


def main() -> None:
    """Concurrent updates, in any order the same set; what a person rolls back stays out."""
    said = [head(3, NIGHT, WARD), head(4, WARD, LAB), head(5, ODD)]
    sets = {heads.merge(*(one.accepted for one in order)) for order in permutations(said)}
    assert len(sets) == 1
    [whole] = sets
    print(f"merged    {len(whole)} updates, whatever order their heads come in")

    newer = head(6, NIGHT, WARD, LAB)
    assert heads.latest([newer, *said]) == heads.latest([*said, newer])
    print("newer     a keeper's later head counts, and an old one that comes again does not")

    follower, trusted = keys.generate().node, {KEEPERS[0].node, KEEPERS[1].node}
    may = adopt.vouched(follower, (), heads.latest([*said, newer]), trusted, refused=())
    state = Following(auto=True)
    for one in adopt.change(state, may).apply:
        state = adopt.applied(state, one, now=0.0)
    assert set(state.applied) == {NIGHT, WARD, LAB}
    assert adopt.change(state, may).apply == ()
    print("follower  applied 3, each once; the third keeper is a stranger to it")

    state = adopt.dropped(state, [LAB], back=True)
    assert adopt.change(state, may).apply == ()
    print("rollback  one taken back by hand; it is not applied again")

    left = adopt.vouched(follower, (), heads.latest([*said, newer]), {KEEPERS[1].node}, refused=())
    gone = adopt.change(state, left).drop
    assert gone == (NIGHT,)
    print("no voucher left for one: it is taken back by itself")


if __name__ == "__main__":
    main()
