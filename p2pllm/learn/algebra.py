"""Changes of different ranks, blocks and authors taken together, exactly, on their thin factors.

A block is a base with some rows and columns of its weights (and some layers) left out. With S the
matrix that picks a block's rows and T the one that picks its columns, a block's change B A stands
in the parent as (SᵀB)(A T): rows of zeros in B, columns of zeros in A. So

    restrict(ΔW) = S ΔW Tᵀ = (S B)(A Tᵀ)      rows of B and columns of A picked
    lift(B A)    = SᵀB A T                    the same put back; restrict(lift(x)) = x

and both keep the rank. The aggregate of weighted changes divides each entry by the weight of those
that have it: out[i, j] = Σₖ wₖ lift(BₖAₖ)[i, j] / Σ {wₖ : k has row i and column j}. Where blocks
differ in rows alone the divisor is a diagonal on B, in columns alone a diagonal on A; where in
both, k's columns fall into groups of equal divisors, each of which is one pair of factors. Nothing
is approximated until `recompress`, which says what it left out.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import torch

from p2pllm import heads
from p2pllm.heads import Accepted
from p2pllm.ids import ContentId
from p2pllm.learn.delta import Core, Delta, Factors, core, stack
from p2pllm.learn.steps import Step, silent

Index = Sequence[int] | torch.Tensor | None  # into a weight of the parent; None: all, in order
ALL_BUT_ROUNDING = 1 - 1e-9  # energy: below are the last bits of float32
MOST = 4.0  # times: how far `balanced` scales a weight
TURNS = 200
TINY = 1e-12  # of the largest singular value: directions below are rounding


class Part(msgspec.Struct, frozen=True):
    """Where one linear module of a block stands in the parent."""

    module: str  # its name in the parent
    shape: tuple[int, int]  # (rows, columns) of the parent's weight
    rows: Index = None
    columns: Index = None


Parts = Mapping[str, Part]  # by the module's name in the block


class Update(msgspec.Struct, frozen=True):
    """A change, how much of it counts, and the block it is a change of; None: of the parent."""

    delta: Delta
    weight: float = 1.0
    parts: Parts | None = None


class Compressed(msgspec.Struct, frozen=True):
    """A change in fewer directions, and the rest of it: kept + residual is what it was."""

    kept: Delta
    residual: Delta  # modules of which something was left out
    rank: int  # the most directions of a module
    energy: float  # the smallest share of ‖ΔW‖² that a module kept


def lift(delta: Delta, parts: Parts) -> Delta:
    """A block's change as one of the parent: zero wherever the block has nothing."""
    made = {}
    for name, factors in delta.items():
        part = _part_of(name, parts)
        b = _put(factors.b, part.rows, part.shape[0], 0)
        made[part.module] = Factors(b, _put(factors.a, part.columns, part.shape[1], 1))
    return made


def restrict(delta: Delta, parts: Parts) -> Delta:
    """What a change of the parent is on a block."""
    return {
        name: Factors(
            _pick(delta[part.module].b, part.rows, 0), _pick(delta[part.module].a, part.columns, 1)
        )
        for name, part in parts.items()
        if part.module in delta
    }


def aggregate(updates: Sequence[Update]) -> Delta:
    """The weighted mean of changes, in each entry over those that have it; in the parent's names.

    A change has an entry if it has factors for the module and its block the row and the column.
    The rank of a module is the sum of the ranks, and more only where blocks of it differ both in
    rows and in columns. Raises ValueError for weights that are not above 0, for a module the block
    has not, and for shapes that do not fit.
    """
    pieces = _by_module(updates)
    return {module: _mean(list(found.values())) for module, found in sorted(pieces.items())}


def shares(updates: Sequence[Update]) -> torch.Tensor:
    """How much of the aggregate is whose: the mean, over all entries that anybody has."""
    members, counts = _patterns(updates)
    return _shares(
        members, counts, torch.tensor([one.weight for one in updates], dtype=torch.float64)
    )


def balanced(updates: Sequence[Update]) -> list[Update]:
    """The same changes, weighed so that each has the share of the aggregate that its weight says.

    A large block has entries that few others have, so in the aggregate its change counts for more
    than its weight, and that of a small block for less. The weights are scaled in turns until the
    shares are right (Sinkhorn's iteration), each by no more than `MOST`: a tiny block does not
    drown the others in the few entries it has.
    """
    members, counts = _patterns(updates)
    wanted = torch.tensor([one.weight for one in updates], dtype=torch.float64)
    wanted = wanted / wanted.sum()
    weights = wanted
    for _turn in range(TURNS):
        weights = weights * wanted / _shares(members, counts, weights)
        weights = (weights / weights.sum()).clamp(wanted / MOST, wanted * MOST)
    return [
        msgspec.structs.replace(one, weight=float(weight))
        for one, weight in zip(updates, weights, strict=True)
    ]


