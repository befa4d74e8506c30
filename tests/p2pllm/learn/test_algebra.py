"""Blocks, ranks, weights and orders against dense float64: exact, and undone without a trace."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pllm import heads
from p2pllm.heads import Accepted
from p2pllm.learn import algebra, delta
from p2pllm.learn.algebra import Part, Parts, Update
from p2pllm.learn.delta import Delta, Factors
from tests.bench import algebra as bench

PARENT = "model.layers.3.mlp.up_proj"
BLOCK = "model.layers.1.mlp.up_proj"  # a block's layers are counted anew
MOST = 1e-6  # relative error, of issue 4; float64 stays below 1e-12


def noise(source: torch.Generator, *size: int) -> torch.Tensor:
    return torch.randn(*size, generator=source, dtype=torch.float64)


@st.composite
def federations(draw: st.DrawFn) -> tuple[tuple[int, int], list[Update]]:
    """One module of a parent, and changes of blocks of it with any ranks, weights and indices."""
    source = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    updates = []
    for _ in range(draw(st.integers(1, 5))):
        kept = [
            draw(st.none() | st.lists(st.integers(0, size - 1), min_size=1, unique=True))
            for size in shape
        ]
        part = Part(PARENT, shape, *kept)
        rows, columns = (len(k) if k else size for k, size in zip(kept, shape, strict=True))
        rank = draw(st.integers(1, 6))
        change = {BLOCK: Factors(noise(source, rows, rank), noise(source, rank, columns))}
        weight = draw(st.floats(0.01, 100))
        updates.append(Update(change, weight, {BLOCK: part}))
    return shape, updates


def dense_of(update: Update) -> tuple[torch.Tensor, torch.Tensor]:
    """A block's change in the parent, and 1 where the block has an entry; by plain indexing."""
    assert update.parts is not None
    part, factors = update.parts[BLOCK], update.delta[BLOCK]
    rows = torch.arange(part.shape[0]) if part.rows is None else torch.as_tensor(part.rows)
    columns = torch.arange(part.shape[1]) if part.columns is None else torch.as_tensor(part.columns)
    whole, mask = (torch.zeros(part.shape, dtype=torch.float64) for _ in range(2))
    whole[rows[:, None], columns] = factors.b @ factors.a
    mask[rows[:, None], columns] = 1.0
    return whole, mask


def wanted_mean(updates: list[Update]) -> torch.Tensor:
    above = sum(update.weight * dense_of(update)[0] for update in updates)
    below = sum(update.weight * dense_of(update)[1] for update in updates)
    return torch.where(below > 0, above / below.clamp(min=1e-9), 0.0)


def product(change: Delta, module: str = PARENT) -> torch.Tensor:
    return change[module].b @ change[module].a


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return float((found - wanted).norm()) <= MOST * max(float(wanted.norm()), 1e-9)


@settings(deadline=None, max_examples=80)
@given(federations())
def test_lifting_is_exact_and_restricting_takes_it_back(
    given_: tuple[tuple[int, int], list[Update]],
) -> None:
    for update in given_[1]:
        assert update.parts is not None
        lifted = algebra.lift(update.delta, update.parts)
        assert close(product(lifted), dense_of(update)[0])
        again = algebra.restrict(lifted, update.parts)[BLOCK]
        assert torch.equal(again.b, update.delta[BLOCK].b)
        assert torch.equal(again.a, update.delta[BLOCK].a)


@settings(deadline=None, max_examples=120)
@given(federations(), st.randoms(use_true_random=False))
def test_the_aggregate_is_the_mean_over_those_that_have_an_entry(
    given_: tuple[tuple[int, int], list[Update]], order: object
) -> None:
    _shape, updates = given_
    wanted = wanted_mean(updates)
    assert close(product(algebra.aggregate(updates)), wanted)
    order.shuffle(updates)  # type: ignore[attr-defined]
    assert close(product(algebra.aggregate(updates)), wanted)


@settings(deadline=None, max_examples=60)
@given(federations(), st.floats(0.3, 1.0), st.none() | st.integers(1, 4))
def test_what_compressing_leaves_out_is_the_residual(
    given_: tuple[tuple[int, int], list[Update]], energy: float, most: int | None
) -> None:
    whole = algebra.aggregate(given_[1])
    found = algebra.recompress(whole, energy, most)
    both = delta.stack([(found.kept, 1.0), (found.residual, 1.0)])
    assert close(product(both), product(whole))
    share = delta.norm(found.kept) ** 2 / delta.norm(whole) ** 2
    assert found.energy == pytest.approx(share, abs=1e-9)
    assert found.rank == (min(found.rank, most) if most else found.rank)
    if most is None:
        assert share >= energy - 1e-9
        fewer = algebra.recompress(whole, energy, found.rank - 1) if found.rank > 1 else None
        assert fewer is None or fewer.energy < energy + 1e-9


def test_blocks_that_differ_on_one_side_cost_no_rank() -> None:
    source = torch.Generator().manual_seed(1)
    halves: list[Parts] = [
        {PARENT: Part(PARENT, (12, 7), rows=range(12))},
        {PARENT: Part(PARENT, (12, 7), rows=range(6))},
        {PARENT: Part(PARENT, (12, 7), rows=range(3, 9))},
    ]
    updates = []
    for rank, parts in enumerate(halves, 1):
        rows = parts[PARENT].rows
        assert rows is not None
        change = {PARENT: Factors(noise(source, len(rows), rank), noise(source, rank, 7))}
        updates.append(Update(change, 1.0, parts))
    assert algebra.aggregate(updates)[PARENT].b.shape == (12, 1 + 2 + 3)


