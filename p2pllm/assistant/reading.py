"""Slots out of plain words: what somebody said of platform, language, domain, task and limits.

Rules over `text.plain`, in four languages at once: which language the words are in need not be
known. What was negated ("not in English but in Spanish") is left out. docs/specs/assistant.md.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from p2pllm.assistant import amounts, text
from p2pllm.assistant.amounts import Amount
from p2pllm.assistant.cues import CANCELS, COMMON, CUES, NEGATORS, UNITS
from p2pllm.assistant.domains import DOMAINS
from p2pllm.assistant.subs import SUBS
from p2pllm.assistant.text import Found
from p2pllm.assistant.things import DEVICES, LANGS
from p2pllm.assistant.wishes import LICENCES, TASKS

MAX_TEXT = 4000  # characters read; a wish is a few lines

_LENGTH = re.compile(
    r"^ ?(?:of )?(?:long|clips?|videos?|audios?|recordings?|lectures?|read|articles?|speech|old"
    r"|ago|de video|de audio|d audio|de large|lange?s?|grabaciones|enregistrements?|aufnahmen?)"
    r"(?![a-z])"
)
_TOKEN_EACH = re.compile(
    r"^ ?(?:per|a|each|por|par|pro|je|/|chaque|cada) ?(?:token|word|palabra|mot|wort|jeton)"
)
_NO_AFTER = re.compile(
    r" (?:no(?=[,.;]|$)|(?:is|are) not|isn t|aren t|not ok|no vale|no sirve|no puede|ist nicht"
    r"|geht nicht|n est pas|ne convient|is excluded|ausgeschlossen|exclu)"
)
_INTO = re.compile(
    r"(?:in|into|to|towards|al|a la|hacia|a|en|vers|vers l|vers le|en l|au|ins|auf|zu|nach) $"
)
_TURNED = re.compile(r"(?:into|to|al|a|vers le|vers l|ins|nach) $")
_FROM = re.compile(r"(?:from|del?|du|d|vom|aus dem|von|desde el) $")
_SPOKEN = re.compile(
    r"(?<![a-z])(?:in|into|en|auf|im|ins|al|vers le|vers l|language|idioma|langue|sprache|lengua"
    r"|speaks?|speaking|habl\w*|parl\w*|spric\w*|sprech\w*|written in|understands?|entiend\w*"
    r"|compr\w*|versteh\w*)"
    r"(?: (?:the|el|la|le|l|die|das|plain|simple|standard|good|buen|bon|gutes|einfachem))? $"
)
_MIT = re.compile(r"(?<![A-Za-z])MIT(?![A-Za-z])")
_RARE = {"polish"}  # a word of another meaning unless it stands as a language would
_BROAD = {
    "contracts",
    "history",
    "university",
    "primary",
    "horticulture",
    "crops",
}  # what others narrow down
_MINOR = {
    "identify": 1,
    "write": 2,
    "search": 2,
}  # tasks that give way: 'write a summary' is to summarise
_BACKGROUND = {"server": 1, "browser": 1, "desktop": 1, "this-device": 2}
# beside a device in the hand they are where things come from, not where the model runs


class Slots(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was said. Empty or 0: nothing was."""

    platform: str = ""
    language: str = ""  # ISO 639-1; 'mul' for several
    domain: str = ""
    sub: str = ""
    task: str = ""
    memory_bytes: int = 0
    latency_ms: int = 0  # to the first word; a token's time where tokens_s was given
    tokens_s: float = 0.0
    licence: str = ""


NAMES = ("platform", "language", "domain", "sub", "task", "memory_bytes", "latency_ms", "licence")


KNOWN: Mapping[str, frozenset[str]] = {
    "domain": frozenset(DOMAINS),
    "sub": frozenset(name for subs in SUBS.values() for name in subs),
}  # words that places go by


def read(said: str) -> Slots:
    """The slots of a wish in English, Spanish, French or German."""
    line = text.plain(said[:MAX_TEXT])
    line = text.mend(line, _words(), COMMON)
    licences = _affirmed([*text.find("licence", LICENCES, line), *_capitals(said, line)], line)
    places = [one for one in _places(line) if not _inside(one, licences)]
    langs = _affirmed(text.find("language", LANGS, line), line)
    devices = _affirmed(text.find("platform", DEVICES, line), line)
    devices = [one for one in devices if not _inside(one, places)]
    domain, sub = _domain([one for one in places if not _inside(one, devices)])
    wait, tokens_s = _wait(line)
    return Slots(
        platform=_first(devices, _device_rank),
        language=_language(langs, line),
        domain=domain,
        sub=sub,
        task=_task(line, wait, langs),
        memory_bytes=_memory(line),
        latency_ms=round(wait.value) if wait else 0,
        tokens_s=tokens_s,
        licence=_first(licences),
    )


