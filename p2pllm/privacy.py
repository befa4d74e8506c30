"""What may leave a machine of text that a model made up: nothing personal, copied or said twice.

A model that has read private text can say some of it again. What it generates is let through only
if it holds nothing that looks like personal data, no run of `RUN` words that stands in the text it
was trained on, and is not what was let through before. The trained-on text is remembered as a
filter of fixed size (Bloom 1970) that may take a stranger's words for ours and never ours for a
stranger's. What this cannot see: facts said again in other words, and names.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Sequence

import msgspec

RUN = 7  # words in a row that must not be the trained-on text's: about ten tokens
TELLING_RUN = 4  # the same where two of the words tell much: long ones, or with a digit
TELLING_LETTERS = 6
OPENING = 2  # words before a text that a run may begin with: two of four are then its own
LONG_WORD = 16  # letters of one word in a row, for codes and for scripts that have no spaces
SHINGLE = 4  # words; two texts that share most of these are one
MOST_SHARED = 0.5  # of a text's shingles that an earlier one may have
MIN_WORDS = 6
FILTER_BYTES = 4 * 1024**2  # of remembered runs: 3 million at one false alarm in 200
HASHES = 5

_WORD = re.compile(r"\w+")
_LETTER = re.compile(r"[^\W_]")
_PERSONAL = {
    "email": re.compile(r"[\w.+-]+\s?@\s?[\w-]+(?:\s?\.\s?[\w-]+)+|[\w.+-]+@\w+"),
    "web": re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE),
    "address": re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b|\b(?:[0-9a-f]{1,4}:){4,7}[0-9a-f]{1,4}\b"),
    "phone": re.compile(r"(?<![\d.])\+?\(?\d(?:[ ().\-/]{0,2}\d){6,14}(?!\d)"),
    "iban": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"),
    "id": re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])\w{10,}\b|\b[0-9a-fA-F]{16,}\b|\d{6,}"),
    "code": re.compile(r"\b\d{2,4}(?:[-/ ]\d{2,6}){2,}\b|\b(?:[A-Z]+\d+|\d+[A-Z]+)(?:-\w+)+\b"),
    "secret": re.compile(
        r"\b(?:password|passwd|passcode|secret|token|api.?key|pin)\b\s*(?:is|:|=)", re.IGNORECASE
    ),
}


class Verdicts(msgspec.Struct, frozen=True):
    """What was let through, and how many were not, by reason."""

    kept: tuple[int, ...]  # places in the sequence that was judged
    refused: dict[str, int]  # 'personal', 'verbatim', 'duplicate', 'short'


def personal(text: str) -> list[str]:
    """The kinds of personal data that a text seems to hold; e-mail, phone, numbers of all sorts."""
    return [kind for kind, pattern in _PERSONAL.items() if pattern.search(text)]


class Remembered:
    """The runs of words in the text that was trained on, in `FILTER_BYTES`; not readable back."""

    def __init__(self, data: bytes = b"") -> None:
        self._bits = bytearray(data) if len(data) == FILTER_BYTES else bytearray(FILTER_BYTES)

    def add(self, text: str) -> None:
        """Remember a text's runs."""
        for run in _runs(text):
            for place in _places(run):
                self._bits[place >> 3] |= 1 << (place & 7)

    def holds_part_of(self, text: str) -> bool:
        """Whether a run of the text was remembered; by chance rarely, wrongly never."""
        return any(
            all(self._bits[place >> 3] >> (place & 7) & 1 for place in _places(run))
            for run in _runs(text)
        )

    def fill(self) -> float:
        """The share of bits that are set; over one half it takes too many strangers for ours."""
        return sum(byte.bit_count() for byte in self._bits) / (8 * FILTER_BYTES)

    def to_bytes(self) -> bytes:
        """The filter, to be kept."""
        return bytes(self._bits)


class Gate:
    """Lets generated texts through, one after the other."""

    def __init__(self, trained: Remembered) -> None:
        self._trained = trained
        self._seen: set[int] = set()

    def refusal(self, text: str, opening: str = "") -> str:
        """Why a text must not be kept, or '' if it may; then it counts as seen.

        opening  what stood before it and is thrown away: where the trained-on text is gone on with
                 word for word, the first words would be too few to be known by themselves
        """
        words = _words(text)
        if len(words) < MIN_WORDS:
            return "short"
        if personal(text):
            return "personal"
        both = _words(opening + text)  # a word that the two share is the text's
        near = both[max(0, len(both) - len(words) - OPENING) :]
        if self._trained.holds_part_of(" ".join(near)):
            return "verbatim"
        shingles = {_short_hash(" ".join(words[at : at + SHINGLE])) for at in range(len(words))}
        if len(shingles & self._seen) > MOST_SHARED * len(shingles):
            return "duplicate"
        self._seen |= shingles
        return ""

    def judge(self, texts: Sequence[str], openings: Sequence[str] = ()) -> Verdicts:
        """Which of these may be kept; `openings` stood before them, if there were any."""
        kept, refused = [], dict.fromkeys(("personal", "verbatim", "duplicate", "short"), 0)
        for place, text in enumerate(texts):
            why = self.refusal(text, openings[place] if openings else "")
            if why:
                refused[why] += 1
            else:
                kept.append(place)
        return Verdicts(tuple(kept), refused)


def exposure(rank: int, candidates: int) -> float:
    """How much better than chance a planted secret is guessed, in bits: log2 of all over its rank.

    Source: Carlini et al. 2019, The Secret Sharer, definition 2.
    """
    return math.log2(candidates) - math.log2(rank)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _runs(text: str) -> Iterator[str]:
    words = _words(text)
    for at in range(len(words) - RUN + 1):
        yield " ".join(words[at : at + RUN])
    for at in range(len(words) - TELLING_RUN + 1):
        run = words[at : at + TELLING_RUN]
        if sum(map(_tells, run)) >= 2:
            yield " ".join(run)
    for word in words:  # a long word, a hash, or a sentence in a script without spaces
        letters = "".join(_LETTER.findall(word))
        for at in range(max(0, len(letters) - LONG_WORD + 1)):
            yield letters[at : at + LONG_WORD]


def _tells(word: str) -> bool:
    return len(word) >= TELLING_LETTERS or not word.isalpha()


def _places(run: str) -> list[int]:
    digest = hashlib.blake2b(run.encode(), digest_size=16).digest()
    one, other = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1
    return [(one + number * other) % (8 * FILTER_BYTES) for number in range(HASHES)]


def _short_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
