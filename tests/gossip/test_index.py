"""Publishing, withdrawing and searching, over a DHT in memory whose replicas lose records."""

import random
from collections.abc import Sequence

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from gossip import index
from gossip.dht import Dht
from gossip.pipe import MAX_ENTRIES, MAX_KEYS, Entry, Held
from gossip.replicas import MARKS
from gossip.shelf import Shelf
from gossip.validator import Validator, key_id
from p2pllm.advert import Advert, provider_key, seal
from p2pllm.errors import Unavailable
from p2pllm.ids import content_id
from p2pllm.keys import Identity
from p2pllm.names import Place
from p2pllm.query import Query, matches
from tests.gossip.records import MODEL, advert, presence, provider

NOW = 1_800_000_000.0
PEERS = [Identity(SigningKey(bytes([n]) * 32)) for n in range(20)]  # the same in every run
ALICE, BOB = PEERS[:2]


class MemoryDht(Dht):
    """Five replicas of everything; each misses a put with probability `loss`, two at most."""

    def __init__(self, *, full: int = 256, loss: float = 0.0, seed: int = 0) -> None:
        self.now = NOW
        self.levels: dict[tuple[str, str], int] = {}
        self.rng, self.loss = random.Random(seed), loss
        self.validator = Validator()
        self.shelves = [Shelf(self.validator, full=full) for _ in range(5)]
        self.gets: list[int] = []
        self.puts: list[int] = []

    async def put(self, entries: Sequence[Entry]) -> list[bool]:
        assert 0 < len(entries) <= MAX_ENTRIES
        self.puts.append(len(entries))
        stored = []
        for entry in entries:
            order = self.rng.sample(self.shelves, 5)
            there = [*order[:3], *(each for each in order[3:] if self.rng.random() >= self.loss)]
            item = (key_id(entry.key), entry.value)
            kept = [shelf.keep([item], self.now)[0] for shelf in there]
            stored.append(sum(kept) >= max(1, len(kept) - sum(kept)))
        return stored

    async def get(self, keys: Sequence[str]) -> dict[str, Held]:
        assert 0 < len(keys) <= MAX_KEYS
        self.gets.append(len(keys))
        return {key: self._held(key_id(key)) for key in keys}

    def _held(self, key: bytes) -> Held:
        parts = [shelf.get(key, self.now) for shelf in self.shelves]
        latest: dict[str, tuple[float, bytes]] = {}
        for value in (value for part in parts for value in part.records):
            proof = self.validator.prove(value, key)
            record = (proof.expires_at, value)
            latest[proof.subkey] = max(record, latest.get(proof.subkey, record))
        values = tuple(value for _, value in latest.values())
        return Held(values=values, more=sum(part.more for part in parts) >= MARKS)


async def publish_all(dht: MemoryDht, adverts: Sequence[Advert]) -> None:
    signers = {peer.node: peer for peer in PEERS}
    for each in adverts:
        await index.publish(dht, signers[each.by], each, dht.now)


def grid(count: int, seed: int) -> list[Advert]:
    rng = random.Random(seed)
    return [
        advert(
            rng.choice(PEERS),
            number,
            NOW,
            place=Place(rng.choice(["en", "de"]), rng.choice(["law", "medical"])),
            size=int(2 ** rng.uniform(20, 34)),
            kind=rng.choice(["base", "adapter"]),
        )
        for number in range(count)
    ]


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.3, 0.7]),
    full=st.sampled_from([1, 3, 8, 256]),
)
def test_a_search_is_complete_and_exact_on_crowded_keys_and_forgetful_replicas(
    seed: int, loss: float, full: int
) -> None:
    async def main() -> None:
        dht = MemoryDht(full=full, loss=loss, seed=seed)
        adverts = grid(30, seed)
        await publish_all(dht, adverts)
        for query in (
            Query(limit=1000),
            Query(lang="en", limit=1000),
            Query(domain="law", kind="base", limit=1000),
            Query(lang="de", domain="law", sub="", size_high=2**30, limit=1000),
        ):
            found = await index.find(dht, query, NOW)
            assert {each.manifest for each in found.adverts} == {
                each.manifest for each in adverts if matches(query, each)
            }
            assert found.complete

    trio.run(main)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), full=st.sampled_from([1, 2, 4]))
