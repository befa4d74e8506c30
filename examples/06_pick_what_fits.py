"""Ask which of four models serves French medical questions best on devices of three sizes.

Run: python examples/06_pick_what_fits.py     (no network, no files)
"""

from p2pllm import keys
from p2pllm.fit import CAUTIOUS, Dimensions
from p2pllm.ids import content_id
from p2pllm.names import parse_place
from p2pllm.recommend import Candidate, Wants, recommend
from p2pllm.worth import Score

FRIEND, STRANGER = keys.generate().node, keys.generate().node
SHAPES = {"tiny": (30, 12, 384), "small": (135, 30, 576), "middle": (360, 32, 960)}


def candidate(name: str, place: str, score: float, by: str) -> Candidate:
    """A model somebody advertises, with what its signer says it is worth."""
    millions, layers, hidden = SHAPES[name.split("-")[0]]
    where = parse_place(place)
    return Candidate(
        ref=f"{place}/{name}",
        manifest=content_id(name.encode()),
        place=where,
        kind="base",
        licence="apache-2.0",
        dimensions=Dimensions(
            params=millions * 10**6,
            layers=layers,
            hidden=hidden,
            intermediate=hidden * 8 // 3,
            vocabulary=49_152,
            heads=hidden // 64,
            kv_heads=max(1, hidden // 192),
            head_dim=64,
        ),
        scores=(Score(value=score, by=by, place=where, task="answer"),),
    )


def main() -> None:
    """More memory never gives a worse pick, and a stranger's boast moves nothing."""
    offers = [
        candidate("tiny-a", "fr/medical", 0.48, FRIEND),
        candidate("small-a", "fr/medical", 0.55, FRIEND),
        candidate("middle-a", "fr", 0.60, FRIEND),
        candidate("tiny-boast", "fr/medical", 0.99, STRANGER),
    ]
    worth = []
    for megabytes in (200, 700, 1200, 4000):
        wants = Wants(lang="fr", domain="medical", task="answer", max_memory=megabytes * 10**6)
        advice = recommend(offers, wants, CAUTIOUS, lambda who: 0.9 if who == FRIEND else 0.1)
        if not advice.picks:
            nearest = advice.helps[0]
            print(f"{megabytes} MB    none fits; {nearest.ref} needs {nearest.needs}")
            continue
        best = advice.picks[0]
        worth.append(best.worth.value)
        size = f"{best.memory.total / 1e6:.0f} MB"
        print(f"{megabytes} MB    {best.candidate.ref}, {size}: {best.worth.reason}")
        assert "boast" not in best.candidate.ref
    assert len(worth) == 3
    assert worth == sorted(worth)


if __name__ == "__main__":
    main()
