"""Hypothesis strategies for the vocabulary: any value that the types allow, up to their limits."""

from hypothesis import strategies as st

from p2pllm.advert import Advert, Presence, Provider, Record
from p2pllm.heads import Accepted, Head, canonical
from p2pllm.ids import ContentId, NodeId
from p2pllm.manifest import File, Lora, Manifest, Report, model_id
from p2pllm.names import Place

_WORD = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
_NAME = st.from_regex(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", fullmatch=True)
_LICENCE = st.from_regex(r"[A-Za-z0-9.+ ()-]{1,100}", fullmatch=True)
_TIME = st.floats(0, 2**33)
_COUNT = st.integers(1, 10**13)

content_ids = st.binary(min_size=32, max_size=32).map(lambda raw: ContentId(raw.hex()))
places = st.one_of(
    st.builds(Place, st.from_regex(r"[a-z]{2,3}(?:-[a-z0-9]{2,8})?", fullmatch=True)),
    st.builds(Place, st.just("pt-br"), _WORD, st.one_of(st.just(""), _WORD)),
)
files = st.builds(
    File,
    path=st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}", fullmatch=True),
    size=st.integers(1, 2**25),
    blake3=content_ids,
    chunks=content_ids,
    sha256=content_ids.map(str),
)
loras = st.builds(
    Lora,
    rank=st.integers(1, 1024),
    alpha=st.floats(0, 65536, exclude_min=True),
    targets=st.lists(
        st.from_regex(r"[A-Za-z0-9_.]{1,120}", fullmatch=True), min_size=1, max_size=5
    ).map(tuple),
    tensors=st.integers(2, 65536),
)
reports = st.builds(
    Report,
    base_loss=st.floats(0, 1e6),
    loss=st.floats(0, 1e6),
    bits_per_byte=st.floats(0, 1e6),
    tokens=st.integers(1, 2**40),
    steps=st.integers(0, 2**31),
    train_tokens=st.integers(0, 2**40),
)


@st.composite
def manifests(draw: st.DrawFn, by: NodeId) -> Manifest:
    """A base or an adapter, signed by nobody yet."""
    lora = draw(st.one_of(st.none(), loras))
    of = draw(st.lists(files, min_size=1, max_size=6, unique_by=lambda file: file.path.casefold()))
    return Manifest(
        kind="adapter" if lora else "base",
        place=draw(places),
        name=draw(_NAME),
        by=by,
        created_at=draw(_TIME),
        licence=draw(_LICENCE),
        consent=draw(st.booleans()),
        model=draw(content_ids) if lora else model_id(tuple(of)),
        params=draw(_COUNT),
        base_size=draw(st.integers(0, 2**36)),
        parents=tuple(draw(st.lists(content_ids, max_size=4))),
        files=tuple(of),
        lora=lora,
        report=draw(st.one_of(st.none(), reports)),
        description=draw(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=50)),
    )


def records(by: NodeId) -> st.SearchStrategy[Record]:
    """Any DHT record of one node."""
    adverts = st.builds(
        Advert,
        by=st.just(by),
        manifest=content_ids,
        kind=st.sampled_from(["base", "adapter"]),
        place=places,
        name=_NAME,
        model=content_ids,
        size=st.integers(1, 2**37),
        download=st.integers(1, 2**36),
        params=_COUNT,
        licence=_LICENCE,
        gain=st.one_of(st.none(), st.floats(-1e6, 1e6)),
        created_at=_TIME,
        issued_at=_TIME,
        expires_at=_TIME,
        withdrawn=st.booleans(),
    )
    providers = st.builds(
        Provider,
        by=st.just(by),
        what=content_ids,
        manifest=content_ids,
        issued_at=_TIME,
        expires_at=_TIME,
        withdrawn=st.booleans(),
    )
    presences = st.builds(
        Presence,
        by=st.just(by),
        instance=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
        addresses=st.lists(
            st.from_regex(r"/[a-zA-Z0-9./:-]{1,127}", fullmatch=True), max_size=4
        ).map(tuple),
        issued_at=_TIME,
        expires_at=_TIME,
    )
    return st.one_of(adverts, providers, presences)


accepted_sets = st.lists(
    st.builds(
        Accepted,
        # Few ids, so that sets meet.
        manifest=st.integers(0, 9).map(lambda n: ContentId(f"{n:064x}")),
        weight=st.floats(0, 1, exclude_min=True),
    ),
    max_size=8,
).map(canonical)


def heads_of(by: NodeId) -> st.SearchStrategy[Head]:
    """Any head of one node."""
    return st.builds(
        Head,
        by=st.just(by),
        place=st.sampled_from([Place("en"), Place("en", "medical"), Place("de", "law")]),
        seq=st.integers(1, 2**53),
        accepted=accepted_sets,
    )
