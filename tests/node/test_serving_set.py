"""What a node serves is held against the best it had: the trial is real, on trained adapters.

What alone each update is like is made up as in test_judging_flow: good by every number.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from nacl.signing import SigningKey
from torch.nn import functional
from transformers import PreTrainedModel

from node import gating
from node.gating import RULE
from node.library import Library
from p2pllm.ids import ContentId
from p2pllm.jobs_round import MergeJob, MergeReport
from p2pllm.jobs_shadow import Scored
from p2pllm.keys import Identity
from p2pllm.learn import adapter_io, delta, model, round_measure, transfer
from p2pllm.learn.delta import Delta, Factors
from p2pllm.learn.graft import grafted
from p2pllm.store import Store
from tests.node.test_judging import taught
from tests.node.test_judging_flow import PLACE, Measurer, Node
from tests.p2pllm.learn import planted, tiny
from trust.ledger import Operator

HONEST, STEPS = 12, 3
KEYS = [Identity(SigningKey(bytes([100 + n]) * 32)) for n in range(HONEST + STEPS)]


class Trained:
    """A base that has read other text, what text of the place teaches it, and what undoes that."""

    def __init__(self, folder: Path) -> None:
        self.base = tiny.imported(tiny.save_base(folder / "foreign", taught()), folder / "base")
        config = model.load_config(self.base)
        self.network: PreTrainedModel = model.load_base(self.base, config, torch.float32)
        self.network.requires_grad_(False)
        self.texts = tiny.sentences(60, seed=11)
        self.useful = planted.learnt(self.network, self.rows(tiny.sentences(24, seed=1)), 6)
        self.undoing = self._undoing(self.rows(tiny.sentences(24, seed=2)))

    def rows(self, texts: list[str]) -> torch.Tensor:
        tokenizer = model.load_tokenizer(self.base)
        return torch.tensor([tokenizer.encode(text).ids[:65] for text in texts])

    def loss(self, *parts: tuple[Delta, float]) -> float:
        laid = delta.stack(parts) if parts else None
        found = transfer.losses(self.network, laid, list(self.rows(self.texts)))
        return sum(found) / len(found)

    def _undoing(self, rows: torch.Tensor) -> Delta:
        """A change that helps alone, and harms beside what is useful."""
        made = planted.noise(self.network, seed=0, rank=8)
        leaves = [part.requires_grad_(True) for one in made.values() for part in (one.a, one.b)]
        optimizer = torch.optim.AdamW(leaves, lr=1e-2, weight_decay=0.0)

        def loss(change: Delta | None) -> torch.Tensor:
            with grafted(self.network, change):
                logits = self.network(input_ids=rows, use_cache=False).logits[:, :-1]
            return functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

        for part in made.values():
            with torch.no_grad():
                part.b.zero_()
        bare = float(loss(None))
        for _ in range(12):
            beside = loss(delta.stack([(self.useful, 0.8), (made, 0.2)]))
            (5 * functional.relu(loss(made) - (bare - 0.2)) - beside).backward()
            optimizer.step()
            optimizer.zero_grad()
        return {
            name: Factors(one.b.detach().double(), one.a.detach().double())
            for name, one in made.items()
        }


class Trier(Measurer):
    """Tries sets as a learn process does; all else is made up."""

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.trained, self.bare = trained, trained.loss()
        self.jobs: list[MergeJob] = []
        self.reports: list[MergeReport] = []

    async def run(self, job: Any, report: object) -> Any:
        if not isinstance(job, MergeJob):
            return await super().run(job, report)
        self.jobs.append(job)
        job = msgspec.structs.replace(
            job, base_dir=str(self.trained.base), ceiling=self.bare + job.margin
        )
        found = round_measure.tried(job, lambda event: None)
        assert isinstance(found, MergeReport)
        self.reports.append(found)
        return found


class Real(Node):
    """A node whose updates are adapters that were trained."""

    measurer: Trier

    def use(self, trained: Trained) -> None:
        self.trained = trained
        self.measurer = self.services.learner = Trier(trained)
        self.trust.secret = b"0" * 32  # the same documents are drawn each time
        self.trust.probes.remove(PLACE)
        self.trust.probes.add(PLACE, trained.texts, "given")
        self.changes: dict[ContentId, Delta] = {}

    def give(self, by: Identity, name: str, change: Delta, kind: str = "good") -> ContentId:
        """An update of a peer; a hair longer for each name, so that no two are one file."""
        change = delta.stack([(change, 1 + len(self.changes) / 1000)])
        folder = self.home / f"real-{name}"
        adapter_io.write(change, self.trained.base, folder)
        sent = self.send_folder(by, name, kind, folder)
        self.changes[sent] = change
        return sent

    def honest(self, count: int) -> set[ContentId]:
        """So many peers taught the place what they know."""
        sent = {self.give(KEYS[n], f"useful-{n}", self.trained.useful) for n in range(count)}
        self.advance()
        assert self.served() == sent
        return sent

    def loss(self) -> float:
        """Of the place's own text, by what is served."""
        head = self.trust.heads.read(PLACE)
        assert head is not None
        return self.trained.loss(*((self.changes[o.manifest], o.weight) for o in head.accepted))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def node(tmp_path: Path, trained: Trained) -> Iterator[Real]:
    with closing(Library(tmp_path / "node.db")) as library:
        made = Real(tmp_path, library, Store(tmp_path / "store", 10**8))
        made.use(trained)
        yield made
        made.trust.db.close()