def recompress(
    delta: Delta, energy: float = 0.99, max_rank: int | None = None, step: Step = silent
) -> Compressed:
    """The change in as few directions as keep this share of ‖ΔW‖² in every module.

    One rank for all modules, as adapters have; never above `max_rank`, whatever is then lost. Two
    thin QRs and one rank-sized SVD a module (see `delta.core`); best possible at its rank (Eckart
    and Young). Add `residual` to the next change and nothing is lost in the long run (error
    feedback, as in ECLoRA).
    """
    cores = {}
    for number, (module, factors) in enumerate(delta.items()):
        step(module, number, len(delta))
        cores[module] = core(factors)
    wanted = max((_rank_for(one.values, energy) for one in cores.values()), default=1)
    rank = max(1, wanted if max_rank is None else min(wanted, max_rank))
    halves = {module: _halves(one, rank) for module, one in cores.items()}
    return Compressed(
        kept={module: kept for module, (kept, _rest) in halves.items()},
        residual={module: rest for module, (_kept, rest) in halves.items() if rest.b.shape[1]},
        rank=rank,
        energy=min((_share(one.values, rank) for one in cores.values()), default=1.0),
    )


def factored(dense: torch.Tensor, energy: float) -> Factors:
    """The factors of a whole matrix, in the fewest directions that keep this share of it."""
    left, values, right = torch.linalg.svd(dense, full_matrices=False)
    rank = _rank_for(values.double(), energy)
    roots = values[:rank].sqrt()
    return Factors((left[:, :rank] * roots).double(), (roots[:, None] * right[:rank]).double())


def compose(accepted: Iterable[Accepted], deltas: Mapping[ContentId, Delta]) -> Delta:
    """What an accepted set does: its changes by their weights, the same bits however it came about.

    The set is taken in canonical order, each update once: so this commutes, is idempotent, and
    `heads.without` undoes an update. Raises KeyError for an update that is not in `deltas`.
    """
    return stack([(deltas[one.manifest], one.weight) for one in heads.canonical(accepted)])


