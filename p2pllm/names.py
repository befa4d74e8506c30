"""Places of the hierarchy and references to models: `LANG/DOMAIN/SUB/NAME[:TAG][@ID]`."""

import re
from typing import Annotated

import msgspec

from p2pllm.errors import LocalError, in_words
from p2pllm.ids import ContentId

_WORD = r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"
_LANG = r"[a-z]{2,3}(?:-[a-z0-9]{2,8})?"
LangField = Annotated[str, msgspec.Meta(pattern=rf"\A(?:{_LANG})\Z")]
"""A BCP 47 language, lowercase: 'en', 'pt-br'."""
WordField = Annotated[str, msgspec.Meta(pattern=rf"\A(?:{_WORD})?\Z")]
"""A domain or sub-domain: 1 to 32 lowercase letters, digits, inner hyphens; '' where absent."""
_NAME = r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?"
NameField = Annotated[str, msgspec.Meta(pattern=rf"\A(?:{_NAME})\Z")]
"""A model's name within its place: 1 to 64 lowercase letters, digits, inner '.', '_', '-'."""
TAG = r"[a-z0-9][a-z0-9._-]{0,31}"

_REF = re.compile(
    rf"(?P<lang>{_LANG})(?:/(?P<domain>{_WORD}))?(?:/(?P<sub>{_WORD}))?/(?P<name>{_NAME})"
    rf"(?::(?P<tag>{TAG}))?"
    r"(?:@(?P<id>[0-9a-f]{8,64}))?"
)


class Place(msgspec.Struct, frozen=True, order=True):
    """A position in the hierarchy: language, domain, sub-domain; '' where it ends earlier."""

    lang: LangField
    domain: WordField = ""
    sub: WordField = ""

    def __post_init__(self) -> None:
        if self.sub and not self.domain:
            raise ValueError("a sub-domain needs a domain")

    def __str__(self) -> str:
        return "/".join(part for part in (self.lang, self.domain, self.sub) if part)


class Ref(msgspec.Struct, frozen=True):
    """What a person typed to name a model; `id` is a whole content id or a prefix of one."""

    place: Place
    name: NameField
    tag: str = ""
    id: str = ""

    def __str__(self) -> str:
        tail = (f":{self.tag}" if self.tag else "") + (f"@{self.id}" if self.id else "")
        return f"{self.place}/{self.name}{tail}"


def small_lang(text: str) -> str:
    """What a person typed, which begins with a language, with that in lowercase: EN is en."""
    lang, slash, rest = text.partition("/")
    return lang.lower() + slash + rest


def parse_lang(text: str) -> str:
    """A language out of text such as 'en' or 'PT-br'; LocalError E0201 if it is none."""
    if "/" in text:
        raise LocalError("E0201", f"not a language: {text[:80]!r}", fix=["a code such as en"])
    return parse_place(text).lang


def parse_place(text: str) -> Place:
    """A place out of text such as 'en/medical'; LocalError E0201 if it is none."""
    parts = small_lang(text).split("/")
    try:
        if len(parts) > 3 or "" in parts:
            raise ValueError("a place has one, two or three parts, none empty")
        return msgspec.convert(dict(zip(("lang", "domain", "sub"), parts, strict=False)), Place)
    except (ValueError, msgspec.ValidationError) as bad:
        raise LocalError(
            "E0201",
            f"not a place: {text[:80]!r}",
            why=[in_words(bad)],
            fix=["write LANG, LANG/DOMAIN or LANG/DOMAIN/SUB in lowercase, such as en/medical"],
        ) from bad


def parse_ref(text: str) -> Ref:
    """A model reference out of text such as 'en/medical/notes:v1'; LocalError E0202 if none."""
    match = _REF.fullmatch(small_lang(text))
    if not match:
        raise LocalError(
            "E0202",
            f"not a model reference: {text[:120]!r}",
            fix=["write LANG/DOMAIN/SUB/NAME[:TAG][@ID], such as en/medical/abstracts"],
        )
    part = match.groupdict(default="")
    place = Place(part["lang"], part["domain"], part["sub"])
    return Ref(place, part["name"], part["tag"], part["id"])


def exact_ref(place: Place, name: str, manifest: ContentId) -> str:
    """The reference that names one manifest and no other, with the first 16 digits of its id."""
    return f"{place}/{name}@{manifest[:16]}"
