"""What a sketch keeps of a change: its cosines, within the error that is promised."""

import statistics

import pytest
import torch

from p2pllm import summary
from p2pllm.learn import delta
from p2pllm.learn.delta import Delta, Factors
from p2pllm.learn.sketch import sketch
from tests.p2pllm.learn.test_delta import regauged


def change(seed: int, rank: int = 4, modules: int = 6) -> Delta:
    source = torch.Generator().manual_seed(seed)
    return {
        f"model.layers.{at}.q_proj": Factors(
            torch.randn(40, rank, generator=source, dtype=torch.float64),
            torch.randn(rank, 24, generator=source, dtype=torch.float64),
        )
        for at in range(modules)
    }


@pytest.mark.parametrize("wanted", [-0.9, -0.4, 0.0, 0.3, 0.7, 0.95])
def test_cosines_come_out_within_four_standard_errors(wanted: float) -> None:
    errors = []
    for seed in range(20):
        one, other = change(2 * seed), change(2 * seed + 1)
        mixed = delta.stack([(one, wanted), (other, (1 - wanted**2) ** 0.5)])
        true = delta.relation(one, mixed).cosine
        found = summary.cosine(sketch(one, f"{seed}"), sketch(mixed, f"{seed}"))
        errors.append(found - true)
    bound = max((1 - wanted**2) / summary.FORMS**0.5, 0.004)
    assert abs(statistics.mean(errors)) < 4 * bound / len(errors) ** 0.5
    assert max(abs(error) for error in errors) < 4 * bound


def test_other_factors_of_the_same_change_give_the_same_sketch() -> None:
    one = summary.forms(sketch(change(1), "salt"))
    again = summary.forms(sketch(regauged(change(1), 7), "salt"))
    assert max(abs(a - b) for a, b in zip(one, again, strict=True)) <= 1


def test_another_salt_gives_another_sketch() -> None:
    one = change(1)
    assert abs(summary.cosine(sketch(one, "salt"), sketch(one, "pepper"))) < 0.2


def test_a_sketch_is_what_the_specification_says() -> None:
    """One module, rank 1, made here bit by bit: docs/specs/summary.md, "The sketch"."""
    from blake3 import blake3

    b, a = [1.0, -2.0, 0.5], [3.0, 1.0]
    factors = Factors(
        torch.tensor(b, dtype=torch.float64).unsqueeze(1),
        torch.tensor(a, dtype=torch.float64).unsqueeze(0),
    )

    def signs(side: str, size: int, form: int) -> list[int]:
        raw = blake3(f"p2pllm:sketch.1\0salt/m/{side}".encode()).digest(length=64 * size)
        bits = [raw[n // 8] >> n % 8 & 1 for n in range(form * size, form * size + size)]
        return [2 * bit - 1 for bit in bits]

    wanted = [
        sum(u * x for u, x in zip(signs("left", 3, form), b, strict=True))
        * sum(v * x for v, x in zip(signs("right", 2, form), a, strict=True))
        for form in range(summary.FORMS)
    ]
    assert sketch({"m": factors}, "salt") == summary.quantise(wanted)
