"""Make an advert, see the keys it stands under in the DHT, and see an expired one refused.

Run: python examples/02_find_an_advert.py     (no network, no files)
"""

import time

from p2pllm import advert, keys
from p2pllm.errors import PeerError
from p2pllm.ids import content_id
from p2pllm.names import parse_place


def main() -> None:
    """Make, seal, list the keys, open now, open too late."""
    me, now = keys.generate(), time.time()
    offer = advert.Advert(
        by=me.node,
        manifest=content_id(b"the manifest's bytes"),
        kind="adapter",
        place=parse_place("en/medical/cardiology"),
        name="abstracts",
        model=content_id(b"the base"),
        size=273_000_000,
        download=3_700_000,
        params=134_515_008,
        licence="apache-2.0",
        created_at=now,
        issued_at=now,
        expires_at=now + 3600,
    )
    record = advert.seal(me, offer)
    print(f"sealed    {len(record)} bytes under {len(advert.index_keys(offer))} keys:")
    for key in advert.index_keys(offer):
        print(f"          {key}")

    asked = advert.index_key("en", "*", "cardiology", advert.size_class(offer.size), "adapter")
    assert asked in advert.index_keys(offer)
    print(f"asked     {asked}")

    assert advert.open_record(record, now) == offer
    print("opened    now")
    try:
        advert.open_record(record, now + 3601)
    except PeerError as refused:
        print(f"later     refused: {refused}")
    else:
        raise AssertionError("an expired advert was accepted")


if __name__ == "__main__":
    main()
