"""Take adapters of different ranks together exactly, take one out again, and compress the rest.

Run: python examples/05_stack_adapters.py     (no network, no files)
"""

import torch

from p2pllm.learn.algebra import Update, aggregate, recompress
from p2pllm.learn.delta import Delta, Factors

MODULE, ROWS, COLUMNS = "model.layers.0.mlp.up_proj", 96, 64


def adapter(rank: int, seed: int) -> Delta:
    """The change of one weight matrix as its two thin factors."""
    rng = torch.Generator().manual_seed(seed)
    b = torch.randn(ROWS, rank, generator=rng, dtype=torch.float64)
    a = torch.randn(rank, COLUMNS, generator=rng, dtype=torch.float64)
    return {MODULE: Factors(b, a / 8)}


def dense(delta: Delta) -> torch.Tensor:
    """The whole change, which nothing but this check ever forms."""
    factors = delta[MODULE]
    return factors.b @ factors.a


def error(made: torch.Tensor, wanted: torch.Tensor) -> float:
    """Relative, in the Frobenius norm."""
    return float(torch.linalg.norm(made - wanted) / torch.linalg.norm(wanted))


def main() -> None:
    """Weights 1, 2 and 3 on ranks 4, 8 and 2; without the second; at most 6 directions."""
    parts = [adapter(rank, seed) for seed, rank in enumerate((4, 8, 2))]
    weights = (1.0, 2.0, 3.0)
    whole = aggregate([Update(*pair) for pair in zip(parts, weights, strict=True)])
    wanted = sum(w * dense(part) for w, part in zip(weights, parts, strict=True)) / sum(weights)
    rank = whole[MODULE].b.shape[1]
    print(f"together  rank {rank}, off by {error(dense(whole), wanted):.1e}")
    assert error(dense(whole), wanted) < 1e-6

    # What most do: average the factors. It is not the average of the changes.
    b = torch.cat([parts[0][MODULE].b, torch.zeros(ROWS, 4)], 1) / 2 + parts[1][MODULE].b / 2
    a = torch.cat([parts[0][MODULE].a, torch.zeros(4, COLUMNS)]) / 2 + parts[1][MODULE].a / 2
    mean = (dense(parts[0]) + dense(parts[1])) / 2
    print(f"factors   averaged with zeros for what is missing: off by {error(b @ a, mean):.0%}")

    left = aggregate([Update(parts[0], 1.0), Update(parts[2], 3.0)])
    assert error(dense(left), (dense(parts[0]) + 3 * dense(parts[2])) / 4) < 1e-6
    print("without   the second: as if it had never come")

    short = recompress(whole, energy=1.0, max_rank=6)
    again = dense(short.kept) + dense(short.residual)
    assert error(again, wanted) < 1e-5
    print(f"shorter   rank {short.rank} keeps {short.energy:.1%}; the rest is kept beside it")


if __name__ == "__main__":
    main()
