"""A change in 512 numbers, made so that products of sketches are products of changes.

Form i is the sum over the modules of uᵢᵀ ΔW vᵢ, with u and v vectors of random signs: the expected
product of two changes' forms is the inner product of the changes. The signs come from BLAKE3, so
that any program makes the same ones. Bilinear sketches of this kind: Hutchinson 1990 for the trace;
Johnson and Lindenstrauss 1984 for what it keeps.
"""

import torch
from blake3 import blake3

from p2pllm.learn.delta import Delta
from p2pllm.summary import FORMS, quantise


def sketch(delta: Delta, salt: str) -> bytes:
    """The quantised forms of a change.

    salt   the model id for sketches that go to others; something secret for one's own, which
           nobody can then make two unlike changes agree on
    """
    total = torch.zeros(FORMS, dtype=torch.float64)
    for module, factors in delta.items():
        rows, columns = factors.b.shape[0], factors.a.shape[1]
        left = _signs(f"{salt}/{module}/left", rows) @ factors.b
        right = _signs(f"{salt}/{module}/right", columns) @ factors.a.T
        total += (left * right).sum(dim=1)
    return quantise(total.tolist())


def _signs(label: str, size: int) -> torch.Tensor:
    """FORMS rows of `size` signs: bit j of row i is bit i * size + j of the hash, low bit first."""
    raw = blake3(f"p2pllm:sketch.1\0{label}".encode()).digest(length=FORMS * size // 8)
    drawn = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    bits = (drawn.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8)) & 1
    return (bits.view(FORMS, size).double() * 2) - 1