def test_a_search_stays_complete_through_renewals_withdrawals_and_a_crowd_that_leaves(
    seed: int, full: int
) -> None:
    async def main() -> None:
        rng, dht = random.Random(seed), MemoryDht(full=full, loss=0.2, seed=seed)
        numbers = list(range(25))
        for _ in range(8):
            dht.now += index.RENEW_S
            live = [advert(PEERS[n % 20], n, dht.now) for n in numbers]
            await publish_all(dht, live)
            gone = {each.manifest for each in live if rng.random() < 0.3}
            for each in live:
                if each.manifest in gone and rng.random() < 0.5:  # the others just stop renewing
                    signer = next(peer for peer in PEERS if peer.node == each.by)
                    await index.withdraw(dht, signer, each, dht.now)
                    numbers.remove(int(each.name.split("-")[1]))
            dht.now += 3590 - index.RENEW_S
            found = await index.find(dht, Query(lang="en", limit=1000), dht.now)
            kept = {content_id(f"manifest {n}".encode()) for n in numbers}
            assert {each.manifest for each in found.adverts} == kept
            dht.now -= 3590 - index.RENEW_S

    trio.run(main)


@pytest.mark.parametrize(
    ("last", "zeros", "first"),
    [(0, 0, 0), (0, 3, 0), (1, 0, 0), (3, 0, 2), (3, 1, 1), (3, 2, 0), (3, 9, 0), (4, 0, 3)],
)
def test_a_renewal_begins_one_level_up_and_one_more_for_each_zero_of_its_hash(
    last: int, zeros: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "content_id", lambda _: "0" * zeros + "f" * (64 - zeros))
    assert index.first_level(last, b"") == first


def test_the_top_of_a_crowded_key_is_spared_by_those_who_renew() -> None:
    async def main() -> None:
        dht = MemoryDht(full=1)
        tops = []

        async def put(entries: Sequence[Entry]) -> list[bool]:
            tops.extend(entry.key for entry in entries if entry.key.count("/") == 7)
            return await MemoryDht.put(dht, entries)

        dht.put = put  # type: ignore[method-assign]
        await publish_all(dht, [advert(ALICE, n, NOW) for n in range(200)])
        tops.clear()
        dht.now += index.RENEW_S
        await publish_all(dht, [advert(ALICE, n, dht.now) for n in range(200)])
        assert len(tops) < 200 * 8 / 4

    trio.run(main)


def test_a_record_that_fits_is_put_in_one_ask() -> None:
    async def main() -> None:
        dht = MemoryDht()
        await index.publish(dht, ALICE, advert(ALICE, now=NOW), NOW)
        assert dht.puts == [8]
        await index.search(dht, Query(lang="en", domain="medical"), NOW)
        assert dht.gets == [14]

    trio.run(main)


def test_a_withdrawn_advert_is_found_no_more_on_any_replica_order() -> None:
    async def main() -> None:
        for seed in range(10):
            dht = MemoryDht(full=1, loss=0.4, seed=seed)
            first, second = advert(ALICE, 1, NOW), advert(ALICE, 2, NOW)
            await publish_all(dht, [first, second])
            await index.withdraw(dht, ALICE, first, NOW + 10)
            for query in (Query(), Query(lang="en"), Query(domain="medical", kind="adapter")):
                assert await index.search(dht, query, NOW + 10) == [second]

    trio.run(main)


def test_a_withdrawn_advert_can_be_published_again() -> None:
    async def main() -> None:
        dht = MemoryDht()
        await index.publish(dht, ALICE, advert(ALICE, now=NOW), NOW)
        await index.withdraw(dht, ALICE, advert(ALICE, now=NOW), NOW + 10)
        again = advert(ALICE, now=NOW + 20)
        await index.publish(dht, ALICE, again, NOW + 20)
        assert await index.search(dht, Query(), NOW + 20) == [again]

    trio.run(main)


def test_a_renewed_advert_outlives_the_first_and_is_found_once() -> None:
    async def main() -> None:
        dht = MemoryDht(loss=0.5, seed=3)
        await index.publish(dht, ALICE, advert(ALICE, now=NOW), NOW)
        renewed = advert(ALICE, now=NOW + 1800)
        dht.now = NOW + 1800
        await index.publish(dht, ALICE, renewed, NOW + 1800)
        dht.now = NOW + 5000
        assert await index.search(dht, Query(), NOW + 5000) == [renewed]
        dht.now = NOW + 5400
        assert await index.search(dht, Query(), NOW + 5400) == []

    trio.run(main)


def test_records_below_a_key_stay_found_when_the_key_itself_empties() -> None:
    async def main() -> None:
        dht = MemoryDht(full=2)
        short = [advert(ALICE, n, NOW, expires_at=NOW + 60) for n in range(2)]
        long = [advert(ALICE, n, NOW) for n in range(2, 9)]
        await publish_all(dht, [*short, *long])
        dht.now = NOW + 61
        found = await index.find(dht, Query(lang="en"), dht.now)
        assert {each.manifest for each in found.adverts} == {each.manifest for each in long}

    trio.run(main)


