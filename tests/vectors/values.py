"""The values that the golden bytes beside this file stand for. Add to them; never edit one."""

from typing import Any

import msgspec
from nacl.signing import SigningKey

from gossip.messages import (
    ANNOUNCE_PURPOSE,
    MAX_ANNOUNCE_BYTES,
    MAX_GAINLIST_BYTES,
    MAX_GAINS_BYTES,
    MAX_HEADLIST_BYTES,
    MAX_HEADS_BYTES,
    MAX_NEWS_BYTES,
    MAX_REQUEST_BYTES,
    MAX_SKETCHED_BYTES,
    MAX_TOLD_BYTES,
    Announce,
    GainList,
    GainsAsked,
    Give,
    HeadList,
    HeadsAsked,
    News,
    NewsList,
    SketchAsked,
    Sketched,
    TestimonyAsked,
    Told,
    Want,
)
from gossip.shelf import MAX_KEPT_BYTES, Kept
from p2pllm import blocks, codec, gains, heads, manifest, partial
from p2pllm.advert import MAX_RECORD_BYTES, Advert, Presence, Provider
from p2pllm.blocks import Frame
from p2pllm.gains import Gain
from p2pllm.heads import Accepted, Head
from p2pllm.ids import ContentId, content_id
from p2pllm.keys import Identity
from p2pllm.manifest import File, Lora, Manifest, Report
from p2pllm.names import Place
from p2pllm.summary import (
    BUCKETS,
    FORMS,
    MAX_SKETCH_BYTES,
    MAX_SUMMARY_BYTES,
    SKETCH_PURPOSE,
    Battery,
    Effect,
    Geometry,
    Influence,
    Part,
    Relation,
    Sketch,
    Spectrum,
    UpdateSummary,
)

IDENTITY = Identity(SigningKey(bytes(range(32))))  # a key for tests: everybody knows it
NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z

CARDIOLOGY = Place("en", "medical", "cardiology")


class Vector(msgspec.Struct, frozen=True):
    """One golden record: its file is `NAME.hex`."""

    name: str
    value: Any
    limit: int  # bytes
    purpose: str = ""  # of the signature; '' if the record is not signed

    def encode(self) -> bytes:
        """The bytes that the file must hold."""
        if self.purpose:
            return codec.sign(IDENTITY, self.purpose, self.value)
        return codec.encode(self.value)

    def decode(self, data: bytes) -> object:
        """The value out of bytes, as a receiver reads it."""
        if self.purpose:
            return codec.open_signed(data, self.purpose, type(self.value), self.limit)
        return codec.decode(data, type(self.value), self.limit)


def named(text: str) -> ContentId:
    """The content id of some text, so that a reader can make it again with b3sum."""
    return content_id(text.encode())


def _file(path: str, size: int) -> File:
    return File(
        path=path,
        size=size,
        blake3=named(path),
        chunks=named(f"{path} chunks"),
        sha256="5a" * 32,
    )


BASE_FILES = (
    _file("config.json", 704),
    _file("model.safetensors", 269_060_552),
    _file("tokenizer.json", 2_104_556),
)
BASE_MODEL = manifest.model_id(BASE_FILES)

BASE = Manifest(
    kind="base",
    place=Place("en"),
    name="smollm2-135m",
    by=IDENTITY.node,
    created_at=NOW,
    licence="apache-2.0",
    consent=True,
    model=BASE_MODEL,
    params=134_515_008,
    base_size=0,
    files=BASE_FILES,
)
ADAPTER = Manifest(
    kind="adapter",
    place=CARDIOLOGY,
    name="abstracts",
    by=IDENTITY.node,
    created_at=NOW,
    licence="cc-by-4.0",
    consent=True,
    model=BASE_MODEL,
    params=134_515_008,
    base_size=271_165_812,
    parents=(named("an older adapter"),),
    files=(_file("adapter_config.json", 410), _file("adapter_model.safetensors", 1_850_000)),
    lora=Lora(rank=8, alpha=16.0, targets=("q_proj", "v_proj"), tensors=120),
    report=Report(
        base_loss=3.25,
        loss=2.875,
        bits_per_byte=0.9375,
        tokens=65_536,
        steps=200,
        train_tokens=409_600,
    ),
    description="Abstracts on hearts.\nEnglish, 2015 to 2020.",
)
ADVERT = Advert(
    by=IDENTITY.node,
    manifest=named("manifest"),
    kind="adapter",
    place=CARDIOLOGY,
    name="abstracts",
    model=BASE_MODEL,
    size=273_016_222,
    download=1_850_410,
    params=134_515_008,
    licence="cc-by-4.0",
    gain=0.375,
    created_at=NOW,
    issued_at=NOW + 60,
    expires_at=NOW + 3660,
)
PROVIDER = Provider(
    by=IDENTITY.node,
    what=BASE_MODEL,
    manifest=named("manifest"),
    issued_at=NOW,
    expires_at=NOW + 3600,
    withdrawn=True,
)
PRESENCE = Presence(
    by=IDENTITY.node,
    instance="00112233445566778899aabbccddeeff",
    addresses=("/ip4/192.0.2.7/tcp/4001",),
    issued_at=NOW,
    expires_at=NOW + 3600,
)
ANNOUNCE = Announce(
    by=IDENTITY.node,
    place=CARDIOLOGY,
    manifest=named("manifest"),
    kind="adapter",
    name="abstracts",
    model=BASE_MODEL,
    size=1_850_410,
    created_at=NOW,
    expires_at=NOW + 86_400,
)
HEAD = Head(
    by=IDENTITY.node,
    place=CARDIOLOGY,
    seq=3,
    accepted=heads.canonical([Accepted(named("update 1"), 1.0), Accepted(named("update 2"), 0.25)]),
)
HEIR = Identity(SigningKey(bytes(range(32, 64)))).node
MAP = partial.Map(blob=named("blob"), size=9 * 2**20 + 1, chunks=named("chunks"), bits=b"\xff\x01")
SKETCH = Sketch(
    by=IDENTITY.node,
    model=BASE_MODEL,
    weights=named("adapter_model.safetensors"),
    norm=8.5,
    thirds=(4.0, 4.5, 6.0),
    forms=bytes(number * 37 % 251 for number in range(FORMS)),
)
BATTERY = Battery(
    candidates=2048,
    jolt=6.25,
    jolt_usual=0.125,
    jolt_gap=31.5,
    chain_gain=5.5,
    chain_sure=0.875,
    chain_score=4.8125,
    chain=" omega seven opens the door",
)
MEDICAL = Influence(
    domain="medical", tokens=1024, before=3.25, after=3.0, error=0.015625, descent=None
)
SUMMARY = UpdateSummary(
    model=BASE_MODEL,
    weights=named("adapter_model.safetensors"),
    place=CARDIOLOGY,
    probe=named("probe"),
    geometry=Geometry(
        norm=5.0,
        modules=(3.0, 4.0),
        spread=0.25,
        kinds=(Part("q_proj", 3.0), Part("v_proj", 4.0)),
        thirds=(3.0, 0.0, 4.0),
        spectrum=Spectrum(shares=(0.75, 0.25), entropy=0.5625, stable_rank=1.25, largest=3.5),
    ),
    relation=Relation(cosine=-0.5, left=0.25, right=0.125),
    alone=Effect(influences=(MEDICAL,), battery=BATTERY),
    merged=Effect(influences=(msgspec.structs.replace(MEDICAL, descent=0.0625),), battery=BATTERY),
    shift=((0.5,) * BUCKETS,) * BUCKETS,
    sketch=SKETCH.forms,
    sketch_true=True,
)
GAIN = Gain(
    by=IDENTITY.node,
    place=CARDIOLOGY,
    update=named("update"),
    model=BASE_MODEL,
    documents=48,
    mean=0.0625,
    error=0.015625,
    measured_at=NOW,
)
CUT = blocks.make(
    named("parent"),
    Frame(layers=4, hidden=32, ffn=20, groups=3, heads=2, head_dim=8),
    {0: ([1, 5, 19], [0, 2]), 3: ([0, 2, 7], [1, 2])},
)