def normal(slot: str, value: object) -> object:
    """A value as `read` would say it: 'Raspberry Pi 4' is 'raspberry-pi', 'legal' is 'law'."""
    if slot in ("memory_bytes", "latency_ms"):
        return int(float(value)) if isinstance(value, int | float | str) and value else 0
    plain = text.plain(str(value or ""))
    if slot == "language" and plain.split(" ")[0] in LANGS:
        return plain.split(" ")[0]
    known = {"platform": DEVICES, "language": LANGS, "task": TASKS, "licence": LICENCES}
    if slot in known:
        for name in known[slot]:
            if text.plain(name) == plain:
                return name
        found = text.find(slot, known[slot], plain)
        best = [one for one in found if not one.hint] or found
        return best[0].value if best else plain.replace(" ", "-")
    for name in KNOWN[slot]:
        if text.plain(name) == plain:
            return name
    domain, sub = _domain(_places(plain))
    return (domain if slot == "domain" else sub) or plain.replace(" ", "-")


def _capitals(said: str, line: str) -> list[Found]:
    """MIT in capitals is the licence; 'mit' is German for 'with'."""
    if not _MIT.search(said) or said.isupper():
        return []
    at = len(text.plain(said[: _MIT.search(said).start()]))  # type: ignore[union-attr]
    return [Found("licence", "MIT", at, min(at + 4, len(line)))]


def _words() -> Mapping[str, tuple[str, ...]]:
    lexicons = (DOMAINS, TASKS, DEVICES, LANGS, *SUBS.values(), UNITS)
    return text.vocabulary(*(tuple(lexicon.items()) for lexicon in lexicons))


def _places(line: str) -> list[Found]:
    found = text.find("domain", DOMAINS, line)
    for domain, subs in SUBS.items():
        found += text.find(f"sub {domain}", subs, line)
    return _affirmed(found, line)


def _affirmed(found: Iterable[Found], line: str) -> list[Found]:
    return [
        one
        for one in found
        if not _negated(line[: one.start]) and not _NO_AFTER.match(line[one.end :])
    ]


def _negated(before: str) -> bool:
    words = before.split()[-5:]
    for back in range(3):
        head = " ".join(words[: len(words) - back])
        if any(head == no or head.endswith(f" {no}") for no in NEGATORS):
            return not CANCELS & {word.strip(",.;:") for word in words[len(words) - back :]}
        if back < len(words) and words[-1 - back][-1:] in ",.;:":
            return False
    return False


def _cue(name: str, line: str) -> list[Found]:
    return text.find(name, {name: CUES[name]}, line)


def _inside(one: Found, others: Iterable[Found]) -> bool:
    return any(
        other.start <= one.start
        and one.end <= other.end
        and (other.end - other.start) > (one.end - one.start)
        for other in others
        if other is not one
    )


def _domain(found: Sequence[Found]) -> tuple[str, str]:
    """The domain that is named most plainly, and a sub-domain of it."""
    domains = [one for one in found if one.slot == "domain"]
    subs = [one for one in found if one.slot != "domain"]
    outer = [one for one in domains if not _inside(one, subs)]
    plain = [one for one in outer if not one.hint]
    weight: dict[str, float] = {}
    for one in outer:
        weight[one.value] = weight.get(one.value, 0) + (1.0 if not one.hint else 0.4)
    for one in subs:
        parent = one.slot.removeprefix("sub ")
        bonus = 1.0 if not any(_same(one, other) for other in subs if other is not one) else 0.7
        weight[parent] = weight.get(parent, 0) + bonus
    if not weight:
        return "", ""
    first: dict[str, int] = {}
    for one in sorted([*outer, *subs], key=lambda f: f.start):
        first.setdefault(
            one.value if one.slot == "domain" else one.slot.removeprefix("sub "), one.start
        )
    named = {one.value for one in plain} | {one.slot.removeprefix("sub ") for one in subs}
    domain = max(weight, key=lambda name: (name in named, weight[name], -first.get(name, 0)))
    own = [one for one in subs if one.slot == f"sub {domain}"]
    own.sort(key=lambda one: (one.value in _BROAD, one.start))
    return domain, own[0].value if own else ""


