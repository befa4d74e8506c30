"""Judge the updates of eight honest peers and one that works against them, and show the evidence.

Run: python examples/04_judge_a_poisoner.py     (no network, no files)
"""

from random import Random

from p2pllm import keys
from p2pllm.ids import NodeId, content_id
from p2pllm.names import parse_place
from trust import bundle, ledger
from trust.features import SKETCH, Features, Measured
from trust.judge import Book, Round, judge
from trust.verified import verify


def update(peer: NodeId, name: str, harm: bool, rng: Random) -> Measured:
    """What a measuring job would hand over; here the numbers are drawn."""
    raw = [rng.gauss(0, 1) for _ in range(SKETCH)]
    length = sum(value * value for value in raw) ** 0.5
    agreement = rng.gauss(-0.5 if harm else 0.4, 0.1)
    return Measured(
        peer=peer,
        update=content_id(name.encode()),
        features=Features(
            sound=True,
            norm=rng.gauss(1.0, 0.05),
            shares=(0.6, 0.4),
            echo=0.0,
            agreement=max(-1.0, min(1.0, agreement)),
            alignment=max(-1.0, min(1.0, rng.gauss(-0.4 if harm else 0.4, 0.1))),
            fresh=(rng.gauss(1.0, 0.1), rng.gauss(-3.0 if harm else 0.0, 0.1)),
            sketch=tuple(value / length for value in raw),
        ),
    )


def main() -> None:
    """Twenty rounds, each written into a ledger; then the ledger is replayed."""
    rng = Random(1)
    honest = [keys.generate().node for _ in range(8)]
    liar = keys.generate().node
    book, before, entries = Book(), ledger.FIRST, []
    caught = 0
    for number in range(1, 21):
        batch = tuple(
            update(peer, f"{peer} {number}", peer == liar, rng) for peer in [*honest, liar]
        )
        now = Round(batch=batch, reference=0.4)
        book, verdicts = judge(book, now)
        before, raw = ledger.append(before, ledger.Judged(now))
        entries.append(raw)
        last = verdicts[-1]
        if last.state == "quarantined" and not caught:
            caught = number
            print(f"round {number:2}  the liar is quarantined:")
            for reason in last.reasons[:4]:
                print(f"          {reason.code:10} {reason.value:9.3f}   limit {reason.limit:.3f}")
    assert 0 < caught <= 8
    states = {book.peers[peer].state for peer in honest}
    print(f"honest    {', '.join(sorted(states))}")
    assert not states & {"quarantined", "banned"}

    assert ledger.replay(entries) == book
    print(f"replayed  {len(entries)} entries, {sum(map(len, entries)):,} bytes: the same book")

    # Anybody can check the signed file: every verdict is computed again from what was measured.
    about = bundle.Asked(liar, parse_place("en/medical"), made_at=0.0)
    found = verify(bundle.make(keys.generate(), about, entries, ()))
    assert (found.state, len(found.verdicts)) == (book.peers[liar].state, 20)
    print(f"evidence  {len(found.verdicts)} verdicts on the liar, computed again: {found.state}")


if __name__ == "__main__":
    main()
