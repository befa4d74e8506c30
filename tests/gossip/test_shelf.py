"""What a node keeps for others."""

from hypothesis import given
from hypothesis import strategies as st

from gossip.shelf import FULL, MARK_S, MAX_KEPT_BYTES, Kept, Shelf
from gossip.validator import Validator, key_id
from p2pllm import codec, keys
from p2pllm.advert import MAX_RECORD_BYTES, MAX_TTL_S, presence_key, provider_key, seal
from tests.gossip.records import MODEL, presence, provider

NOW = 1_800_000_000.0
ALICE = keys.generate()
PEERS = [keys.generate() for _ in range(12)]
HERE = key_id(presence_key(ALICE.node))
BUSY = key_id(provider_key(MODEL))


def shelf(**bounds: int) -> Shelf:
    return Shelf(Validator(), **bounds)


def said(expires_in: float, instance: str = "0") -> bytes:
    return seal(ALICE, presence(ALICE, NOW, instance=instance * 32, expires_at=NOW + expires_in))


def provided(number: int, now: float = NOW) -> tuple[bytes, bytes]:
    return BUSY, seal(PEERS[number], provider(PEERS[number], now=now))


def test_a_kept_record_is_there_until_it_ends() -> None:
    kept, raw = shelf(), said(60)
    assert kept.keep([(HERE, raw)], NOW) == [True]
    assert kept.get(HERE, NOW + 59.9).records == (raw,)
    assert kept.get(HERE, NOW + 60.0) == Kept()
    assert len(kept) == 0


def test_the_record_that_ends_later_stays_whatever_the_order() -> None:
    early, late = said(60, "a"), said(120, "b")
    for order in ([early, late], [late, early]):
        kept = shelf()
        assert kept.keep([(HERE, raw) for raw in order], NOW) == [True, True]
        assert kept.get(HERE, NOW).records == (late,)


def test_an_old_record_said_again_does_not_shorten_the_life_of_the_new_one() -> None:
    kept, early, late = shelf(), said(60, "a"), said(120, "b")
    kept.keep([(HERE, late), (HERE, early)], NOW)
    assert kept.get(HERE, NOW + 90).records == (late,)


def test_dead_and_far_records_are_refused_and_those_after_them_kept() -> None:
    kept = shelf()
    entries = [(HERE, said(-1)), (HERE, said(2 * MAX_TTL_S)), (HERE, said(60))]
    assert kept.keep(entries, NOW) == [False, False, True]


def test_nothing_is_looked_at_after_a_forgery() -> None:
    kept, raw = shelf(), said(60)
    assert kept.keep([(HERE, raw[:-1] + b"\1"), (HERE, raw)], NOW) == [False, False]


def test_a_full_key_refuses_new_records_says_so_and_takes_renewals() -> None:
    kept = shelf(full=3)
    assert kept.keep([provided(n) for n in range(3)], NOW) == [True] * 3
    assert not kept.get(BUSY, NOW).more
    assert kept.keep([provided(3)], NOW) == [False]
    assert kept.get(BUSY, NOW).more
    assert kept.keep([provided(0, NOW + 5)], NOW) == [True]
    assert len(kept.get(BUSY, NOW).records) == 3


def test_a_key_tells_of_more_while_what_it_refused_would_live_and_climb() -> None:
    kept = shelf(full=1)
    kept.keep([provided(0, NOW - 3000), provided(1)], NOW)  # ends at +600, and at +3600
    assert kept.get(BUSY, NOW + 599).more
    assert kept.get(BUSY, NOW + 3599 + MARK_S) == Kept(records=(), more=True)
    assert kept.get(BUSY, NOW + 3600 + MARK_S) == Kept()


def test_a_full_node_refuses_records_under_any_key() -> None:
    kept = shelf(max_records=2)
    assert kept.keep([provided(0), provided(1), (HERE, said(60))], NOW) == [True, True, False]
    assert kept.get(HERE, NOW) == Kept(more=True)


def test_renewing_a_record_for_ever_does_not_fill_memory() -> None:
    kept = shelf()
    for step in range(5000):
        raw = seal(ALICE, presence(ALICE, NOW, expires_at=NOW + 60 + step / 100))
        kept.keep([(HERE, raw)], NOW)
    assert len(kept._ends) < 3000
    assert kept.get(HERE, NOW + 100).records == (raw,)
    assert kept.get(HERE, NOW + 120) == Kept()


def test_the_largest_answer_fits_its_bound() -> None:
    kept = Kept(records=(b"\xff" * MAX_RECORD_BYTES,) * FULL, more=True)
    assert codec.decode(codec.encode(kept), Kept, MAX_KEPT_BYTES) == kept


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-10, 100), st.integers(0, 40)), max_size=40)
)
def test_a_shelf_is_a_plain_table_of_the_latest_records(
    steps: list[tuple[int, int, int]],
) -> None:
    kept, now = shelf(), NOW
    table: dict[int, tuple[float, bytes]] = {}
    for number, ends_in, later in steps:
        now += later
        record = provider(PEERS[number], now=now)
        expires_at = now + ends_in
        raw = seal(
            PEERS[number],
            type(record)(
                by=record.by,
                what=record.what,
                manifest=record.manifest,
                issued_at=now,
                expires_at=expires_at,
            ),
        )
        assert kept.keep([(BUSY, raw)], now) == [ends_in > 0]
        table = {key: held for key, held in table.items() if held[0] > now}
        if ends_in > 0 and (number not in table or table[number][0] < expires_at):
            table[number] = (expires_at, raw)
        assert set(kept.get(BUSY, now).records) == {raw for _, raw in table.values()}
        assert len(kept) == len(table)
