"""Text made plain, and terms found in it: accents off, lower case, spans, a spelling or two off."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache

import msgspec

_APART = re.compile(r"[-\u2010-\u2015_/'`\u2019\u00b4]+")
_GAPS = {"*": r"\S+(?: \S+)?", "**": r"\S+(?: \S+){0,8}?"}  # a word or two, up to nine words
_WORD = re.compile(r"[a-z0-9]+")
CLOSE_LETTERS = 7  # a word this long may have one letter wrong, one of LOOSE_LETTERS two
LOOSE_LETTERS = 12
STEM_LETTERS = 4  # a word that begins with a term this long is spelt as it should be


class Found(msgspec.Struct, frozen=True):
    """A term of a lexicon at a place of a text."""

    slot: str
    value: str
    start: int
    end: int
    hint: bool = False  # counts only where nothing plainer does


def plain(text: str) -> str:
    """Lower case, no accents, hyphens and apostrophes as spaces, one space between words.

    Points, commas, signs and digits stay: amounts need them.
    """
    bare = text.casefold().replace("ß", "ss").replace("œ", "oe").replace("æ", "ae")
    apart = unicodedata.normalize("NFD", bare)
    letters = "".join(char for char in apart if not unicodedata.combining(char))
    return " ".join(_APART.sub(" ", letters).split())


def find(slot: str, lexicon: Mapping[str, str], text: str) -> list[Found]:
    """Every term of a lexicon in a plain text, without those inside a longer one.

    Terms of the value '-' only hide the shorter ones inside them: 'sort of' is not to sort.
    """
    found = [
        Found(slot, value, match.start(), match.end(), hint)
        for value, hint, pattern in _patterns(tuple(lexicon.items()))
        for match in pattern.finditer(text)
    ]
    return [one for one in outermost(found) if one.value != "-"]


def outermost(found: Iterable[Found]) -> list[Found]:
    """Without those that lie inside a longer one, in the order of the text."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda f: (f.start - f.end, f.value != "-", f.hint, f.start)):
        length = one.end - one.start
        if not any(
            k.start <= one.start
            and one.end <= k.end
            and (k.end - k.start > length or k.value == "-")
            for k in kept
        ):
            kept.append(one)
    return sorted(kept, key=lambda f: f.start)


@cache
def _patterns(lexicon: tuple[tuple[str, str], ...]) -> list[tuple[str, bool, re.Pattern[str]]]:
    made = []
    for value, terms in lexicon:
        for hint, part in enumerate(terms.split("|")):
            if listed := sorted({plain(term) for term in part.split(",")} - {""}, key=len):
                choice = "|".join(_regex(term) for term in reversed(listed))
                made.append(
                    (value, bool(hint), re.compile(rf"(?<![a-z0-9])(?:{choice})(?![a-z0-9])"))
                )
    return made


def _regex(term: str) -> str:
    words = [
        _GAPS.get(word) or re.escape(word).replace(r"\*", "[a-z0-9]*") for word in term.split()
    ]
    return " ".join(words)


@cache
def vocabulary(*lexicons: tuple[tuple[str, str], ...]) -> Mapping[str, tuple[str, ...]]:
    """Plain single words of lexicons by their first letter, `*` kept, for `mend`."""
    words: dict[str, set[str]] = {}
    for lexicon in lexicons:
        for _, terms in lexicon:
            for term in terms.partition("|")[0].split(","):
                word = plain(term)
                stem = word.rstrip("*")
                if _WORD.fullmatch(stem) and len(stem) >= STEM_LETTERS:
                    words.setdefault(word[0], set()).add(word)
    return {first: tuple(sorted(group)) for first, group in words.items()}


def mend(text: str, words: Mapping[str, tuple[str, ...]], known: Iterable[str]) -> str:
    """A plain text with misspelt words of a vocabulary put right; other words stay as they are."""
    keep = frozenset(known)
    return re.sub(r"[a-z]{6,}", lambda match: _mended(match[0], words, keep), text)


def _mended(word: str, words: Mapping[str, tuple[str, ...]], keep: frozenset[str]) -> str:
    if word in keep:
        return word
    group = words.get(word[0], ())
    stems = [right.rstrip("*") for right in group]
    if any(word.startswith(stem) or stem.startswith(word) for stem in stems):
        return word
    best, off = word, 9
    for right, stem in zip(group, stems, strict=True):
        # An ending may be any of a term with a star; of others a last letter is an inflection.
        open_ = right.endswith("*") and len(stem) >= CLOSE_LETTERS
        start = word[: len(stem)] if open_ else word
        allowed = 1 if min(len(start), len(stem)) < LOOSE_LETTERS else 2
        if len(stem) < CLOSE_LETTERS or (not open_ and start[:-1] == stem[:-1]):
            continue
        if (wrong := distance(start, stem, allowed)) <= min(allowed, off - 1):
            best, off = stem + word[len(start) :], wrong
    return best


def distance(one: str, other: str, most: int) -> int:
    """Letters to put in, take out, change or swap; `most` + 1 stands for more than `most`."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return row[-1]
