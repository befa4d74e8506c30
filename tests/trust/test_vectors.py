"""Golden bytes of the records that trust writes: the files beside this one, added, never edited.

Made with `python -m tests.trust.test_vectors`, which writes those that are not there yet.
"""

from pathlib import Path

import pytest

from p2pllm import codec
from p2pllm.errors import PeerError
from p2pllm.ids import content_id
from tests.trust.test_evidence import ME, observation
from tests.trust.values import named, node
from tests.vectors.values import SUMMARY
from trust import bundle
from trust.evidence import FIRST, MAX_OBSERVATION_BYTES, Shown, open_observation, seal
from trust.features import Features, Measured
from trust.judge import Round
from trust.ledger import MAX_ENTRY_BYTES, Entry, Judged, Merged, Operator, Unfit, append

HERE = Path(__file__).parent / "vectors"
OBSERVATION = observation(1, FIRST, reasons=(Shown("stake", 3.25, 2.9957322735539909),))
FEATURES = Features(
    sound=True,
    norm=1.5,
    shares=(0.25, 0.75),
    echo=0.5,
    agreement=-0.125,
    alignment=0.0,
    fresh=(2.0, -0.25),
    sketch=(0.5, -0.5),
)
ROUND = Round(
    batch=(Measured(peer=node(3), update=named("update 1"), features=FEATURES),), own_best=0.5
)
ENTRIES = {
    "ledger.1.judged": Entry(FIRST, Judged(ROUND)),
    "ledger.1.merged": Entry(
        named("entry"),
        Merged(
            taken=(named("update 1"),),
            unfit=(Unfit(named("update 2"), "harm", 0.5, 0.25),),
            dropped=(named("update 3"),),
            before=3.5,
            after=3.25,
        ),
    ),
    "ledger.1.operator": Entry(named("entry"), Operator("release", node(3), "a mistake")),
}
SUMMARIES = (codec.encode(SUMMARY),)
TAKEN = bundle.Taken(
    update=named("update 1"),
    round=1,
    summary=content_id(SUMMARIES[0]),
    own=content_id(SUMMARIES[0]),
    last=None,
)
BUNDLE = bundle.Bundle(
    by=ME.node,
    subject=node(3),
    place=OBSERVATION.place,
    made_at=1.0e9,
    ledger=(append(FIRST, Judged(ROUND))[1],),
    observations=(seal(ME, OBSERVATION),),
    summaries=SUMMARIES,
    taken=(TAKEN,),
)


def golden() -> dict[str, bytes]:
    """Every record as it is written now."""
    entries = {name: append(entry.before, entry.event)[1] for name, entry in ENTRIES.items()}
    shown = codec.sign(ME, bundle.PURPOSE, BUNDLE)
    return {"observation.1": seal(ME, OBSERVATION), "bundle.1": shown, **entries}


def read(name: str) -> bytes:
    return bytes.fromhex((HERE / f"{name}.hex").read_text())


def test_every_record_has_its_golden_bytes() -> None:
    assert {path.stem: read(path.stem) for path in HERE.glob("*.hex")} == golden()


def test_golden_bytes_decode_to_their_values() -> None:
    assert open_observation(read("observation.1")) == OBSERVATION
    assert bundle.open_bundle(read("bundle.1")) == BUNDLE
    for name, entry in ENTRIES.items():
        assert codec.decode(read(name), Entry, MAX_ENTRY_BYTES) == entry


def test_every_truncation_is_refused() -> None:
    record = read("observation.1")
    for length in range(len(record)):
        with pytest.raises(PeerError):
            open_observation(record[:length])
    for name in ENTRIES:
        raw = read(name)
        for length in range(len(raw)):
            with pytest.raises(PeerError):
                codec.decode(raw[:length], Entry, MAX_ENTRY_BYTES)


def test_a_longer_observation_than_the_limit_is_refused() -> None:
    with pytest.raises(PeerError, match="at most"):
        open_observation(read("observation.1") + bytes(MAX_OBSERVATION_BYTES))


def write_missing() -> None:
    """Write the files of records that have none; 32 bytes a line."""
    HERE.mkdir(exist_ok=True)
    for name, data in golden().items():
        path = HERE / f"{name}.hex"
        if not path.exists():
            lines = [data[at : at + 32].hex(" ") for at in range(0, len(data), 32)]
            path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_missing()