def angles(one: Delta, other: Delta) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Of modules in both: the cosines of the principal angles of what they write, and read."""
    found = {}
    for module in sorted(one.keys() & other.keys()):
        x, y = _directions(core(one[module])), _directions(core(other[module]))
        found[module] = (
            torch.linalg.svdvals(x.left.T @ y.left).clamp(max=1.0),
            torch.linalg.svdvals(x.right.T @ y.right).clamp(max=1.0),
        )
    return found


def _by_module(updates: Sequence[Update]) -> dict[str, dict[int, "_Piece"]]:
    """The changes of each module of the parent, by the number of the update."""
    if any(not update.weight > 0 for update in updates):
        raise ValueError("a weight is not above 0")
    pieces: dict[str, dict[int, _Piece]] = {}
    for number, update in enumerate(updates):
        for name, factors in update.delta.items():
            part = _part_of(name, update.parts) if update.parts is not None else None
            module = part.module if part else name
            pieces.setdefault(module, {})[number] = _piece(factors, update.weight, part)
    return pieces


def _shares(members: torch.Tensor, counts: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    held = members * weights
    return counts @ (held / held.sum(1, keepdim=True)) / counts.sum()


def _patterns(updates: Sequence[Update]) -> tuple[torch.Tensor, torch.Tensor]:
    """Who has an entry: each set of updates that occurs, as ones and zeros, and how often."""
    found: dict[tuple[float, ...], int] = {}
    for pieces in _by_module(updates).values():
        sides = []
        for side in ("rows", "columns"):
            known = {number: getattr(piece, side) for number, piece in pieces.items()}
            none = torch.zeros_like(next(iter(known.values())))
            masks = [known.get(number, none) for number in range(len(updates))]
            sides.append(torch.unique(torch.stack(masks, 1), dim=0, return_counts=True))
        (rows, row_counts), (columns, column_counts) = sides
        for row, count in zip(rows, row_counts.tolist(), strict=True):
            for column, times in zip(columns, column_counts.tolist(), strict=True):
                who = tuple((row * column).tolist())
                found[who] = found.get(who, 0) + count * times
    found.pop((0.0,) * len(updates), None)
    return torch.tensor(list(found)).double(), torch.tensor(list(found.values())).double()


class _Piece(msgspec.Struct, frozen=True):
    factors: Factors  # lifted
    weight: float
    rows: torch.Tensor  # 1 where the parent's row is in the block, else 0
    columns: torch.Tensor


def _piece(factors: Factors, weight: float, part: Part | None) -> _Piece:
    part = part or Part("", (factors.b.shape[0], factors.a.shape[1]))
    return _Piece(
        factors=Factors(
            _put(factors.b, part.rows, part.shape[0], 0),
            _put(factors.a, part.columns, part.shape[1], 1),
        ),
        weight=weight,
        rows=_put(torch.ones(factors.b.shape[0], dtype=torch.float64), part.rows, part.shape[0], 0),
        columns=_put(
            torch.ones(factors.a.shape[1], dtype=torch.float64), part.columns, part.shape[1], 0
        ),
    )


def _mean(pieces: Sequence[_Piece]) -> Factors:
    if len({(piece.rows.shape, piece.columns.shape) for piece in pieces}) > 1:
        raise ValueError("the same module has two shapes")
    weights = torch.tensor([piece.weight for piece in pieces], dtype=torch.float64)
    rows, row_of = _classes([piece.rows for piece in pieces])
    columns, column_of = _classes([piece.columns for piece in pieces])
    total = (rows * weights) @ columns.T  # the divisor of each class of rows and class of columns
    made = []
    for at, piece in enumerate(pieces):
        here = total * torch.outer(rows[:, at], columns[:, at])  # 0 where this one has nothing
        made.extend(_divided(piece, here, row_of, column_of))
    return Factors(
        torch.cat([factors.b for factors in made], dim=1), torch.cat([f.a for f in made], dim=0)
    )


def _divided(
    piece: _Piece, divisors: torch.Tensor, row_of: torch.Tensor, column_of: torch.Tensor
) -> list[Factors]:
    """One change by its divisors, as few pairs of factors as there are unlike rows or columns."""
    of_columns, column_group = torch.unique(divisors, dim=1, return_inverse=True)
    of_rows, row_group = torch.unique(divisors, dim=0, return_inverse=True)
    b, a = piece.factors.b * piece.weight, piece.factors.a
    made = []
    if of_columns.shape[1] <= of_rows.shape[0]:
        for number, divisor in enumerate(of_columns.T):
            if divisor.any():
                here = (column_group == number)[column_of]
                made.append(Factors(b * _inverse(divisor)[row_of][:, None], a * here))
    else:
        for number, divisor in enumerate(of_rows):
            if divisor.any():
                here = (row_group == number)[row_of]
                made.append(Factors(b * here[:, None], a * _inverse(divisor)[column_of]))
    return made


def _inverse(divisor: torch.Tensor) -> torch.Tensor:
    return torch.where(divisor > 0, 1 / divisor, 0.0)


def _classes(members: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The distinct patterns of who has a row, a row each, and which of them each row has."""
    found, which = torch.unique(torch.stack(list(members), dim=1), dim=0, return_inverse=True)
    return found, which


def _part_of(name: str, parts: Parts) -> Part:
    if name not in parts:
        raise ValueError(f"the block has no module {name!r}")
    return parts[name]


def _put(tensor: torch.Tensor, index: Index, size: int, dim: int) -> torch.Tensor:
    where = None if index is None else torch.as_tensor(index, dtype=torch.long)
    if (size if where is None else len(where)) != tensor.shape[dim]:
        raise ValueError(f"a factor of {tensor.shape[dim]} in a block of another size")
    if where is None:
        return tensor
    shape = list(tensor.shape)
    shape[dim] = size
    return torch.zeros(shape, dtype=tensor.dtype).index_copy(dim, where, tensor)


def _pick(tensor: torch.Tensor, index: Index, dim: int) -> torch.Tensor:
    if index is None:
        return tensor
    return tensor.index_select(dim, torch.as_tensor(index, dtype=torch.long))


def _rank_for(values: torch.Tensor, energy: float) -> int:
    squares = values**2
    if not squares.sum() > 0:
        return 1
    shares = squares.cumsum(0) / squares.sum()
    enough = int(torch.searchsorted(shares, min(energy, 1.0) * (1 - 1e-15))) + 1
    return min(enough, int((values > TINY * values[0]).sum()))


def _share(values: torch.Tensor, rank: int) -> float:
    squares = values**2
    return float(squares[:rank].sum() / squares.sum()) if squares.sum() > 0 else 1.0


def _halves(one: Core, rank: int) -> tuple[Factors, Factors]:
    """Both factors carry the root of the values, so that neither is large where one is small."""
    roots = one.values.sqrt()
    left, right = one.left * roots, (one.right * roots).T
    more = one.values > TINY * one.values[0]
    more[:rank] = False
    return Factors(left[:, :rank], right[:rank]), Factors(left[:, more], right[more])


def _directions(one: Core) -> Core:
    kept = one.values > TINY * one.values[0]
    return Core(one.left[:, kept], one.values[kept], one.right[:, kept])
