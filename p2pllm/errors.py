"""What can go wrong, sorted by whose fault it is, since that decides what a caller does.

PeerError    theirs: drop it, record the evidence
LocalError   ours or the operator's: stop, say how to mend it
Unavailable  no one's: try later

Every error carries a stable code of `p2pllm.error_codes`, which also gives the exit status.
"""

from collections.abc import Mapping, Sequence


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
