"""Thin algebra against dense float64, and the gauge that must not show."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pllm.learn import delta
from p2pllm.learn.delta import Delta, Factors

NAMES = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj", "model.layers.2.q_proj")


@st.composite
def changes(draw: st.DrawFn) -> tuple[Delta, Delta]:
    """Two changes with modules of the same sizes, of any ranks, some of them degenerate."""
    source = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    made: tuple[dict[str, Factors], dict[str, Factors]] = ({}, {})
    for name in NAMES:
        rows, columns = draw(st.integers(1, 24)), draw(st.integers(1, 24))
        for one in made:
            if one or draw(st.booleans()) or name == NAMES[-1]:
                rank = draw(st.integers(1, 8))
                b = torch.randn(rows, rank, generator=source, dtype=torch.float64)
                a = torch.randn(rank, columns, generator=source, dtype=torch.float64)
                if draw(st.booleans()):
                    b[:, -1] = b[:, 0]
                one[name] = Factors(b, a)
    return made


def dense(change: Delta, name: str, like: Delta) -> torch.Tensor:
    if name in change:
        return change[name].b @ change[name].a
    return torch.zeros(len(like[name].b), like[name].a.shape[1], dtype=torch.float64)


def flat(change: Delta, other: Delta) -> torch.Tensor:
    names = sorted(change.keys() | other.keys())
    return torch.cat([dense(change, name, {**other, **change}).flatten() for name in names])


def regauged(change: Delta, seed: int) -> Delta:
    """The same change by other factors: (B G, G⁻¹ A) with G far from a rotation."""
    source = torch.Generator().manual_seed(seed)
    made = {}
    for name, factors in change.items():
        rank = factors.b.shape[1]
        g = torch.randn(rank, rank, generator=source, dtype=torch.float64)
        g = 30 * (g + 3 * math.sqrt(rank) * torch.eye(rank, dtype=torch.float64))
        made[name] = Factors(factors.b @ g, torch.linalg.solve(g, factors.a))
    return made


@settings(deadline=None, max_examples=60)
@given(changes())
def test_norms_products_and_spectra_are_those_of_the_dense_change(
    pair: tuple[Delta, Delta],
) -> None:
    one, other = pair
    x, y = flat(one, other), flat(other, one)
    size = float(x.norm() * y.norm())
    assert delta.norm(one) == pytest.approx(float(x.norm()), rel=1e-9)
    assert delta.inner(one, other) == pytest.approx(float(x @ y), abs=1e-9 * size)
    for factors in one.values():
        wanted = torch.linalg.svdvals(factors.b @ factors.a)
        found = delta.core(factors).values
        kept = min(len(found), len(wanted))
        assert torch.allclose(found[:kept], wanted[:kept], atol=1e-9 * float(wanted[0]))


@settings(deadline=None, max_examples=60)
@given(changes())
def test_overlaps_are_those_of_the_dense_products(pair: tuple[Delta, Delta]) -> None:
    one, other = pair
    found = delta.relation(one, other)
    for side, value in (("left", found.left), ("right", found.right)):
        shared = first = second = 0.0
        for name in one.keys() | other.keys():
            x, y = dense(one, name, {**other, **one}), dense(other, name, {**one, **other})
            p, q = (x @ x.T, y @ y.T) if side == "left" else (x.T @ x, y.T @ y)
            shared += float((p * q).sum())
            first += float((p * p).sum())
            second += float((q * q).sum())
        assert value == pytest.approx(shared / math.sqrt(first * second), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(changes(), st.integers(0, 2**31))
def test_other_factors_of_the_same_change_give_the_same_numbers(
    pair: tuple[Delta, Delta], seed: int
) -> None:
    one, other = pair
    again = regauged(one, seed)
    plain, told = delta.geometry(one, 3), delta.geometry(again, 3)
    assert told.norm == pytest.approx(plain.norm, rel=1e-8)
    assert told.modules == pytest.approx(plain.modules, rel=1e-8)
    assert told.thirds == pytest.approx(plain.thirds, rel=1e-8)
    assert told.spread == pytest.approx(plain.spread, abs=1e-8 * plain.norm)
    assert told.spectrum.shares == pytest.approx(plain.spectrum.shares, abs=1e-8)
    assert told.spectrum.entropy == pytest.approx(plain.spectrum.entropy, abs=1e-6)
    assert told.spectrum.largest == pytest.approx(plain.spectrum.largest, rel=1e-8)
    before, after = delta.relation(one, other), delta.relation(again, other)
    assert after.cosine == pytest.approx(before.cosine, abs=1e-8)
    assert after.left == pytest.approx(before.left, abs=1e-8)
    assert after.right == pytest.approx(before.right, abs=1e-8)


@settings(deadline=None, max_examples=40)
@given(changes(), st.floats(-2, 2), st.floats(-2, 2))
def test_a_stack_is_the_weighted_sum(pair: tuple[Delta, Delta], v: float, w: float) -> None:
    one, other = pair
    stacked = delta.stack([(one, v), (other, w)])
    wanted = v * flat(one, other) + w * flat(other, one)
    assert torch.allclose(flat(stacked, stacked), wanted, atol=1e-9)


def test_norms_are_told_by_kind_and_third() -> None:
    change = {
        name: Factors(
            torch.full((4, 1), value, dtype=torch.float64), torch.ones(1, 9, dtype=torch.float64)
        )
        for name, value in zip(NAMES, (1.0, 2.0, 2.0), strict=True)
    }
    found = delta.geometry(change, 3)
    assert found.thirds == pytest.approx((6.0, 12.0, 12.0))
    assert {part.name: round(part.norm, 9) for part in found.kinds} == {
        "q_proj": round(math.sqrt(180), 9),
        "up_proj": 12.0,
    }
    assert found.spectrum.shares[0] == pytest.approx(1)
    assert found.spectrum.stable_rank == pytest.approx(1)
    assert found.spread == pytest.approx(math.sqrt(2) / 3)  # of 1, 2 and 2


def test_identical_changes_overlap_whole_and_disjoint_ones_not() -> None:
    eye = torch.eye(4, dtype=torch.float64)
    one = {NAMES[0]: Factors(eye[:, :2], eye[:2])}
    other = {NAMES[0]: Factors(eye[:, 2:], eye[2:])}
    same, apart = delta.relation(one, one), delta.relation(one, other)
    assert (same.cosine, same.left, same.right) == pytest.approx((1, 1, 1))
    assert (apart.cosine, apart.left, apart.right) == (0, 0, 0)
