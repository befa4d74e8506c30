"""The algebra of changes ΔW = (alpha / rank) B A, done on their thin factors in float64.

A dense ΔW is never made. Everything here is a function of ΔW alone: the factors' own norms and
angles can be anything for one ΔW, since (B G)(G⁻¹ A) is the same product for every invertible G.
With B = Q_b R_b and Aᵀ = Q_a R_a the core R_b R_aᵀ is rank by rank and has the singular values of
ΔW; O((rows + columns) rank²) a module.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import torch
from safetensors.torch import load_file

from p2pllm import adapter
from p2pllm.errors import PeerError
from p2pllm.job_fields import Laid
from p2pllm.manifest import Lora
from p2pllm.summary import Geometry, Part, Relation, Spectrum

SHOWN = 8  # energy shares that are told
_LAYER = re.compile(r"\.layers?\.(\d+)\.|\.h\.(\d+)\.")


class Factors(msgspec.Struct, frozen=True):
    """One module's change, b @ a; the scale is in b."""

    b: torch.Tensor  # (rows, rank)
    a: torch.Tensor  # (rank, columns)


class Core(msgspec.Struct, frozen=True):
    """The thin singular value decomposition of one module's change."""

    left: torch.Tensor  # (rows, rank), orthonormal columns
    values: torch.Tensor  # (rank,), falling
    right: torch.Tensor  # (columns, rank)


Delta = Mapping[str, Factors]  # by the name of the module in the base


def read(adapter_dir: Path, lora: Lora) -> Delta:
    """The change an adapter makes that `adapter.inspect` has passed.

    Raises PeerError E0609 for NaN or infinite numbers and E0705 if it changes nothing.
    """
    tensors = load_file(adapter_dir / adapter.WEIGHTS_FILE)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise PeerError("E0609", f"{name[:120]} holds NaN or infinite numbers")
    delta = from_tensors(tensors, lora.alpha / lora.rank)
    if norm(delta) == 0:
        raise PeerError("E0705", "the adapter changes nothing: every product B A is zero")
    return delta


def from_tensors(tensors: Mapping[str, torch.Tensor], scale: float) -> Delta:
    """The change that tensors named as PEFT names them make."""
    made = {}
    for name in sorted(tensors):
        if name.endswith(".lora_A.weight"):
            b = tensors[name.replace(".lora_A.", ".lora_B.")].double() * scale
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            made[module] = Factors(b, tensors[name].double())
    return made


def stack(parts: Sequence[tuple[Delta, float]]) -> Delta:
    """The weighted sum of changes, exactly: their factors side by side."""
    modules = sorted({module for delta, _weight in parts for module in delta})
    made = {}
    for module in modules:
        found = [(delta[module], weight) for delta, weight in parts if module in delta]
        made[module] = Factors(
            torch.cat([factors.b * weight for factors, weight in found], dim=1),
            torch.cat([factors.a for factors, _weight in found], dim=0),
        )
    return made


def laid(found: Sequence[Laid], base_dir: Path) -> Delta | None:
    """The weighted sum of adapters on one base; None without any. Raises as `read` does."""
    folders = [(Path(one.adapter_dir), one.weight) for one in found]
    parts = [(read(path, adapter.inspect(path, base_dir)), weight) for path, weight in folders]
    return stack(parts) if parts else None


def core(factors: Factors) -> Core:
    """The singular values and directions of b @ a."""
    left, left_r = torch.linalg.qr(factors.b)
    right, right_r = torch.linalg.qr(factors.a.T)
    u, values, vt = torch.linalg.svd(left_r @ right_r.T)
    return Core(left @ u[:, : len(values)], values, right @ vt.T[:, : len(values)])


def inner(one: Delta, other: Delta) -> float:
    """The sum over all weights of the products of two changes: tr((B₂ᵀB₁)(A₁A₂ᵀ)) a module."""
    total = 0.0
    for module in one.keys() & other.keys():
        x, y = one[module], other[module]
        total += float(((y.b.T @ x.b) * (y.a @ x.a.T)).sum())
    return total