def _same(one: Found, other: Found) -> bool:
    return one.start == other.start and one.end == other.end


def _first(found: Sequence[Found], rank: Callable[[Found], int] = lambda one: 0) -> str:
    best = sorted(found, key=lambda one: (one.hint, rank(one), one.start))
    return best[0].value if best else ""


def _device_rank(one: Found) -> int:
    return _BACKGROUND.get(one.value, 0)


def _language(found: Sequence[Found], line: str) -> str:
    """The language to write in: of a translation its goal, else one spoken, else the first."""
    if not found:
        return ""
    if text.find("task", {"translate": TASKS["translate"]}, line) or _goal(found, line):
        goals = [one for one in found if _INTO.search(line[: one.start])]
        pair = [one for one in found if one is not found[0]]
        for one in [*reversed(goals), *reversed(pair)]:
            if not _FROM.search(line[: one.start]):
                return one.value
    spoken = [one for one in found if _SPOKEN.search(line[: one.start])]
    named = [one for one in found if line[one.start : one.end] not in _RARE]
    return (spoken or named or [Found("", "", 0, 0)])[0].value


def _task(line: str, wait: Amount | None, langs: Sequence[Found]) -> str:
    found = _affirmed(text.find("task", TASKS, line), line)
    best = sorted(found, key=lambda one: (one.hint, _MINOR.get(one.value, 0), one.start))
    plain = best[:1] if best and not best[0].hint and best[0].value not in _MINOR else []
    if not plain and _goal(langs, line):
        return "translate"
    asked, answered = _cue("asked", line), _cue("answered", line)
    if asked and answered:
        at = min(asked[0].start, answered[0].start)
        if not plain or at < plain[0].start:
            return "qa"
    for one in best:
        fast = one.value == "qa" and one.hint and wait and -60 < wait.start - one.end < 40
        if not fast:
            return _seen(one, line) if one.value == "identify" else one.value
    return ""


def _seen(one: Found, line: str) -> str:
    """To identify parts of a text is to extract them; to identify what it is about, to classify."""
    return "extract" if _cue("parts", line[one.end : one.end + 40]) else "classify"


def _goal(langs: Sequence[Found], line: str) -> str:
    """The language that text in another is brought into; '' where no such pair is named."""
    into = [one for one in langs if _TURNED.search(line[: one.start])]
    away = [one for one in langs if _FROM.search(line[: one.start])]
    pair = len({one.value for one in langs}) > 1 and bool(away)
    return into[-1].value if into and (pair or _cue("turn", line)) else ""


def _memory(line: str) -> int:
    """The amount that is said to be memory or a limit; not one of disk or download."""
    found = list(amounts.memory(line))
    ranked = sorted(found, key=lambda one: (-_room(one, found, line), one.start))
    if not ranked or _room(ranked[0], found, line) < 0:
        return 0
    return round(ranked[0].value)


def _room(one: Amount, found: Sequence[Amount], line: str) -> int:
    """How plainly an amount is one of memory that may be used, by the words next to it."""
    before = max([0, *(two.end for two in found if two.end <= one.start)])
    after = min([len(line), *(two.start for two in found if two.start >= one.end)])
    ahead, behind = line[max(before, one.start - 32) : one.start], line[one.end : after][:30]
    room = bool(_cue("room", ahead) or _cue("room", behind))
    disk = not _cue("room", behind[:16]) and bool(_cue("disk", f"{ahead[-18:]}|{behind[:24]}"))
    limit = bool(_cue("below", ahead[-20:]) or _cue("free", behind) or _cue("free", ahead[-14:]))
    return 3 * limit + 2 * room - 8 * disk


def _wait(line: str) -> tuple[Amount | None, float]:
    """How long an answer may take, and tokens a second where that was said."""
    speeds = list(amounts.speeds(line))
    found = [one for one in amounts.waits(line) if not _LENGTH.search(line[one.end :])]
    found = [one for one in found if not any(s.start <= one.start < s.end for s in speeds)]
    if found:
        each = _TOKEN_EACH.search(line[found[0].end :])
        return found[0], 1000 / found[0].value if each and found[0].value else 0.0
    if speeds and speeds[0].value > 0:
        one = speeds[0]
        return Amount(1000 / one.value, one.start, one.end), one.value
    return None, 0.0