def test_changes_of_the_parent_itself_are_averaged_plainly() -> None:
    source = torch.Generator().manual_seed(2)
    one, other = ({PARENT: Factors(noise(source, 5, r), noise(source, r, 4))} for r in (2, 3))
    other["other"] = Factors(noise(source, 3, 1), noise(source, 1, 3))
    found = algebra.aggregate([Update(one, 1.0), Update(other, 3.0)])
    assert close(product(found), product(one) / 4 + product(other) * 3 / 4)
    assert close(product(found, "other"), product(other, "other"))  # one alone has it


@settings(deadline=None, max_examples=60)
@given(federations())
def test_shares_are_counted_and_weights_are_scaled_within_bounds(
    given_: tuple[tuple[int, int], list[Update]],
) -> None:
    _shape, updates = given_
    wanted = torch.tensor([update.weight for update in updates], dtype=torch.float64)
    wanted = wanted / wanted.sum()
    made = algebra.balanced(updates)
    weights = torch.tensor([update.weight for update in made], dtype=torch.float64)
    assert (weights <= algebra.MOST * wanted + 1e-12).all()
    assert (weights >= wanted / algebra.MOST - 1e-12).all()
    # By plain counting of the entries of a dense weight.
    masks = torch.stack([dense_of(update)[1].flatten() for update in updates])
    masks = masks[:, masks.any(0)]
    shares = (masks * weights[:, None] / (masks * weights[:, None]).sum(0)).mean(1)
    assert torch.allclose(algebra.shares(made), shares)
    if masks.all():
        assert torch.allclose(weights, wanted)


def test_balancing_evens_nested_blocks_and_leaves_whole_ones_alone() -> None:
    source = torch.Generator().manual_seed(5)
    updates = []
    for size in (12, 11, 8):
        change = {PARENT: Factors(noise(source, size, 2), noise(source, 2, 7))}
        updates.append(Update(change, 1.0, {PARENT: Part(PARENT, (12, 7), rows=range(size))}))
    assert algebra.shares(updates)[0] > 0.42
    even = algebra.balanced(updates)
    assert torch.allclose(algebra.shares(even), torch.full((3,), 1 / 3).double(), atol=1e-6)
    alike = [Update({PARENT: Factors(noise(source, 3, 1), noise(source, 1, 3))}, w) for w in (1, 3)]
    assert [one.weight for one in algebra.balanced(alike)] == pytest.approx([0.25, 0.75])


def test_what_does_not_fit_is_refused() -> None:
    source = torch.Generator().manual_seed(3)
    change = {BLOCK: Factors(noise(source, 5, 2), noise(source, 2, 4))}
    other = {BLOCK: Factors(noise(source, 6, 2), noise(source, 2, 4))}
    part = {BLOCK: Part(PARENT, (8, 4), rows=range(6))}
    for bad in (
        [Update(change, 0.0)],
        [Update(change, float("nan"))],
        [Update(change, 1.0, part)],
        [Update(change, 1.0, {})],
        [Update(change), Update(other)],
    ):
        with pytest.raises(ValueError, match=r"weight|block|shapes"):
            algebra.aggregate(bad)


def test_a_head_does_the_same_bits_whatever_came_first_and_forgets_whole() -> None:
    source = torch.Generator().manual_seed(4)
    ids = [digit * 64 for digit in "7a2c"]
    changes = {
        heads.ContentId(id_): {PARENT: Factors(noise(source, 9, r), noise(source, r, 8))}
        for r, id_ in enumerate(ids, 1)
    }
    pairs = [Accepted(id_, 0.25 + 0.1 * at) for at, id_ in enumerate(changes)]
    wanted = algebra.compose(pairs, changes)[PARENT]
    for order in itertools.permutations(pairs):
        again = algebra.compose([*order, order[0]], changes)[PARENT]  # one of them comes twice
        assert torch.equal(again.b, wanted.b)
        assert torch.equal(again.a, wanted.a)
    late = algebra.compose(heads.without(pairs, [pairs[2].manifest]), changes)[PARENT]
    never = algebra.compose([*pairs[:2], pairs[3]], changes)[PARENT]
    assert torch.equal(late.b, never.b)
    assert torch.equal(late.a, never.a)


def test_angles_tell_shared_directions_from_new_ones() -> None:
    eye = torch.eye(6, dtype=torch.float64)
    one = {PARENT: Factors(eye[:, :2], 5 * eye[:2])}
    turned = torch.tensor([[0.6, 0.0], [0.8, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    other = {PARENT: Factors(turned.double(), eye[:2]), "alone": Factors(eye, eye)}
    [(write, read)] = algebra.angles(one, other).values()
    assert write.tolist() == pytest.approx([1.0, 0.0], abs=1e-12)  # e1, e2 against their sum, e4
    assert read.tolist() == pytest.approx([1.0, 1.0])
    again = {PARENT: Factors(torch.cat([eye[:, :2]] * 2, 1), torch.cat([eye[:2]] * 2))}
    assert algebra.angles(again, one)[PARENT][0].tolist() == pytest.approx([1.0, 1.0])


def test_the_bench_measures_what_it_says() -> None:
    found = bench.main(["--short"])
    assert found["max_rel_error"] < MOST
    assert found["qr_speedup"] > 0
    rivals = found["rivals"]
    assert rivals["ours_exact"] < MOST < rivals["fedit_shared_a_drift_10_percent"]
    assert rivals["ours_rank_16"] == pytest.approx(rivals["flexlora_rank_16"], rel=1e-3)
