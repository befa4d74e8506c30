"""Which model serves somebody best on a device: hard limits first, then quality, with reasons.

Pure: candidates, wants, a calibration and how far each signer is trusted go in, advice comes out.
What is predicted of a candidate never depends on the limits, and limits only take candidates away:
more memory, or any other limit loosened, can never give a worse pick. docs/specs/recommend.md.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from p2pllm import fit
from p2pllm.fit import Calibration, Dimensions, Memory, Speed, Use
from p2pllm.ids import ContentId
from p2pllm.names import Place
from p2pllm.worth import Score, Worth, worth

Limit = Literal["lang", "domain", "licence", "memory", "speed"]
LIMITS: tuple[Limit, ...] = ("lang", "domain", "licence", "memory", "speed")
TOP = 3
ANY_LANG = "mul"  # a model of several languages (ISO 639-2)
MIB = 1024**2

Trust = Callable[[str], float]
"""How far a signer is believed, 0 (not at all) to 1."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A model that could be used: one that is here, or one that peers advertise."""

    ref: str
    manifest: ContentId
    place: Place
    kind: Literal["base", "adapter"]
    licence: str
    dimensions: Dimensions  # of the base
    adapter: int = 0  # parameters beside the base
    scores: tuple[Score, ...] = ()
    download: int = 0  # bytes still to fetch
    here: bool = False