def test_a_search_stops_at_its_limit_and_says_that_there_is_more() -> None:
    async def main() -> None:
        dht = MemoryDht(full=4)
        await publish_all(dht, [advert(ALICE, n, NOW) for n in range(40)])
        found = await index.find(dht, Query(lang="en", limit=5), NOW)
        assert len(found.adverts) == 5
        assert not found.complete

    trio.run(main)


def test_the_limit_counts_models_and_every_holder_of_each_is_returned() -> None:
    async def main() -> None:
        dht = MemoryDht()
        await publish_all(dht, [advert(peer, n, NOW) for n in range(3) for peer in PEERS[:4]])
        found = await index.search(dht, Query(limit=2), NOW)
        assert [each.manifest for each in found] == 4 * [found[0].manifest] + 4 * [
            found[4].manifest
        ]
        assert found[0].created_at > found[4].created_at

    trio.run(main)


def test_what_a_lying_dht_returns_is_verified_again_by_the_searcher() -> None:
    good = advert(ALICE, 1, NOW)
    forged = seal(BOB, advert(BOB, 2, NOW))[:64] + seal(ALICE, advert(ALICE, 3, NOW))[64:]
    lies = (
        forged,
        seal(ALICE, advert(ALICE, 4, NOW, expires_at=NOW - 1)),
        seal(ALICE, advert(ALICE, 5, NOW, expires_at=NOW + 10**6)),
        seal(ALICE, advert(ALICE, 6, NOW, place=Place("de"))),
        seal(ALICE, presence(ALICE, NOW)),
        b"nonsense",
    )

    class LyingDht(MemoryDht):
        async def get(self, keys: Sequence[str]) -> dict[str, Held]:
            return {key: Held(values=(*lies, seal(ALICE, good))) for key in keys}

    async def main() -> None:
        assert await index.search(LyingDht(), Query(lang="en"), NOW) == [good]
        assert await index.providers(LyingDht(), MODEL, NOW) == []
        assert await index.presence(LyingDht(), BOB.node, NOW) is None

    trio.run(main)


def test_a_dht_that_always_says_more_costs_a_bounded_number_of_reads() -> None:
    class EndlessDht(MemoryDht):
        async def get(self, keys: Sequence[str]) -> dict[str, Held]:
            self.gets.append(len(keys))
            return {key: Held(more=True) for key in keys}

    async def main() -> None:
        dht = EndlessDht()
        found = await index.find(dht, Query(), NOW)
        assert not found.complete
        assert sum(dht.gets) <= index.MAX_READS + MAX_KEYS

    trio.run(main)


def test_a_record_that_no_shard_takes_is_an_error_and_not_silence() -> None:
    async def main() -> None:
        dht = MemoryDht(full=0)
        with pytest.raises(Unavailable) as caught:
            await index.publish(dht, ALICE, advert(ALICE, now=NOW), NOW)
        assert caught.value.code == "E0904"

    trio.run(main)


def test_the_providers_of_a_model_are_found_and_the_withdrawn_are_not() -> None:
    async def main() -> None:
        dht = MemoryDht(full=3)
        for peer in PEERS[:10]:
            await index.publish(dht, peer, provider(peer, now=NOW), NOW)
        await index.withdraw(dht, BOB, provider(BOB, now=NOW), NOW + 1)
        found = await index.providers(dht, MODEL, NOW + 1)
        assert {each.by for each in found} == {peer.node for peer in PEERS[:10]} - {BOB.node}
        assert await index.providers(dht, content_id(b"unheard of"), NOW) == []

    trio.run(main)


def test_of_two_presences_the_later_is_the_one() -> None:
    async def main() -> None:
        dht = MemoryDht(loss=0.5, seed=1)
        for number in range(4):
            later = presence(ALICE, NOW + number, instance=f"{number}" * 32)
            await index.publish(dht, ALICE, later, NOW)
        assert await index.presence(dht, ALICE.node, NOW + 5) == later
        assert await index.presence(dht, BOB.node, NOW + 5) is None

    trio.run(main)


def test_a_record_stands_under_its_key_as_it_was_signed() -> None:
    async def main() -> None:
        dht, record = MemoryDht(), provider(ALICE, now=NOW)
        await index.publish(dht, ALICE, record, NOW)
        key = provider_key(MODEL)
        assert (await dht.get([key]))[key].values == (seal(ALICE, record),)

    trio.run(main)