def norm(delta: Delta) -> float:
    """The Frobenius norm of the whole change."""
    return math.sqrt(sum(float((core(one).values ** 2).sum()) for one in delta.values()))


def geometry(delta: Delta, layers: int) -> Geometry:
    """The numbers of one change on a base of so many layers."""
    cores = {module: core(factors) for module, factors in delta.items()}
    squares = {module: float((one.values**2).sum()) for module, one in cores.items()}
    kinds: dict[str, float] = {}
    thirds = [0.0, 0.0, 0.0]
    for module, square in squares.items():
        kind = module.rpartition(".")[2]
        kinds[kind] = kinds.get(kind, 0.0) + square
        found = _LAYER.search(f".{module}.")
        layer = int(found[1] or found[2]) if found else 0
        thirds[min(2, 3 * layer // layers)] += square
    scaled = [
        math.sqrt(square / (delta[module].b.shape[0] * delta[module].a.shape[1]))
        for module, square in squares.items()
    ]
    mean = sum(scaled) / len(scaled)
    return Geometry(
        norm=math.sqrt(sum(squares.values())),
        modules=tuple(math.sqrt(squares[module]) for module in sorted(squares)),
        spread=math.sqrt(sum((one - mean) ** 2 for one in scaled) / len(scaled)),
        kinds=tuple(Part(kind, math.sqrt(kinds[kind])) for kind in sorted(kinds)),
        thirds=tuple(math.sqrt(square) for square in thirds),
        spectrum=_spectrum([one.values for one in cores.values()]),
    )


def relation(delta: Delta, reference: Delta) -> Relation:
    """A change beside another: cosine, and how far they write to and read the same directions.

    An overlap is the cosine of ΔWΔWᵀ (or ΔWᵀΔW) of both, summed over modules: the squared cosines
    between all pairs of singular directions, each pair weighed by both energies. It moves smoothly
    where singular values cross, which the angles between "the first four directions" do not.
    """
    lengths = norm(delta) * norm(reference)
    ones = {module: core(factors) for module, factors in delta.items()}
    others = {module: core(factors) for module, factors in reference.items()}
    return Relation(
        cosine=_cosine(inner(delta, reference), lengths),
        left=_overlap(ones, others, "left"),
        right=_overlap(ones, others, "right"),
    )


def _overlap(ones: Mapping[str, Core], others: Mapping[str, Core], side: str) -> float:
    shared = first = second = 0.0
    for one in ones.values():
        first += float((one.values**4).sum())
    for module, other in others.items():
        second += float((other.values**4).sum())
        if module in ones:
            angles = getattr(ones[module], side).T @ getattr(other, side)
            energy = torch.outer(ones[module].values ** 2, other.values**2)
            shared += float((angles**2 * energy).sum())
    return max(0.0, _cosine(shared, math.sqrt(first * second)))


def _cosine(product: float, lengths: float) -> float:
    return max(-1.0, min(1.0, product / lengths)) if lengths > 0 else 0.0


def _spectrum(spectra: Sequence[torch.Tensor]) -> Spectrum:
    total = sum(float((values**2).sum()) for values in spectra)
    shares, entropy, stable = [0.0] * SHOWN, 0.0, 0.0
    for values in spectra:
        energy = values**2
        weight = float(energy.sum()) / total
        if weight == 0:
            continue
        part = energy / energy.sum()
        for at, share in enumerate(part[:SHOWN].tolist()):
            shares[at] += weight * share
        entropy += weight * float(torch.special.entr(part).sum())
        stable += weight / float(part[0])
    return Spectrum(
        shares=tuple(min(1.0, share) for share in shares),
        entropy=max(0.0, entropy),
        stable_rank=stable,
        largest=max(float(values[0]) for values in spectra),
    )