class Wants(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody needs. Empty or 0 stands for: no matter."""

    lang: str
    domain: str = ""
    sub: str = ""
    task: str = ""
    max_memory: int = 0  # bytes, for the whole process
    min_speed: float = 0.0  # tokens a second
    max_wait: float = 0.0  # seconds from a question to the first word
    licences: tuple[str, ...] = ()
    context: int = 512  # tokens, prompt and answer


class Pick(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate that passes every limit, with what is expected of it."""

    candidate: Candidate
    memory: Memory
    speed: Speed
    worth: Worth
    reasons: tuple[str, ...]


class Miss(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate that one limit alone keeps out, and what would let it in."""

    limit: Limit
    ref: str
    worth: float
    needs: str


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The best candidates, the limit that costs most, and how many fell to which limit."""

    picks: tuple[Pick, ...]
    binding: Limit | Literal["none"]
    refused: Mapping[str, int]
    helps: tuple[Miss, ...]  # what would help: loosened alone, each gives a better pick


class _Seen(msgspec.Struct, frozen=True):
    candidate: Candidate
    memory: Memory
    speed: Speed
    worth: Worth
    fails: tuple[Limit, ...]


def recommend(
    candidates: Sequence[Candidate], wants: Wants, device: Calibration, trust: Trust
) -> Advice:
    """At most three picks, best first; none where none fits, and then what would help."""
    pool = [(one.dimensions.params, one.place, one.scores) for one in candidates]
    place = Place(wants.lang, wants.domain, wants.sub if wants.domain else "")
    values = worth(pool, place, wants.task, trust)
    seen = [
        _look(candidate, value, wants, device)
        for candidate, value in zip(candidates, values, strict=True)
    ]
    fitting = sorted((one for one in seen if not one.fails), key=_order)
    helps = _helps(seen, fitting[0].worth.value if fitting else None)
    return Advice(
        picks=tuple(_pick(one, wants, device) for one in fitting[:TOP]),
        binding=helps[0].limit if helps else "none",
        refused=Counter(limit for one in seen for limit in one.fails),
        helps=helps,
    )


def rerank(advice: Advice, losses: Mapping[ContentId, float]) -> Advice:
    """The picks by what they measured on the user's own examples, in nats a byte.

    What was not measured keeps its order behind what was.
    """
    known = [pick for pick in advice.picks if pick.candidate.manifest in losses]
    known.sort(key=lambda pick: losses[pick.candidate.manifest])
    told = [
        msgspec.structs.replace(
            pick,
            reasons=(
                f"{losses[pick.candidate.manifest]:.4f} bits a byte on your own examples",
                *pick.reasons,
            ),
        )
        for pick in known
    ]
    rest = [pick for pick in advice.picks if pick.candidate.manifest not in losses]
    return msgspec.structs.replace(advice, picks=(*told, *rest))


def _above(place: Place, wants: Wants) -> bool:
    if place.domain and place.domain != wants.domain:
        return False
    return not place.sub or place.sub == wants.sub


def _look(candidate: Candidate, value: Worth, wants: Wants, device: Calibration) -> _Seen:
    use = Use(context=wants.context, item=device.item, adapter=candidate.adapter)
    memory = fit.memory(candidate.dimensions, use, device)
    speed = fit.speed(candidate.dimensions, use, device)
    passed: Mapping[Limit, bool] = {
        "lang": candidate.place.lang in (wants.lang, ANY_LANG),
        "domain": _above(candidate.place, wants),
        "licence": _licensed(candidate.licence, wants.licences),
        "memory": not wants.max_memory or memory.high <= wants.max_memory,
        "speed": _fast(speed, wants, device),
    }
    fails = tuple(limit for limit in LIMITS if not passed[limit])
    return _Seen(candidate, memory, speed, value, fails)


def _fast(speed: Speed, wants: Wants, device: Calibration) -> bool:
    if wants.min_speed and speed.low < wants.min_speed:
        return False
    return not wants.max_wait or speed.first_s * (1 + device.spread) <= wants.max_wait


def _licensed(licence: str, allowed: Iterable[str]) -> bool:
    names = {name.casefold() for name in allowed}
    return not names or licence.casefold() in names


def _order(one: _Seen) -> tuple[float, int, int, str]:
    # Equal worth: what needs less memory, what is here, then the name, so that the order is one.
    return (
        -one.worth.value,
        one.memory.total,
        one.candidate.download,
        one.candidate.ref,
    )


def _helps(seen: Sequence[_Seen], best: float | None) -> tuple[Miss, ...]:
    """For each limit the best candidate it alone keeps out, where that one beats the pick."""
    found: dict[Limit, _Seen] = {}
    alone = [one for one in seen if len(one.fails) == 1]
    alone = [one for one in alone if best is None or one.worth.value > best]
    # Where nothing fits, what asks for least is told; else what is worth most.
    for one in sorted(alone, key=_ease if best is None else _order):
        found.setdefault(one.fails[0], one)
    if not found and best is None and seen:
        # Nothing fits, and nothing fails in one point alone: the nearest miss is told.
        nearest = min(seen, key=lambda one: (len(one.fails), *_ease(one)))
        found = dict.fromkeys(nearest.fails, nearest)
    misses = [
        Miss(limit=limit, ref=one.candidate.ref, worth=one.worth.value, needs=_needs(limit, one))
        for limit, one in found.items()
    ]
    return tuple(sorted(misses, key=lambda miss: (-miss.worth, LIMITS.index(miss.limit))))


def _ease(one: _Seen) -> tuple[float, float, str]:
    """Least memory first; of those that fail in speed, the fastest."""
    slow = -one.speed.low if one.fails == ("speed",) else 0.0
    return slow, float(one.memory.high), one.candidate.ref


def _needs(limit: Limit, one: _Seen) -> str:
    if limit == "memory":
        return f"{-(-one.memory.high // MIB)} MiB of memory"
    if limit == "speed":
        return f"{one.speed.low:.2g} tokens/s to do, the first after {one.speed.first_s:.2g} s"
    if limit == "licence":
        return f"licence {one.candidate.licence}"
    place = one.candidate.place
    return f"language {place.lang}" if limit == "lang" else f"place {place}"


def _pick(one: _Seen, wants: Wants, device: Calibration) -> Pick:
    return Pick(
        candidate=one.candidate,
        memory=one.memory,
        speed=one.speed,
        worth=one.worth,
        reasons=tuple(_reasons(one, wants, device)),
    )


def _reasons(one: _Seen, wants: Wants, device: Calibration) -> Iterable[str]:
    place = one.candidate.place
    exact = (place.domain, place.sub) == (wants.domain, wants.sub)
    yield f"made for {place}" if exact else f"of {place}, which stands above what you asked for"
    yield one.worth.reason
    limit = f" of {wants.max_memory // MIB} allowed" if wants.max_memory else ""
    yield (
        f"needs {one.memory.total // MIB} MiB of memory, at most {one.memory.high // MIB}{limit}"
    )
    floor = f", {wants.min_speed:g} wanted" if wants.min_speed else ""
    measured = "" if device.measured_at else " (this device was not measured: p2pllm profile)"
    yield f"{one.speed.tokens_s:.3g} tokens/s, at least {one.speed.low:.3g}{floor}{measured}"
    if wants.max_wait:
        yield f"first word after {one.speed.first_s:.2g} s, {wants.max_wait:.2g} s allowed"
    if one.candidate.here:
        yield "it is here already"