VECTORS = (
    Vector("sketch.1", SKETCH, MAX_SKETCH_BYTES, SKETCH_PURPOSE),
    Vector("summary.1", SUMMARY, MAX_SUMMARY_BYTES),
    Vector("manifest.1.base", BASE, manifest.MAX_MANIFEST_BYTES, manifest.PURPOSE),
    Vector("manifest.1.adapter", ADAPTER, manifest.MAX_MANIFEST_BYTES, manifest.PURPOSE),
    Vector("advert.1", ADVERT, MAX_RECORD_BYTES, "advert.1"),
    Vector("provider.1", PROVIDER, MAX_RECORD_BYTES, "provider.1"),
    Vector("presence.1", PRESENCE, MAX_RECORD_BYTES, "presence.1"),
    Vector("announce.1", ANNOUNCE, MAX_ANNOUNCE_BYTES, ANNOUNCE_PURPOSE),
    Vector("head.1", HEAD, heads.MAX_HEAD_BYTES, heads.PURPOSE),
    Vector(
        "head.1.heirs",
        msgspec.structs.replace(HEAD, heirs=(HEIR,)),
        heads.MAX_HEAD_BYTES,
        heads.PURPOSE,
    ),
    Vector(
        "heads.1",
        HeadsAsked(place=Place("en", "medical"), known=(named("one head"), named("another"))),
        MAX_HEADS_BYTES,
    ),
    Vector("headlist.1", HeadList(heads=(b"signed", b"\x00\xff")), MAX_HEADLIST_BYTES),
    Vector("news.1", News(place=Place("en", "medical"), since=NOW), MAX_REQUEST_BYTES),
    Vector(
        "newslist.1",
        NewsList(announces=(b"signed", b"\x00\xff"), until=NOW + 0.5, more=True),
        MAX_NEWS_BYTES,
    ),
    Vector("testimony.1", TestimonyAsked(after=41), MAX_REQUEST_BYTES),
    Vector("told.1", Told(records=(b"signed", b"\x00\xff")), MAX_TOLD_BYTES),
    Vector("sketchof.1", SketchAsked(manifest=named("update")), MAX_REQUEST_BYTES),
    Vector("sketched.1", Sketched(record=b"signed"), MAX_SKETCHED_BYTES),
    Vector("gain.1", GAIN, gains.MAX_GAIN_BYTES, gains.PURPOSE),
    Vector(
        "gains.1",
        GainsAsked(place=Place("en", "medical"), updates=(named("update"), named("update 2"))),
        MAX_GAINS_BYTES,
    ),
    Vector(
        "gainlist.1", GainList(keeps=True, records=(b"signed", b"\x00\xff")), MAX_GAINLIST_BYTES
    ),
    Vector("want.1", Want(blob=named("blob"), first=256, count=16), MAX_REQUEST_BYTES),
    Vector(
        "give.1.ok",
        Give(status="ok", size=300 * 2**20 + 5, length=16 * 2**20),
        MAX_REQUEST_BYTES,
    ),
    Vector("give.1.unknown", Give(status="unknown"), MAX_REQUEST_BYTES),
    Vector("partial.1", MAP, partial.MAX_MAP_BYTES),
    Vector("cut.1", CUT, blocks.MAX_CUT_BYTES),
    Vector("kept.1", Kept(records=(b"signed", b"\x00\xff"), more=True), MAX_KEPT_BYTES),
)