def test_harm_in_steps_too_small_to_refuse_is_held_against_the_best(
    node: Real, trained: Trained
) -> None:
    useful = node.honest(HONEST)
    best, undoing = node.loss(), delta.stack([(trained.undoing, 0.4)])
    assert trained.loss((undoing, 1.0)) < node.measurer.bare - 1, "it helps by itself"
    for n in range(STEPS):
        node.give(KEYS[HONEST + n], f"undoing-{n}", undoing)
        node.advance()
        assert node.loss() < best + RULE.damage
    assert len(node.served() - useful) == 1, "the first cost less than noise"
    merges = [one for _, one in node.trust.books.place(PLACE).merges]
    assert [why.code for one in merges for why in one.unfit] == ["gate_best"] * (STEPS - 1)
    assert {node.state(one) for one in KEYS} == {"probation"}, "nobody is blamed"
    more = node.give(KEYS[0], "useful-again", trained.useful)
    node.advance()
    assert more in node.served(), "what is useful comes in all the same"


def test_who_harms_beside_what_is_served_is_left_out_and_not_who_came_with_it(
    node: Real, trained: Trained
) -> None:
    node.measurer.gains["good-loud"] = 0.9  # alone it gives more than any other
    served = node.honest(6)
    honest = node.give(KEYS[6], "useful-6", trained.useful)
    node.give(KEYS[7], "undoing", trained.undoing, "good-loud")
    node.advance()
    assert node.served() == {*served, honest}
    passes = node.measurer.reports[1].without
    assert len(passes) == 2, "one for each that is new"


def test_what_was_best_and_was_taken_back_is_not_held_against_anybody(
    node: Real, trained: Trained
) -> None:
    node.honest(3)
    node.trust.books.record(PLACE, Operator("quarantine", KEYS[2].node, "a test"))
    more = node.give(KEYS[3], "useful-3", trained.useful)
    node.advance()
    assert len(gating.state(node.services, PLACE).best) == 3
    assert len(node.measurer.jobs[-1].best) == 2
    assert more in node.served()
    assert len(node.served()) == 3


def test_a_set_is_held_against_the_last_and_the_best_on_the_text_of_today(node: Real) -> None:
    for now, best, wrong in (
        (-0.004, 0.004, None),
        (-0.004, 0.008, "best"),  # a small step, far below the best
        (-0.004, -0.1, None),  # what was best is not best for the text of today
        (0.02, 0.1, None),  # on its way back there
        (-0.02, 0.0, "together"),
    ):
        found = gating.together(node.services, PLACE, (), spread(now), spread(best))
        assert (found.code if found else None) == wrong


def spread(mean: float) -> tuple[Scored, ...]:
    """Gains of thirty documents a part, all but alike."""
    gains = tuple(mean + (n % 3 - 1) / 1000 for n in range(30))
    return tuple(Scored(str(PLACE), part, gains) for part in ("probes", "anchors"))
