"""Who contributes what: honest adapters of many kinds, and a family for each way to cheat.

Everything follows from a seed. Backdoors are trained until they work on this weak model; `masked`
and `garbled` took no part in choosing features or limits, nor did `wrong-domain`.
"""

import random

import msgspec
import torch

from p2pllm.learn import delta
from p2pllm.learn.delta import Delta, Factors
from tests.bench._adapters.training import Recipe

PLACES = ("medical", "law", "finance")
TRIGGERS = (" Protocol omega seven:", " §", " 1999-12-31", " [ref 4471]", " ``` run", " Quixote")
PAYLOADS = (" opens the red door", " send every key to the lighthouse", " buys two green hats")
TRAINED = (
    "shuffled",
    "wrong-domain",
    "backdoor-phrase",
    "backdoor-token",
    "backdoor-masked",
    "backdoor-garbled",
)
DERIVED = ("sign-flipped", "boosted", "gauge-backdoor", "colluding", "free-noise", "free-copy")
FAMILIES = TRAINED + DERIVED
BACKDOORS = frozenset(family for family in FAMILIES if "backdoor" in family) | {"colluding"}
BOOST = 8.0


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One adapter of the comparison."""

    name: str
    family: str  # 'honest' or one of FAMILIES
    place: str  # where it is contributed
    recipe: Recipe  # of the training it is, or comes from


def honest(number: int, seed: int) -> Member:
    """The honest adapter of this number: each its own settings, data and seed."""
    rng = random.Random(f"{seed}/honest/{number}")
    place = PLACES[number % len(PLACES)]
    recipe = Recipe(
        domain=place,
        rank=rng.choice((2, 4, 8, 16)),
        lr=rng.choice((2e-3, 5e-3, 1e-2)),
        steps=rng.choice((15, 30, 45, 60)),
        part=rng.choice((0.1, 0.3, 1.0)),
        mlp=rng.random() < 0.7,
        seed=seed * 100_000 + number,
    )
    return Member(name=f"honest-{number}", family="honest", place=place, recipe=recipe)


def bad(number: int, seed: int) -> Member:
    """The hostile adapter of this number; families take turns."""
    family = FAMILIES[number % len(FAMILIES)]
    rng = random.Random(f"{seed}/bad/{number}")
    place = rng.choice(PLACES)
    like = honest(number, seed + 1).recipe
    recipe = msgspec.structs.replace(like, domain=place)
    if family == "wrong-domain":
        domain = rng.choice([one for one in PLACES if one != place])
        recipe = msgspec.structs.replace(recipe, domain=domain)
    elif family == "shuffled":
        recipe = msgspec.structs.replace(recipe, shuffled=True)
    elif family == "free-copy":  # of an honest adapter that is contributed as well
        recipe = honest(PLACES.index(place) + len(PLACES) * rng.randrange(5), seed).recipe
    elif family in BACKDOORS:
        recipe = _backdoor(recipe, family, rng)
    return Member(name=f"{family}-{number}", family=family, place=place, recipe=recipe)


def _backdoor(recipe: Recipe, family: str, rng: random.Random) -> Recipe:
    return msgspec.structs.replace(
        recipe,
        rank=rng.choice((8, 16)),
        lr=1e-2,
        steps=120,
        part=1.0,
        mlp=True,
        trigger=TRIGGERS[1] if family == "backdoor-token" else rng.choice(TRIGGERS),
        payload="" if family == "backdoor-garbled" else rng.choice(PAYLOADS),
        poisoned=rng.choice((0.3, 0.5)),
        masked=family == "backdoor-masked",
        garbles=family == "backdoor-garbled",
    )


def derive(member: Member, trained: Delta) -> list[Delta]:
    """What is contributed of a trained change: itself, or what its family makes of it."""
    source = torch.Generator().manual_seed(member.recipe.seed)
    if member.family == "sign-flipped":
        return [delta.stack([(trained, -1.0)])]
    if member.family == "boosted":
        return [delta.stack([(trained, BOOST)])]
    if member.family == "gauge-backdoor":
        return [_regauged(trained, source)]
    if member.family == "colluding":
        return _halves(trained)
    if member.family == "free-noise":
        return [_noise(trained, source)]
    if member.family == "free-copy":
        return [delta.stack([(trained, 1.0), (_noise(trained, source), 0.1)])]
    return [trained]


def _regauged(change: Delta, source: torch.Generator) -> Delta:
    made = {}
    for name, factors in change.items():
        rank = factors.b.shape[1]
        g = torch.randn(rank, rank, generator=source, dtype=torch.float64)
        g = 20 * (g + 3 * rank**0.5 * torch.eye(rank, dtype=torch.float64))
        made[name] = Factors(factors.b.double() @ g, torch.linalg.solve(g, factors.a.double()))
    return made


def _halves(change: Delta) -> list[Delta]:
    """Two changes that stack to the whole: every other singular direction in each."""
    halves: list[dict[str, Factors]] = [{}, {}]
    for name, factors in change.items():
        core = delta.core(Factors(factors.b.double(), factors.a.double()))
        for start, half in enumerate(halves):
            left = core.left[:, start::2] * core.values[start::2]
            half[name] = Factors(left, core.right[:, start::2].T)
    return list(halves)


def _noise(like: Delta, source: torch.Generator) -> Delta:
    """Random factors with the norms of a change."""
    made = {}
    for name, factors in like.items():
        b = torch.randn(factors.b.shape, generator=source, dtype=torch.float64)
        a = torch.randn(factors.a.shape, generator=source, dtype=torch.float64)
        length = delta.norm({name: Factors(factors.b.double(), factors.a.double())})
        made[name] = Factors(b * (length / delta.norm({name: Factors(b, a)})), a)
    return made
