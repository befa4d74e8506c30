"""Which announcements pass, each rule with the case that breaks it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip import announce as rules
from gossip.announce import AnnounceRules, open_announce, place_of, seal, topic_of
from gossip.messages import ANNOUNCE_PURPOSE, MAX_ANNOUNCE_TTL_S, Announce
from p2pllm import codec, keys
from p2pllm.advert import CLOCK_SLACK_S
from p2pllm.errors import PeerError
from p2pllm.ids import content_id
from p2pllm.names import Place

NOW = 1_790_000_000.0
PLACE = Place("en", "medical")
TOPIC = "p2pllm/1/en/medical"
ME = keys.generate()


def made(number: int = 0, by: keys.Identity = ME, **changes: object) -> Announce:
    fields: dict[str, object] = {
        "by": by.node,
        "place": PLACE,
        "manifest": content_id(b"manifest %d" % number),
        "kind": "adapter",
        "name": "abstracts",
        "model": content_id(b"base"),
        "size": 9_000_000,
        "created_at": NOW - 10,
        "expires_at": NOW + 86400,
    }
    return Announce(**{**fields, **changes})  # type: ignore[arg-type]


def judge(announce: Announce, now: float = NOW, topic: str = TOPIC, by: keys.Identity = ME):
    judged = AnnounceRules().judge(codec.sign(by, ANNOUNCE_PURPOSE, announce), topic, now)
    return judged.verdict, judged.why


def test_a_new_announcement_is_accepted_and_read() -> None:
    judged = AnnounceRules().judge(seal(ME, made()), TOPIC, NOW)
    assert (judged.verdict, judged.why, judged.announce) == ("accept", "new", made())


def test_the_longest_announcement_fits_the_limit() -> None:
    place = Place("xxx-yyyyyyyy", "d" * 32, "s" * 32)
    longest = made(place=place, name="n" * 64, size=64 * 1024**3)
    assert len(seal(ME, longest)) == 527  # so says the specification
    assert place_of(topic_of(place)) == place


def test_a_flipped_bit_anywhere_is_rejected() -> None:
    raw = bytearray(seal(ME, made()))
    for index in range(len(raw)):
        raw[index] ^= 1
        judged = AnnounceRules().judge(bytes(raw), TOPIC, NOW)
        assert judged.verdict == "reject", index
        raw[index] ^= 1


def test_an_announcement_in_anothers_name_is_rejected() -> None:
    other = keys.generate()
    signature = other.sign(ANNOUNCE_PURPOSE, codec.encode(made()))
    judged = AnnounceRules().judge(signature + codec.encode(made()), TOPIC, NOW)
    assert (judged.verdict, judged.why) == ("reject", "forged")


def test_a_signature_for_another_purpose_is_rejected() -> None:
    raw = codec.sign(ME, "advert.1", made())
    judged = AnnounceRules().judge(raw, TOPIC, NOW)
    assert (judged.verdict, judged.why) == ("reject", "forged")


def test_an_announcement_over_1024_bytes_is_rejected_before_it_is_decoded() -> None:
    raw = seal(ME, made()) + b"\0" * 1024
    assert AnnounceRules().judge(raw, TOPIC, NOW).why == "size"
    with pytest.raises(PeerError, match="E0611"):
        open_announce(raw)


def test_an_announcement_on_the_topic_of_another_place_is_rejected() -> None:
    assert judge(made(), topic="p2pllm/1/en/law") == ("reject", "place")
    assert judge(made(place=Place("en"))) == ("reject", "place")


@pytest.mark.parametrize("lifetime", [0.0, -1.0, MAX_ANNOUNCE_TTL_S + 1])
def test_a_lifetime_outside_the_bounds_is_rejected_whatever_the_clock(lifetime: float) -> None:
    assert judge(made(expires_at=NOW - 10 + lifetime)) == ("reject", "lifetime")


def test_what_a_wrong_clock_may_cause_is_ignored_not_rejected() -> None:
    assert judge(made(created_at=NOW - 100, expires_at=NOW)) == ("ignore", "expired")
    ahead = made(created_at=NOW + CLOCK_SLACK_S + 1)
    assert judge(ahead) == ("ignore", "clock")
    assert judge(ahead, now=NOW + 2)[0] == "accept"


def test_a_replay_is_ignored_also_under_a_new_signature_time() -> None:
    known = AnnounceRules()
    assert known.judge(seal(ME, made()), TOPIC, NOW).verdict == "accept"
    assert known.judge(seal(ME, made()), TOPIC, NOW + 1).why == "known"
    again = made(created_at=NOW + 5, expires_at=NOW + 90000)
    assert known.judge(seal(ME, again), TOPIC, NOW + 6).why == "known"
    older = made(created_at=NOW - 5000)
    assert known.judge(seal(ME, older), TOPIC, NOW + 6).why == "known"


def test_a_manifest_may_be_announced_again_a_day_later() -> None:
    known = AnnounceRules()
    known.judge(seal(ME, made()), TOPIC, NOW)
    later = NOW + rules.RENEW_S
    renewed = made(created_at=later, expires_at=later + 86400)
    assert known.judge(seal(ME, renewed), TOPIC, later).verdict == "accept"


def test_what_is_remembered_from_disk_is_not_new() -> None:
    known = AnnounceRules()
    known.remember(made())
    assert known.judge(seal(ME, made()), TOPIC, NOW).why == "known"


def test_a_publisher_that_floods_is_ignored_until_the_hour_is_over() -> None:
    known = AnnounceRules()
    limit = rules.MAX_PER_PUBLISHER_HOUR
    verdicts = [known.judge(seal(ME, made(i)), TOPIC, NOW).why for i in range(limit + 5)]
    assert verdicts == ["new"] * limit + ["rate"] * 5
    other = keys.generate()
    assert known.judge(seal(other, made(by=other)), TOPIC, NOW).why == "new"
    assert known.judge(seal(ME, made(limit)), TOPIC, NOW + 3600).why == "new"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_REMEMBERED", 3)
    monkeypatch.setattr(rules, "MAX_PUBLISHERS", 2)
    known = AnnounceRules()
    for number in range(6):
        by = keys.generate()
        known.judge(seal(by, made(number, by)), TOPIC, NOW)
    assert len(known._known) == 3
    assert len(known._rates) == 2


@given(st.binary(max_size=1100))
def test_no_bytes_make_the_rules_fail(raw: bytes) -> None:
    assert AnnounceRules().judge(raw, TOPIC, NOW).verdict == "reject"


@given(st.binary(max_size=700), st.text(max_size=40))
def test_no_signed_body_makes_the_rules_fail(body: bytes, topic: str) -> None:
    raw = ME.sign(ANNOUNCE_PURPOSE, body) + body
    assert AnnounceRules().judge(raw, topic, NOW).verdict == "reject"


@pytest.mark.parametrize(
    "topic", ["", "p2pllm/1/", "p2pllm/2/en", "p2pllm/1/EN", "p2pllm/1/en/a/b/c", "x" * 5000]
)
def test_the_topic_of_no_place_is_refused(topic: str) -> None:
    with pytest.raises(PeerError, match="E0611"):
        place_of(topic)


def test_unknown_fields_are_ignored() -> None:
    body = msgspec.to_builtins(made()) | {"type": "announce.1", "later": 1}
    raw = codec.encode(body)
    judged = AnnounceRules().judge(ME.sign(ANNOUNCE_PURPOSE, raw) + raw, TOPIC, NOW)
    assert judged.announce == made()
