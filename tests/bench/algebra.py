"""The algebra of updates against dense float64, its speed, and what others do with the same input.

`max_rel_error` is the largest relative error of stack, lift, restrict, heterogeneous aggregation
and re-compression plus residual, over random ranks, blocks, weights and orders. `qr_speedup` is the
time of a dense SVD by that of the QR core for the same singular triples, interleaved, medians.
`rivals` are relative errors against the exact mean on the same updates: FedIT averages the factors
(ranks must be equal), zero padding does so after filling smaller ranks up, FlexLoRA cuts the exact
mean to a rank by a dense SVD, and "by all clients" divides an entry by those that do not have it
too.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from p2pllm.learn import algebra, delta
from p2pllm.learn.algebra import Part, Update
from p2pllm.learn.delta import Delta, Factors

RANKS = (4, 8, 12, 16, 48, 64)  # R = 152
NAME = "m"


def main(argv: list[str]) -> dict[str, Any]:
    """Errors, speed-up, rivals; see the module."""
    parser = argparse.ArgumentParser(prog="algebra")
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--size", type=int, default=1536)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--short", action="store_true", help="smaller and fewer: no figures to show"
    )
    options = parser.parse_args(argv)
    if options.short:
        options.trials, options.size, options.rounds = 40, 384, 2
    torch.set_num_threads(1)
    source = torch.Generator().manual_seed(options.seed)
    worst = _worst(source, options.trials)
    print(f"largest relative errors {worst}", file=sys.stderr)
    updates = _clients(source, options.size, RANKS)
    return {
        "short": options.short,
        "max_rel_error": max(worst.values()),
        "rel_errors": worst,
        "trials": options.trials,
        "size": options.size,
        "rank": sum(RANKS),
        **_speed(updates, options.rounds),
        "rivals": _rivals(source, updates, options.size),
    }


def _worst(source: torch.Generator, trials: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for _ in range(trials):
        for name, error in _trial(source).items():
            found[name] = max(found.get(name, 0.0), error)
    return found


def _trial(source: torch.Generator) -> dict[str, float]:
    """One random federation: every operation beside the same done on dense matrices."""
    shape = _int(source, 2, 160), _int(source, 2, 160)
    updates = [_client(source, shape) for _ in range(_int(source, 1, 7))]
    dense = [_dense(update) for update in updates]
    above = sum(update.weight * whole for update, (whole, _) in zip(updates, dense, strict=True))
    below = sum(update.weight * mask for update, (_, mask) in zip(updates, dense, strict=True))
    assert isinstance(above, torch.Tensor)
    mean = torch.where(below > 0, above / below, 0.0)
    order = torch.randperm(len(updates), generator=source).tolist()
    lifted = [algebra.lift(update.delta, update.parts or {}) for update in updates]
    stacked = delta.stack([(lifted[at], updates[at].weight) for at in order])
    merged = algebra.aggregate([updates[at] for at in order])
    fewer = algebra.recompress(merged, 0.9)
    both = delta.stack([(fewer.kept, 1.0), (fewer.residual, 1.0)])
    back = algebra.restrict({NAME: _factors(mean)}, updates[0].parts or {})
    rows, columns = _indices(updates[0])
    return {
        "lift": max(
            _error(_product(one), whole) for one, (whole, _) in zip(lifted, dense, strict=True)
        ),
        "stack": _error(_product(stacked), above),
        "restrict": _error(_product(back), mean[rows[:, None], columns]),
        "aggregate": _error(_product(merged), mean),
        "recompress_and_residual": _error(_product(both), mean),
    }


def _client(source: torch.Generator, shape: tuple[int, int]) -> Update:
    kept = [_some(source, size) for size in shape]
    part = Part(NAME, shape, *kept)
    rows, columns = (
        size if index is None else len(index) for size, index in zip(shape, kept, strict=True)
    )
    factors = _pair(source, rows, columns, _int(source, 1, 24))
    weight = float(10 ** (4 * torch.rand(1, generator=source, dtype=torch.float64) - 2))
    return Update({NAME: factors}, weight, {NAME: part})


def _some(source: torch.Generator, size: int) -> torch.Tensor | None:
    """All of it, a nested prefix, or any part."""
    kind = _int(source, 0, 2)
    count = _int(source, 1, size)
    if kind == 0:
        return None
    return torch.arange(count) if kind == 1 else torch.randperm(size, generator=source)[:count]


def _dense(update: Update) -> tuple[torch.Tensor, torch.Tensor]:
    assert update.parts is not None
    whole, mask = (torch.zeros(update.parts[NAME].shape, dtype=torch.float64) for _ in range(2))
    rows, columns = _indices(update)
    whole[rows[:, None], columns] = _product(update.delta)
    mask[rows[:, None], columns] = 1.0
    return whole, mask


def _indices(update: Update) -> tuple[torch.Tensor, torch.Tensor]:
    assert update.parts is not None
    part = update.parts[NAME]
    rows = torch.arange(part.shape[0]) if part.rows is None else torch.as_tensor(part.rows)
    columns = torch.arange(part.shape[1]) if part.columns is None else torch.as_tensor(part.columns)
    return rows, columns


def _clients(source: torch.Generator, size: int, ranks: Sequence[int]) -> list[Update]:
    return [Update({NAME: _pair(source, size, size, rank)}, 1.0) for rank in ranks]


def _speed(updates: Sequence[Update], rounds: int) -> dict[str, Any]:
    """Singular triples of the mean by the QR core and by a dense SVD, in both precisions."""
    [whole] = algebra.aggregate(updates).values()
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for dtype in (torch.float64, torch.float32):
            factors = Factors(whole.b.to(dtype), whole.a.to(dtype))
            runs: dict[str, Callable[[], torch.Tensor]] = {
                "qr": lambda factors=factors: delta.core(factors).values,  # type: ignore[misc]
                "dense": lambda factors=factors: (
                    torch.linalg.svd(  # type: ignore[misc]
                        factors.b @ factors.a, full_matrices=False
                    ).S
                ),
            }
            values = {}
            for name, run in runs.items():
                start = time.perf_counter()
                values[name] = run()
                took = time.perf_counter() - start
                seconds.setdefault(f"{name}_{str(dtype)[-7:]}", []).append(took)
                print(f"{name} {dtype} {took:.3f} s", file=sys.stderr)
            kept = len(values["qr"])
            gap = float((values["qr"] - values["dense"][:kept]).abs().max() / values["qr"][0])
            assert gap < (1e-12 if dtype == torch.float64 else 1e-5), gap
    middle = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {
        "qr_speedup": round(middle["dense_float64"] / middle["qr_float64"], 1),
        "qr_speedup_float32": round(middle["dense_float32"] / middle["qr_float32"], 1),
        "seconds": {name: round(taken, 4) for name, taken in middle.items()},
    }


def _rivals(source: torch.Generator, updates: Sequence[Update], size: int) -> dict[str, float]:
    mean = sum(_product(update.delta) for update in updates) / len(updates)
    assert isinstance(mean, torch.Tensor)
    equal = _clients(source, size, [16] * len(RANKS))
    shared = _drifting(source, size, 16, 0.1)
    half, whole = torch.arange(size // 2), torch.arange(size)
    blocks = [
        Update(
            {NAME: _pair(source, size if at % 2 else size // 2, size, rank)},
            1.0,
            {NAME: Part(NAME, (size, size), whole if at % 2 else half)},
        )
        for at, rank in enumerate(RANKS)
    ]
    covered = sum(_dense(block)[0] for block in blocks)
    counts = sum(_dense(block)[1] for block in blocks)
    assert isinstance(covered, torch.Tensor)
    assert isinstance(counts, torch.Tensor)
    true = covered / counts.clamp(min=1)
    left, values, right = torch.linalg.svd(mean, full_matrices=False)
    flex = {
        rank: _error((left[:, :rank] * values[:rank]) @ right[:rank], mean) for rank in (16, 64)
    }
    ours = {
        rank: _error(_product(algebra.recompress(algebra.aggregate(updates), 1.0, rank).kept), mean)
        for rank in (16, 64)
    }
    found = {
        "ours_exact": _error(_product(algebra.aggregate(updates)), mean),
        "fedit_equal_ranks": _factor_mean(equal),
        "fedit_shared_a_drift_10_percent": _factor_mean(shared),
        "zero_padding": _factor_mean(updates),
        "flexlora_rank_16": flex[16],
        "flexlora_rank_64": flex[64],
        "ours_rank_16": ours[16],
        "ours_rank_64": ours[64],
        "blocks_ours_exact": _error(_product(algebra.aggregate(blocks)), true),
        "blocks_by_all_clients": _error(covered / len(blocks), true),
    }
    return {name: float(f"{error:.3g}") for name, error in found.items()}


def _factor_mean(updates: Sequence[Update]) -> float:
    """The error of averaging B and A each for itself, smaller ranks filled up with zeros."""
    rank = max(update.delta[NAME].a.shape[0] for update in updates)
    pairs = [update.delta[NAME] for update in updates]
    b = torch.stack([_filled(pair.b.T, rank).T for pair in pairs]).mean(dim=0)
    a = torch.stack([_filled(pair.a, rank) for pair in pairs]).mean(dim=0)
    mean = torch.stack([pair.b @ pair.a for pair in pairs]).mean(dim=0)
    return _error(b @ a, mean)


def _filled(factor: torch.Tensor, rank: int) -> torch.Tensor:
    return torch.cat([factor, torch.zeros(rank - len(factor), factor.shape[1], dtype=factor.dtype)])


def _drifting(source: torch.Generator, size: int, rank: int, drift: float) -> list[Update]:
    """Clients that began with one A and moved it a little, which is what favours FedIT."""
    first = _pair(source, size, size, rank).a
    made = []
    for _ in RANKS:
        pair = _pair(source, size, size, rank)
        made.append(Update({NAME: Factors(pair.b, first + drift * pair.a)}, 1.0))
    return made


def _pair(source: torch.Generator, rows: int, columns: int, rank: int) -> Factors:
    """Factors as an adapter file has them: rounded to float32."""
    made = [
        torch.randn(*size, generator=source).double() for size in ((rows, rank), (rank, columns))
    ]
    return Factors(made[0], made[1])


def _factors(whole: torch.Tensor) -> Factors:
    return Factors(whole, torch.eye(whole.shape[1], dtype=torch.float64))


def _product(change: Delta) -> torch.Tensor:
    return change[NAME].b @ change[NAME].a


def _error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def _int(source: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (1,), generator=source))
