"""A made-up world: models with true qualities, devices, and signers of whom some lie.

The size law, its steepness, how much a model of a domain gains and how models differ are drawn anew
for every world, and are not those that `p2pllm.worth` assumes.
"""

import random
from collections.abc import Mapping, Sequence

import msgspec

from p2pllm import fit
from p2pllm.fit import Calibration
from p2pllm.ids import ContentId, content_id
from p2pllm.names import Place
from p2pllm.recommend import ANY_LANG, Candidate, Wants
from p2pllm.worth import Score

LANGS = ("en", "es", "fr", "de")
SUBS = {
    "medical": ("cardiology", "virology"),
    "law": ("contracts", "tax"),
    "education": ("algebra", "history"),
    "sports": ("soccer", "gymnastics"),
}
TASKS = ("summarise", "classify", "chat", "extract")
LICENCES = ("Apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-NC-4.0")
LIARS = 0.3  # of the signers
SCORE_NOISE = 0.02
MEMORY_ERROR = 0.055  # largest share a real peak is off; measured: see docs/specs/recommend.md


class Signer(msgspec.Struct, frozen=True):
    """Somebody who publishes models and scores."""

    name: str
    lies: bool
    trust: float


class World(msgspec.Struct, frozen=True):
    """Candidates, what they are truly worth at (place, task), and whom one believes."""

    candidates: list[Candidate]
    quality: Mapping[tuple[str, Place, str], float]  # manifest, place, task
    off: Mapping[str, float]  # manifest -> how far its real peak is from the estimate
    signers: Mapping[str, Signer]

    def trust(self, by: str) -> float:
        """How far a signer is believed."""
        return self.signers[by].trust

    def true(self, candidate: Candidate, wants: Wants) -> float:
        """What a candidate is really worth for somebody."""
        return self.quality[candidate.manifest, place_of(wants), wants.task]


def places() -> list[Place]:
    """Every place somebody may ask for."""
    found = [Place(lang) for lang in LANGS]
    for lang in LANGS:
        for domain, subs in SUBS.items():
            found += [Place(lang, domain), *(Place(lang, domain, sub) for sub in subs)]
    return found


def place_of(wants: Wants) -> Place:
    """Where the wants stand in the hierarchy."""
    return Place(wants.lang, wants.domain, wants.sub)


def make_world(rng: random.Random, models: int = 160, signers: int = 40) -> World:
    """A world out of a seed."""
    people = [_signer(rng, number) for number in range(signers)]
    law = (rng.uniform(0.7, 1.0), rng.uniform(0.08, 0.2))
    bonus = rng.uniform(0.03, 0.15), rng.uniform(0.01, 0.08)
    everywhere = places()
    quality: dict[tuple[str, Place, str], float] = {}
    candidates = []
    for number in range(models):
        place = rng.choice([*everywhere, *(Place(lang) for lang in (*LANGS, ANY_LANG))])
        params = int(10 ** rng.uniform(6.0, 9.9))
        manifest = content_id(f"{rng.random()} {number}".encode())
        own = rng.gauss(0, 0.04)
        for wanted in everywhere:
            for task in TASKS:
                worth = 1 - law[0] * (params / 1e6) ** -law[1] + own + rng.gauss(0, 0.02)
                if place.domain and place.domain == wanted.domain:
                    worth += bonus[0] + bonus[1] * (bool(place.sub) and place.sub == wanted.sub)
                quality[manifest, wanted, task] = min(1.0, max(0.01, worth))
        true = {key[1:]: value for key, value in quality.items() if key[0] == manifest}
        candidates.append(
            _candidate(rng, manifest, place, params, _scores(rng, place, true, people))
        )
    off = {one.manifest: _bounded(rng, MEMORY_ERROR / 2, MEMORY_ERROR) for one in candidates}
    return World(candidates, quality, off, {one.name: one for one in people})


def make_wants(rng: random.Random, lang: str = "") -> Wants:
    """What a random person on a random device wants."""
    place = rng.choice([one for one in places() if not lang or one.lang == lang])
    return Wants(
        lang=place.lang,
        domain=place.domain,
        sub=place.sub,
        task=rng.choice(TASKS),
        max_memory=int(2 ** rng.uniform(28.5, 34.5)),  # 380 MB to 24 GB
        min_speed=rng.choice((0.0, 0.0, 1.0, 3.0, 8.0)),
        licences=rng.choice(((), (), LICENCES[:2], LICENCES[:3])),
        context=rng.choice((256, 512, 1024, 4096)),
    )


def make_device(rng: random.Random) -> Calibration:
    """A watch, a board, a tablet, a laptop or a server, as calibrated."""
    slower = 10 ** rng.uniform(-0.7, 1.5)
    return Calibration(
        seconds=(7e-11 * slower, 5e-10 * slower, 1.3e-4 * slower, 9e-7 * slower, 2e-3 * slower),
        runtime_bytes=int(rng.uniform(100, 450) * 1024**2),
        spread=rng.uniform(0.15, 0.3),
        prompt_flops=1e11 / slower,
        measured_at=1.0,
    )


def _signer(rng: random.Random, number: int) -> Signer:
    lies = rng.random() < LIARS
    return Signer(f"signer {number}", lies, rng.uniform(0, 0.3) if lies else rng.uniform(0.3, 1))


def _scores(
    rng: random.Random,
    place: Place,
    true: Mapping[tuple[Place, str], float],
    people: Sequence[Signer],
) -> tuple[Score, ...]:
    """The publisher's own two claims, and up to six of others; liars praise their own only."""
    publisher = rng.choice(people)
    authors = [publisher, publisher, *rng.choices(people, k=rng.randint(0, 6))]
    lang = rng.choice(LANGS) if place.lang == ANY_LANG else place.lang
    scores = []
    for author in authors:
        where = Place(lang, place.domain, place.sub)
        if not place.domain:
            where = rng.choice([one for one in places() if one.lang == lang])
        task = rng.choice(TASKS)
        value = true[where, task] + rng.gauss(0, SCORE_NOISE)
        if author.lies:
            value += rng.uniform(0.1, 0.5) * (1 if author is publisher else -1)
        scores.append(
            Score(value=min(1.0, max(0.0, value)), by=author.name, place=where, task=task)
        )
    return tuple(scores)


def _candidate(
    rng: random.Random, manifest: ContentId, place: Place, params: int, scores: tuple[Score, ...]
) -> Candidate:
    sizes = fit.guess(params)
    kv_heads = max(1, sizes.heads // rng.choice((1, 2, 4)))
    return Candidate(
        ref=f"{place}/m-{manifest[:8]}",
        manifest=manifest,
        place=place,
        kind=rng.choice(("base", "adapter")),
        licence=rng.choice(LICENCES),
        dimensions=msgspec.structs.replace(sizes, kv_heads=kv_heads, guessed=rng.random() < 0.3),
        adapter=rng.choice((0, params // 100)),
        scores=scores,
        here=rng.random() < 0.1,
    )


def _bounded(rng: random.Random, sigma: float, most: float) -> float:
    return max(-most, min(most, rng.gauss(0, sigma)))
