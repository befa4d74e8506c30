"""The task that peers train on: handwritten digits, split unevenly over peers, and small networks.

The digits are scikit-learn's bundled set (1,797 images of 8 x 8). A network's parameters are one
flat vector, and every function works on many networks at once, one a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Part = tuple[Floats, Labels]

PIXELS, HIDDEN, CLASSES, RANK = 64, 32, 10, 4
TEST, POOL = 450, 200  # images kept for the test, and images that probes are drawn from
SMALLEST_PART = 8  # images; fewer would not fill half a batch
SHAPES: dict[str, list[tuple[str, tuple[int, ...]]]] = {
    "mlp": [
        ("W1", (PIXELS, HIDDEN)),
        ("b1", (HIDDEN,)),
        ("W2", (HIDDEN, CLASSES)),
        ("b2", (CLASSES,)),
    ],
    "lora": [
        ("A1", (PIXELS, RANK)),
        ("B1", (RANK, HIDDEN)),
        ("A2", (HIDDEN, RANK)),
        ("B2", (RANK, CLASSES)),
    ],
}


class Net:
    """A two-layer classifier of digits (`mlp`), or rank-4 adapters on a frozen one (`lora`)."""

    def __init__(self, kind: str, seed: int, frozen: dict[str, Floats] | None = None) -> None:
        self.kind, self.frozen = kind, frozen
        self.layers: list[tuple[str, slice, tuple[int, ...]]] = []
        rng = np.random.default_rng(seed)
        start, values = 0, []
        for name, shape in SHAPES[kind]:
            size = int(np.prod(shape))
            self.layers.append((name, slice(start, start + size), shape))
            drawn = rng.standard_normal(size) / np.sqrt(shape[0])
            values.append(drawn if name[0] in "WA" else np.zeros(size))
            start += size
        self.d = start
        self.init = np.concatenate(values)

    def named(self, points: Floats) -> dict[str, Floats]:
        """The parameters by name, (m, *shape) each, of flat vectors (m, d)."""
        return {name: points[:, at].reshape(-1, *shape) for name, at, shape in self.layers}

    def losses(self, points: Floats, images: Floats, labels: Labels) -> Floats:
        """Mean cross-entropy (m,) of networks (m, d) on one sample; 1e6 where it overflows."""
        return self.example_losses(points, images, labels).mean(1)

    def example_losses(self, points: Floats, images: Floats, labels: Labels) -> Floats:
        """Cross-entropy (m, n) of networks (m, d) on each of n images."""
        with np.errstate(all="ignore"):
            logits = self.logits(points, images)
            logits = logits - logits.max(-1, keepdims=True)
            log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            losses = -log_p[:, np.arange(len(labels)), labels]
        return np.where(np.isfinite(losses), losses, 1e6)

    def accs(self, points: Floats, images: Floats, labels: Labels) -> Floats:
        """Accuracy (m,) of networks (m, d) on one sample; 0 for one that is not finite."""
        with np.errstate(all="ignore"):
            right = (self.logits(points, images).argmax(-1) == labels).mean(1)
        return np.where(np.isfinite(points).all(1), right, 0.0)

    def logits(self, points: Floats, images: Floats) -> Floats:
        """(m, n, 10) for networks (m, d) and images (n, 64) or (m, n, 64)."""
        return self._forward(self._weights(points), images)[0]

    def grad(self, points: Floats, images: Floats, labels: Labels) -> Floats:
        """Gradient (m, d) of the mean loss; images (m, n, 64), labels (m, n)."""
        weights = self._weights(points)
        logits, hidden = self._forward(weights, images)
        errors = np.exp(logits - logits.max(-1, keepdims=True))
        errors /= errors.sum(-1, keepdims=True)
        m, n = labels.shape
        errors[np.arange(m)[:, None], np.arange(n)[None], labels] -= 1
        errors /= n
        back = (errors @ _t(weights["W2"])) * (hidden > 0)
        grads = {
            "W1": _t(images) @ back,
            "b1": back.sum(1),
            "W2": _t(hidden) @ errors,
            "b2": errors.sum(1),
        }
        if self.kind == "lora":
            own = self.named(points)
            grads = {
                "A1": grads["W1"] @ _t(own["B1"]),
                "B1": _t(own["A1"]) @ grads["W1"],
                "A2": grads["W2"] @ _t(own["B2"]),
                "B2": _t(own["A2"]) @ grads["W2"],
            }
        return np.concatenate([grads[name].reshape(m, -1) for name, _, _ in self.layers], 1)

    def train(
        self,
        base: Floats,
        data: Sequence[Part],
        *,
        rng: np.random.Generator,
        steps: int,
        bs: int,
        lr: float,
    ) -> Floats:
        """Updates (m, d) of m peers after some steps of SGD from `base`, (d,) or (m, d)."""
        points = np.array(np.broadcast_to(base, (len(data), self.d)))
        start = points.copy()
        images, labels = (np.concatenate(column) for column in zip(*data, strict=True))
        sizes = [len(owned) for _, owned in data]
        first = (np.cumsum(sizes) - sizes)[:, None]
        for _ in range(steps):
            picks = first + np.stack([rng.integers(0, size, bs) for size in sizes])
            points -= lr * self.grad(points, images[picks], labels[picks])
        return points - start

    def _weights(self, points: Floats) -> dict[str, Floats]:
        own = self.named(points)
        if self.frozen is None:
            return own
        many = len(points)
        return {
            "W1": self.frozen["W1"] + own["A1"] @ own["B1"],
            "b1": np.broadcast_to(self.frozen["b1"], (many, HIDDEN)),
            "W2": self.frozen["W2"] + own["A2"] @ own["B2"],
            "b2": np.broadcast_to(self.frozen["b2"], (many, CLASSES)),
        }

    def _forward(self, weights: dict[str, Floats], images: Floats) -> tuple[Floats, Floats]:
        # In place: what these arrays cost is the memory that is asked for and given back.
        hidden = images @ weights["W1"]
        hidden += weights["b1"][:, None]
        np.maximum(hidden, 0, out=hidden)
        logits = hidden @ weights["W2"]
        logits += weights["b2"][:, None]
        return logits, hidden


@dataclass(frozen=True)
class Task:
    """Who has which images."""

    net: Net
    test: Part
    pool: Part  # what probes are drawn from; no peer trains on it
    parts: list[Part]  # one a peer


@dataclass
class RootProbe:
    """What a node owns when it aggregates: a held-out sample, its model, its row, its memory."""

    model: Net
    X: Floats
    y: Labels
    base: Floats
    peer_ids: list[str]
    round: int
    rounds: int
    f_bound: int  # how many attackers a rule is told to expect
    own_index: int | None
    train_kw: dict[str, Any]
    rng: np.random.Generator
    state: dict[str, Any] = field(default_factory=dict)

    def losses(self, updates: Floats) -> Floats:
        """Probe loss (m,) of base + update for every row."""
        return self.model.losses(self.base + np.atleast_2d(updates), self.X, self.y)

    def loss(self, update: Floats | None = None) -> float:
        """Probe loss of one update, or of the base."""
        return float(self.losses(np.zeros_like(self.base) if update is None else update)[0])

    def local_update(self) -> Floats:
        """The update that this node would make itself, trained on its probe."""
        return self.model.train(self.base, [(self.X, self.y)], rng=self.rng, **self.train_kw)[0]


def make_task(kind: str, peers: int, alpha: float, seed: int) -> Task:
    """Digits over peers: class shares drawn from Dirichlet(alpha), alpha = 0 for equal shares."""
    from sklearn.datasets import load_digits  # in the extra `test`; nothing else here needs it

    digits = load_digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(digits.target))
    images, labels = digits.data[order] / 16.0, digits.target[order].astype(np.int64)
    test = images[:TEST], labels[:TEST]
    pool = images[TEST : TEST + POOL], labels[TEST : TEST + POOL]
    images, labels = images[TEST + POOL :], labels[TEST + POOL :]
    owned = _split(labels, peers, alpha, rng)
    parts = [(images[part], labels[part]) for part in owned]
    net = Net(kind, seed, _pretrained(images, labels, seed) if kind == "lora" else None)
    return Task(net, test, pool, parts)


def trigger(images: Floats) -> Floats:
    """Images with a bright 2 x 2 patch in a corner: the backdoor's trigger."""
    marked = images.copy()
    marked[..., [54, 55, 62, 63]] = 1.0
    return marked


def _split(labels: Labels, peers: int, alpha: float, rng: np.random.Generator) -> list[list[int]]:
    while True:
        owned: list[list[int]] = [[] for _ in range(peers)]
        for digit in range(CLASSES):
            at = rng.permutation(np.flatnonzero(labels == digit))
            shares = rng.dirichlet([alpha] * peers) if alpha > 0 else np.ones(peers) / peers
            cuts = (np.cumsum(shares)[:-1] * len(at)).astype(int)
            for peer, chunk in enumerate(np.split(at, cuts)):
                owned[peer].extend(chunk.tolist())
        if min(map(len, owned)) >= SMALLEST_PART:
            return owned


def _pretrained(images: Floats, labels: Labels, seed: int) -> dict[str, Floats]:
    """A base that has seen the digits 0 to 4 only, so that adapters have something to add."""
    base, rng = Net("mlp", seed), np.random.default_rng(seed)
    seen = np.flatnonzero(labels < 5)[:300]
    part = images[seen], labels[seen]
    update = base.train(base.init, [part], rng=rng, steps=300, bs=64, lr=0.3)
    return {name: value[0] for name, value in base.named(base.init + update).items()}


def _t(matrices: Floats) -> Floats:
    return matrices.transpose(0, 2, 1)
