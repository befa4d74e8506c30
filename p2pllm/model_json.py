"""The JSON files of a model: read strictly, written in one form so that equal means equal bytes."""

import json
from typing import Any, NoReturn


def read_object(raw: bytes, max_bytes: int) -> dict[str, Any]:
    """One JSON object out of foreign bytes; ValueError with the reason if it is none.

    Names that stand twice, NaN, infinities and endless nesting are refused.
    """
    if len(raw) > max_bytes:
        raise ValueError(f"{len(raw)} bytes, at most {max_bytes}")
    try:
        plain = json.loads(raw, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as bad:
        raise ValueError("nested too deep") from bad
    if not isinstance(plain, dict):
        raise ValueError("not a JSON object")
    return plain


def write_object(plain: dict[str, Any]) -> bytes:
    """The one form: names sorted, two spaces, UTF-8, a newline at the end."""
    text = json.dumps(plain, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) != len(pairs):
        raise ValueError("a name stands twice")
    return plain


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
