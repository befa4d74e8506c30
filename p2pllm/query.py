"""What somebody looks for, and whether an advert is that: pure filters over adverts."""

import re
from typing import Annotated

import msgspec

from p2pllm.advert import KINDS, SIZE_CLASSES, Advert, index_key, size_class, size_classes_within
from p2pllm.errors import LocalError
from p2pllm.ids import ContentIdField
from p2pllm.manifest import MAX_TOTAL_BYTES, Kind
from p2pllm.names import LangField, WordField

MAX_SIZE = 2 * MAX_TOTAL_BYTES  # bytes; the largest an advert may state
Bytes = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)]

_UNITS: dict[str, int] = {
    "": 1,
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", 1)},
}
_AMOUNT = r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?i?b|)"
_BOUND = re.compile(rf"(<=?|>=?)\s*{_AMOUNT}")
_RANGE = re.compile(rf"{_AMOUNT}\s*(?:-|\.\.)\s*{_AMOUNT}")


Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]  # what one look-up of the DHT may bring


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Filters that all must hold; None stands for any. A domain or sub '' means: has none."""

    lang: LangField | None = None
    domain: WordField | None = None
    sub: WordField | None = None
    size_low: Bytes = 0  # bytes with the base, as the advert's `size`; both ends included
    size_high: Bytes = MAX_SIZE
    kind: Kind | None = None
    text: Annotated[str, msgspec.Meta(max_length=200)] | None = None  # words of place and name
    model: ContentIdField | None = None
    licence: Annotated[str, msgspec.Meta(max_length=100)] | None = None  # case does not count
    limit: Limit = 100  # models, not adverts

    def __post_init__(self) -> None:
        if self.size_low > self.size_high:
            raise ValueError(f"sizes from {self.size_low} to {self.size_high} bytes are none")


def matches(query: Query, advert: Advert) -> bool:
    """Whether an advert passes every filter of a query."""
    place = advert.place
    wanted = (
        (query.lang, place.lang),
        (query.domain, place.domain),
        (query.sub, place.sub),
        (query.kind, advert.kind),
        (query.model, advert.model),
    )
    return (
        all(want is None or want == have for want, have in wanted)
        and query.size_low <= advert.size <= query.size_high
        and (query.licence is None or query.licence.casefold() == advert.licence.casefold())
        and (query.text is None or _has_words(query.text, f"{place}/{advert.name}"))
    )


def keys_for(query: Query) -> list[str]:
    """The DHT keys that together hold every advert a query can match: at most 14."""
    lang, domain, sub = (
        "*" if part is None else part for part in (query.lang, query.domain, query.sub)
    )
    kinds = KINDS if query.kind is None else (query.kind,)
    return [
        index_key(lang, domain, sub, size, kind)
        for size in size_classes_within(query.size_low, query.size_high)
        for kind in kinds
    ]


def parse_size(text: str) -> tuple[int, int]:
    """The bytes, both ends included, that '<200MB', '200MB-2GB', '>=1GiB' or 's4' stands for.

    MB is a million bytes, MiB 2**20. 's4' is a size class. LocalError E0204 for anything else.
    """
    plain = text.strip().lower()
    if plain in SIZE_CLASSES:
        return _class_bounds(plain)
    low, high = 0, MAX_SIZE
    if bound := _BOUND.fullmatch(plain):
        sign, size = bound[1], _bytes(bound[2], bound[3])
        if sign.startswith("<"):
            high = size - (sign == "<")
        else:
            low = size + (sign == ">")
    elif pair := _RANGE.fullmatch(plain):
        # '200-500MB': the first amount takes the unit of the second.
        low, high = _bytes(pair[1], pair[2] or pair[4]), _bytes(pair[3], pair[4])
    else:
        raise _bad_size(text, "no size, and no class s1 to s7")
    if low > high or low > MAX_SIZE:
        raise _bad_size(text, "no size lies there")
    return low, min(high, MAX_SIZE)


def _has_words(words: str, text: str) -> bool:
    return all(word in text for word in words.casefold().split())


def _bytes(amount: str, unit: str) -> int:
    return round(float(amount) * _UNITS[unit])


def _class_bounds(name: str) -> tuple[int, int]:
    k = SIZE_CLASSES.index(name) + 1
    low = 0 if k == 1 else 4 ** (k - 1) * 1024**2 + 1
    high = MAX_SIZE if name == SIZE_CLASSES[-1] else 4**k * 1024**2
    assert size_class(max(low, 1)) == size_class(high) == name
    return low, high


def _bad_size(text: str, why: str) -> LocalError:
    return LocalError(
        "E0204",
        f"not a range of sizes: {text[:80]!r}",
        why=[why],
        fix=["write '<200MB', '200MB-2GB', '>1GB', or a class such as s4 (64 to 256 MiB)"],
    )
