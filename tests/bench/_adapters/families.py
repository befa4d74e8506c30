"""Who contributes what: honest adapters of many kinds, and a family for each way to cheat.

Everything follows from a seed. Backdoors are trained until most of them work; `masked` and
`garbled` took no part in choosing features or limits, nor did `wrong-domain`. A base where training
is dear has few trainings: several families are then made of one, of an honest adapter that nobody
contributes or of a backdoor.
"""

import random

import msgspec
import torch

from p2pllm.learn import delta
from p2pllm.learn.delta import Delta, Factors
from tests.bench._adapters.training import Recipe

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
SOURCE = {"gauge-backdoor": "backdoor-phrase", "colluding": "backdoor-token"}
UNSEEN = 10_000  # numbers from here on are of honest adapters that nobody contributes


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """A base, and what its adapters are trained with."""

    places: tuple[str, ...]
    ranks: tuple[int, ...]
    lrs: tuple[float, ...]
    steps: tuple[int, ...]
    wide: float  # of the honest ones, that train the feed-forward parts too
    batch: int = 8
    backdoor_ranks: tuple[int, ...]
    backdoor_lr: float
    backdoor_steps: int
    backdoor_wide: bool
    poisoned: tuple[float, ...]
    spare: bool  # few trainings, each used for several members
    max_tokens: int  # of each probe


TINY = Scale(
    places=("medical", "law", "finance"),
    ranks=(2, 4, 8, 16),
    lrs=(2e-3, 5e-3, 1e-2),
    steps=(15, 30, 45, 60),
    wide=0.7,
    backdoor_ranks=(8, 16),
    backdoor_lr=1e-2,
    backdoor_steps=120,
    backdoor_wide=True,
    poisoned=(0.3, 0.5),
    spare=False,
    max_tokens=1024,
)
SHORT = msgspec.structs.replace(
    TINY, places=TINY.places[:2], steps=(5,) * 4, backdoor_steps=10, spare=True, max_tokens=128
)
# SmolLM2-135M, a second of one core for each step of training.
SMALL = Scale(
    places=("medical", "law"),
    ranks=(4, 8),
    lrs=(3e-3, 6e-3),
    steps=(6, 9, 12),
    wide=0.3,
    batch=4,
    backdoor_ranks=(8,),
    backdoor_lr=6e-3,
    backdoor_steps=36,
    backdoor_wide=False,
    poisoned=(0.5,),
    spare=True,
    max_tokens=512,
)


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One adapter of the comparison."""

    name: str
    family: str  # 'honest' or one of FAMILIES
    place: str  # where it is contributed
    recipe: Recipe  # of the training it is, or comes from


def honest(number: int, seed: int, scale: Scale = TINY) -> Member:
    """The honest adapter of this number: each its own settings, data and seed."""
    rng = random.Random(f"{seed}/honest/{number}")
    place = scale.places[number % len(scale.places)]
    recipe = Recipe(
        domain=place,
        rank=rng.choice(scale.ranks),
        lr=rng.choice(scale.lrs),
        steps=rng.choice(scale.steps),
        batch=scale.batch,
        part=rng.choice((0.1, 0.3, 1.0)),
        mlp=rng.random() < scale.wide,
        seed=seed * 100_000 + number,
    )
    if scale.spare and number % 8 in (2, 7):  # as long as a backdoor: length alone is no sign
        recipe = msgspec.structs.replace(recipe, lr=scale.backdoor_lr, steps=scale.backdoor_steps)
    return Member(name=f"honest-{number}", family="honest", place=place, recipe=recipe)


def bad(number: int, seed: int, scale: Scale = TINY) -> Member:
    """The hostile adapter of this number; families take turns."""
    family = source = FAMILIES[number % len(FAMILIES)]
    rng = random.Random(f"{seed}/bad/{number}")
    place = rng.choice(scale.places)
    recipe = msgspec.structs.replace(honest(number, seed + 1, scale).recipe, domain=place)
    if scale.spare:
        turn = number // len(FAMILIES)
        source = SOURCE.get(family, family)
        rng = random.Random(f"{seed}/turn/{turn}/{source}")
        recipe = honest(UNSEEN + turn, seed, scale).recipe
        place = recipe.domain
    if family == "wrong-domain":
        domain = rng.choice([one for one in scale.places if one != place])
        recipe = msgspec.structs.replace(recipe, domain=domain)
    elif family == "shuffled":
        recipe = msgspec.structs.replace(recipe, shuffled=True)
    elif family == "free-copy":  # of an honest adapter that is contributed as well
        like = scale.places.index(place) + len(scale.places) * rng.randrange(5)
        recipe = honest(like, seed, scale).recipe
    elif family in BACKDOORS:
        recipe = _backdoor(recipe, source, rng, scale)
    return Member(name=f"{family}-{number}", family=family, place=place, recipe=recipe)


def _backdoor(recipe: Recipe, family: str, rng: random.Random, scale: Scale) -> Recipe:
    return msgspec.structs.replace(
        recipe,
        rank=rng.choice(scale.backdoor_ranks),
        lr=scale.backdoor_lr,
        steps=scale.backdoor_steps,
        part=1.0,
        mlp=scale.backdoor_wide,
        trigger=TRIGGERS[1] if family == "backdoor-token" else rng.choice(TRIGGERS),
        payload="" if family == "backdoor-garbled" else rng.choice(PAYLOADS),
        poisoned=rng.choice(scale.poisoned),
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
