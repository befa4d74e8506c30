"""What can go wrong, sorted by whose fault it is, since that decides what a caller does.

PeerError    theirs: drop it, record the evidence
LocalError   ours or the operator's: stop, say how to mend it
Unavailable  no one's: try later

Every error carries a stable code of `p2pllm.error_codes`, which also gives the exit status.
"""

import re
from collections.abc import Mapping, Sequence

_FIELD = re.compile(
    r"Expected `[^`]*` (?:(?P<sign>[<>]=?) (?P<bound>[\d.]+)|of length <= (?P<longest>\d+)"
    r"|matching .*)"
    r" - at `\$\.?(?P<field>[^`]*)`",
    re.DOTALL,
)
_SIGNS = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}


class P2pllmError(Exception):
    """An expected failure: a code, one sentence, why it happened and how to mend it."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        why: Sequence[str] = (),
        fix: Sequence[str] = (),
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.why = tuple(why)
        self.fix = tuple(fix)
        self.details = dict(details or {})

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}"


class PeerError(P2pllmError):
    """Another node, or bytes made by one, broke a rule."""


class LocalError(P2pllmError):
    """This machine, its operator or its files: nothing another node did."""


class Unavailable(P2pllmError):
    """Nobody's fault: not there now, may be there later."""


def in_words(bad: Exception) -> str:
    """What a typed reader says of a field that is out of bounds, for whoever typed it."""
    match = _FIELD.fullmatch(str(bad))
    if match is None:
        return str(bad)
    field = match["field"] or "it"
    if match["longest"]:
        return f"{field} has more than {match['longest']} characters"
    if match["bound"]:
        return f"{field} must be {_SIGNS[match['sign']]} {match['bound']}"
    return f"{field} has a form or characters that it may not have"
