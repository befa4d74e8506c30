"""The life of a place on one node, round after round: measuring is made up, all else is real.

Ledger, books, head file, store and library are those of a daemon; what a learn job would answer is
said by the test, since it takes seconds a round and is tested where it is done.
"""

import errno
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
from nacl.signing import SigningKey

from node import gating, judging, lower, obtain, serving_set, trust_answers
from node.books import Books
from node.config import Config, TrustConfig
from node.events import Events
from node.judgement import Judgement, open_judgement
from node.library import Library
from node.models import Models
from node.round_plan import MAX_TRIES, fetched
from node.standing import Faults
from node.trust_answers import _bundle
from node.trust_db import Update
from p2pllm import adapter
from p2pllm import manifest as manifests
from p2pllm.adopt import Following, Vouched
from p2pllm.errors import LocalError, Unavailable
from p2pllm.gains import Gain, seal
from p2pllm.ids import ContentId
from p2pllm.jobs_round import (
    Finding,
    MergeJob,
    MergeReport,
    RoundJob,
    RoundReport,
    Unmeasured,
)
from p2pllm.jobs_shadow import Scored, ShadowJob, ShadowReport
from p2pllm.keys import Identity
from p2pllm.manifest import Lora, Manifest, model_id
from p2pllm.names import Place
from p2pllm.store import Store
from p2pllm.summary import BUCKETS, FORMS, UpdateSummary
from tests.node.test_effects import SUMMARY
from trust.ledger import Operator
from trust.verified import verify

PLACE = Place("en", "medical")
ME, *PEERS = (Identity(SigningKey(bytes([n]) * 32)) for n in range(6))
LORA = Lora(rank=4, alpha=8.0, targets=("q_proj",), tensors=2)


class Measurer:
    """Answers jobs as a learn process would, from what the files are said to hold."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}  # content id of weights -> good…, bad or broken
        self.fault: LocalError | None = None
        self.merges = 0
        self.gains: dict[str, float] = {}  # of documents, by kind
        self.together = 0.1  # what documents gain by what would be served
        self.live = 0.1  # and by a change that is on trial

    async def run(self, job: Any, _report: object) -> Any:
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault
        if isinstance(job, MergeJob):
            self.merges += 1
            stays = tuple(range(len(job.added)))
            return MergeReport(
                before=4.0,
                whole=3.9,
                after=3.9,
                stays=stays,
                shadow=scored(self.together),
                seconds=0.0,
                peak_rss=0,
            )
        if isinstance(job, ShadowJob):
            parts = (self.live,) * len(job.texts)
            found = tuple(
                Scored(text.name, text.part, gains(mean, text.part))
                for text, mean in zip(job.texts, parts, strict=True)
            )
            return ShadowReport(found=found, seconds=0.0, peak_rss=0)
        assert isinstance(job, RoundJob)
        own = summary("good", "own", job.epoch)
        found = tuple(self._found(one.weights, job.epoch) for one in job.candidates)
        return RoundReport(own=own, last=None, found=found, seconds=0.0, peak_rss=0)

    def _found(self, weights: ContentId, epoch: int) -> Finding:
        kind = self.kinds[weights]
        if kind == "broken":
            told = Unmeasured(kind="peer", code="E0609", message="holds NaN")
            return Finding(unmeasured=told)
        gain = self.gains.get(kind, 0.3 if kind.startswith("good") else -0.3)
        return Finding(summary=summary(kind, weights, epoch), shadow=scored(gain))


def scored(gain: float, anchors: float | None = None) -> tuple[Scored, ...]:
    """A text's parts that gain so much on the mean."""
    rest = gain if anchors is None else anchors
    place = str(PLACE)
    return (
        Scored(place, "probes", gains(gain, "probes")),
        Scored(place, "anchors", gains(rest, "anchors")),
    )


def gains(mean: float, part: str) -> tuple[float, ...]:
    """The gains of thirty documents."""
    rng = random.Random(f"{mean} {part}")
    return tuple(rng.gauss(mean, 0.05) for _ in range(30))


def summary(kind: str, name: str, epoch: int) -> UpdateSummary:
    """What measuring finds of an update that tells the probe's kinds apart, or undoes that."""
    rng = random.Random(f"{name} {epoch}")
    sign = 1.0 if kind.startswith("good") else -1.0
    shift = tuple(
        tuple(sign * (row == column) + rng.gauss(0, 0.05) for column in range(BUCKETS))
        for row in range(BUCKETS)
    )
    here = SUMMARY.alone.influences[0]
    here = msgspec.structs.replace(here, before=4.0, after=4.0 - 0.3 * sign, error=0.01)
    quiet = msgspec.structs.replace(SUMMARY.alone.battery, chain_score=0.0)
    effect = msgspec.structs.replace(SUMMARY.alone, influences=(here,), battery=quiet)
    return msgspec.structs.replace(
        SUMMARY,
        place=PLACE,
        relation=None,
        alone=effect,
        merged=None,
        shift=shift,
        sketch=random.Random(name).randbytes(FORMS).replace(b"\x80", b"\x7f"),
    )


class Node:
    """One node's place, with the parts of a daemon that judging uses."""

    def __init__(self, home: Path, library: Library, store: Store) -> None:
        self.models = Models(home, store, library, ME)
        events = Events(lambda: 0.0)
        faults = Faults(events, lambda: 0.0)
        self.trust: Judgement = open_judgement(home, ME, library, faults, (str(PLACE),))
        self.measurer = Measurer()
        settings = TrustConfig(settle_s=0.0, review_s=0.0)
        self.services: Any = SimpleNamespace(
            config=Config(home=home, trust=settings),
            identity=ME,
            store=store,
            library=library,
            models=self.models,
            trust=self.trust,
            learner=self.measurer,
            events=events,
            memory_bytes=0,
            network=SimpleNamespace(
                dht=_no_dht, swarm=_no_dht, offers=SimpleNamespace(refresh_now=_nothing)
            ),
        )
        self.home = home
        self.base = self._base()
        self.trust.probes.add(PLACE, [f"fever and cells {n} " * 4 for n in range(60)], "given")

    def _base(self) -> Manifest:
        folder = self.home / "base"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        files = self.models.keep_files(folder, _nothing)
        made = self._manifest("base", ME, files, model_id(files))
        self.models._seal(made, "local", "")
        return made

    def _manifest(self, name: str, by: Identity, files: Any, model: ContentId) -> Manifest:
        kind = "base" if name == "base" else "adapter"
        return Manifest(
            kind=kind,
            place=PLACE,
            name=name,
            by=by.node,
            created_at=1.0,
            licence="MIT",
            consent=True,
            model=model,
            params=1,
            base_size=0 if kind == "base" else 1,
            files=files,
            lora=None if kind == "base" else LORA,
        )

    def send(self, by: Identity, name: str, kind: str) -> ContentId:
        """An update of a peer, fetched and not yet judged."""
        folder = self.home / f"sent-{name}"
        folder.mkdir()
        (folder / adapter.WEIGHTS_FILE).write_text(name)
        return self.send_folder(by, name, kind, folder)

    def send_folder(self, by: Identity, name: str, kind: str, folder: Path) -> ContentId:
        """The same of an adapter that is there."""
        files = self.models.keep_files(folder, _nothing)
        weights = next(one.blake3 for one in files if one.path == adapter.WEIGHTS_FILE)
        self.measurer.kinds[weights] = kind
        made = self._manifest(name, by, files, self.base.model)
        manifest_id, record = manifests.seal(by, made)
        self.models.store.put_bytes(record)
        self.models._record(manifest_id, made, "pulled", "", offered=False)
        update = Update(
            place=PLACE,
            manifest=manifest_id,
            peer=by.node,
            model=made.model,
            size=made.size,
            state="waiting",
        )
        self.trust.db.put(fetched(update, 0.0, ours=True))
        return manifest_id

    def advance(self, rounds: int = 1) -> None:
        """So many steps of the loop of judging; each judges what is due."""
        for _ in range(rounds):
            trio.run(self._step)

    async def _step(self) -> None:
        pending = self.trust.db.pending(PLACE)
        step = judging.round_plan.next_step(pending, 1e12)
        if isinstance(step, judging.Measure):
            await judging._round(self.services, PLACE, step)

    def served(self) -> set[ContentId]:
        head = self.trust.heads.read(PLACE)
        return {pair.manifest for pair in head.accepted} if head else set()

    def state(self, peer: Identity) -> str:
        return self.trust.opinions.state(peer.node, PLACE)

    def update(self, manifest: ContentId) -> Update:
        found = self.trust.db.update(PLACE, manifest)
        assert found is not None
        return found

    def offered(self) -> set[ContentId]:
        held = self.services.library.models()
        return {one.manifest for one in held if one.offered and one.kind == "adapter"}


def _no_dht() -> object:
    raise Unavailable("E0904", "no DHT in this test")


def _nothing(*_given: object) -> None:
    pass


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with closing(Library(tmp_path / "node.db")) as library:
        made = Node(tmp_path, library, Store(tmp_path / "store", 10**8))
        yield made
        made.trust.db.close()


def test_what_is_good_is_served_and_offered_and_what_is_bad_is_held(node: Node) -> None:
    good, bad = node.send(PEERS[0], "good", "good"), node.send(PEERS[1], "bad", "bad")
    node.advance()
    assert node.served() == node.offered() == {good}
    assert (node.update(good).state, node.update(bad).state) == ("judged", "held")


def test_harm_on_every_probe_quarantines_and_takes_back_what_the_peer_gave(node: Node) -> None:
    early = node.send(PEERS[1], "early", "good")
    node.send(PEERS[0], "good", "good")
    node.advance()
    assert early in node.served()
    node.send(PEERS[1], "bad", "bad")
    for number in range(8):
        node.send(PEERS[0], f"good {number}".replace(" ", "-"), "good")
        node.advance()
    assert node.state(PEERS[1]) in ("quarantined", "banned")
    assert node.state(PEERS[0]) in ("probation", "trusted")
    assert early not in node.served() | node.offered()
    assert node.services.library.get(early) is None  # its bytes are gone as well


def test_a_quarantined_peer_is_judged_in_the_shadow_and_comes_back_by_new_work(node: Node) -> None:
    node.trust.books.record(PLACE, _operator("quarantine", PEERS[1]))
    for number in range(8):
        shadow = node.send(PEERS[1], f"new-{number}", "good")
        node.send(PEERS[0], f"good-{number}", "good")
        assert node.state(PEERS[1]) == "quarantined"
        node.advance()
        assert shadow not in node.served()
        if number < 7:
            assert node.update(shadow).state == "judged"  # once: repeating it earns nothing
    assert node.state(PEERS[1]) == "probation"
    back = node.send(PEERS[1], "back", "good")
    node.advance(6)  # what it adds is a running mean, and starts again from nothing
    assert back in node.served()


def _operator(act: str, peer: Identity) -> Any:
    return Operator(act, peer.node, "a test")  # type: ignore[arg-type]


def test_files_that_cannot_be_measured_are_the_publishers_fault(node: Node) -> None:
    broken = node.send(PEERS[1], "broken", "broken")
    node.send(PEERS[0], "good", "good")
    node.advance()
    assert node.state(PEERS[1]) == "quarantined"
    assert node.services.library.get(broken) is None
    assert node.state(PEERS[0]) == "probation"


def test_a_job_that_fails_blames_nobody_and_is_done_again_once_it_can_be(node: Node) -> None:
    sent = node.send(PEERS[0], "good", "good")
    node.measurer.fault = LocalError("E1003", "killed")
    node.advance(MAX_TRIES)
    assert (node.update(sent).state, node.update(sent).code) == ("refused", "E1003")
    assert node.served() == node.offered() == set()
    assert node.trust.books.place(PLACE).lines == 0
    judging.open_again(node.services, PLACE)  # as a start does
    node.measurer.fault = LocalError("E0802", "the disk is full")
    node.advance(MAX_TRIES)
    assert (node.update(sent).state, node.update(sent).code) == ("fetched", "E0802")
    node.measurer.fault = None
    node.advance()
    assert (node.update(sent).state, node.update(sent).code) == ("judged", "")
    assert node.served() == {sent}


def test_an_update_that_somebody_pulled_stays_though_it_is_not_taken(node: Node) -> None:
    asked, other = node.send(PEERS[1], "asked", "broken"), node.send(PEERS[2], "other", "broken")
    measure = node.measurer.run

    async def pulled_meanwhile(job: Any, report: object) -> Any:
        held = node.services.library.get(asked)
        assert held is not None
        obtain._keep_for_good(node.services, held)
        return await measure(job, report)

    node.measurer.run = pulled_meanwhile  # type: ignore[method-assign]
    node.advance()
    assert node.update(asked).state == node.update(other).state == "judged"
    assert node.services.library.get(asked) is not None
    assert node.services.library.get(other) is None


def test_a_home_that_became_read_only_ends_no_loop(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = node.send(PEERS[0], "good", "good")

    def read_only(*_given: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(node.home))

    with monkeypatch.context() as patch:
        patch.setattr(judging, "round_job", read_only)
        again_at = trio.run(judging._look_at, node.services, PLACE)
    assert again_at is not None
    assert node.trust.blocked[PLACE][0] == "E0308"
    assert node.update(sent).state == "fetched"
    trio.run(judging._look_at, node.services, PLACE)
    assert node.served() == {sent}


def test_bytes_that_our_own_disk_spoilt_are_not_their_publishers_fault(node: Node) -> None:
    sent, lost = node.send(PEERS[0], "good", "good"), node.send(PEERS[1], "lost", "good")
    for manifest in (sent, lost):
        held = node.services.library.get(manifest)
        (Path(held.folder) / adapter.WEIGHTS_FILE).write_text("spoilt")
    blob = node.models.store.path(node.models.manifest(lost).file(adapter.WEIGHTS_FILE).blake3)
    blob.chmod(0o600)
    blob.write_text("spoilt")
    node.advance()
    assert node.served() == {sent}  # laid out anew from the store
    assert node.update(lost).state == "waiting"  # and fetched again
    assert node.services.library.get(lost) is None
    assert node.state(PEERS[1]) == "probation"


def test_what_was_judged_and_not_tried_is_open_after_a_kill_and_served_later(node: Node) -> None:
    first = node.send(PEERS[0], "first", "good")
    node.advance()
    second = node.send(PEERS[1], "second", "good")
    run = node.measurer.run

    async def killed(job: Any, report: object) -> Any:
        if isinstance(job, MergeJob):
            raise LocalError("E1002", "the daemon died here")
        return await run(job, report)

    node.services.learner = SimpleNamespace(run=killed)
    node.advance()
    assert node.served() == {first}
    node.trust.books = Books(node.trust.db, ME)  # as a restart reads them
    node.trust.try_at.clear()
    node.services.learner = node.measurer
    trio.run(judging._try_again, node.services, PLACE)
    assert node.served() == {first, second}
    assert node.measurer.merges == 1


def test_who_is_shut_out_while_its_update_is_tried_is_not_served(node: Node) -> None:
    first = node.send(PEERS[0], "first", "good")
    node.advance()
    node.send(PEERS[1], "second", "good")
    run = node.measurer.run

    async def meanwhile(job: Any, report: object) -> Any:
        if isinstance(job, MergeJob):
            node.trust.books.record(PLACE, _operator("quarantine", PEERS[1]))
            serving_set.drop(node.services, PLACE)
        return await run(job, report)

    node.services.learner = SimpleNamespace(run=meanwhile)
    node.advance()
    assert node.served() == {first}


def test_an_update_whose_bytes_were_removed_is_fetched_again(node: Node) -> None:
    sent = node.send(PEERS[0], "good", "good")
    node.services.library.remove(sent)
    node.advance()
    assert node.update(sent).state == "waiting"
    assert node.trust.books.place(PLACE).lines == 0


def test_who_was_shut_out_by_the_operator_is_listed_with_what_was_said(node: Node) -> None:
    node.trust.books.record(PLACE, _operator("quarantine", PEERS[1]))
    node.trust.db.note(1.0, str(PLACE), PEERS[1].node, "quarantine", "sells spam")
    listed = trio.run(trust_answers.quarantine, node.services, None, b"", {})
    assert [one["message"] for one in listed["peers"]] == ["by the operator: sells spam"]


def test_a_served_update_that_somebody_removed_does_not_stop_the_judging(node: Node) -> None:
    first = node.send(PEERS[0], "first", "good")
    node.advance()
    assert node.served() == {first}
    node.services.library.remove(first)
    second = node.send(PEERS[1], "second", "good")
    node.advance()
    assert (node.served(), node.update(second).state) == ({second}, "judged")


def test_every_verdict_recomputes_from_the_evidence(node: Node) -> None:
    node.send(PEERS[0], "good", "good")
    node.send(PEERS[1], "bad", "bad")
    node.advance(4)
    found = verify(_bundle(node.services, PEERS[1].node, PLACE))
    assert [one.recorded for one in found.verdicts] == ["equal"] * len(found.verdicts)
    assert found.verdicts


def _outcomes(node: Node, manifest: ContentId) -> list[tuple[str, str]]:
    return [(one.stage, one.outcome) for one in node.trust.gate.decisions(manifest)]


def test_a_marginal_update_is_judged_well_and_not_taken_with_its_numbers(node: Node) -> None:
    node.measurer.gains["good"] = 0.008
    sent = node.send(PEERS[0], "small", "good")
    node.advance()
    assert node.served() == set()
    [unfit] = node.trust.books.place(PLACE).merges[-1][1].unfit
    assert (unfit.update, unfit.code) == (sent, "gate_gain")
    assert _outcomes(node, sent) == [("shadow", "reject")]
    [one] = node.trust.gate.decisions(sent)
    numbers = msgspec.json.decode(one.raw)
    assert numbers["alone"]
    assert {check["code"] for check in numbers["checks"]} >= {"peers", "gain", "damage", "arm"}


def test_what_harms_the_served_set_together_stays_out(node: Node) -> None:
    node.measurer.together = -0.05
    node.send(PEERS[0], "first", "good")
    node.advance()
    first = node.served()
    second = node.send(PEERS[1], "second", "good")
    node.advance()
    assert node.served() == first
    assert _outcomes(node, second)[-1] == ("together", "reject")


def test_a_change_that_harms_live_text_is_rolled_back_and_does_not_come_again(node: Node) -> None:
    first = node.send(PEERS[0], "first", "good")
    node.advance()
    node.send(PEERS[1], "next", "good")
    node.measurer.live = -0.05
    node.advance()
    assert first not in node.served()
    assert _outcomes(node, first) == [
        ("shadow", "accept"),
        ("together", "accept"),
        ("trial", "reject"),
    ]
    [dropped] = [one.dropped for _, one in node.trust.books.place(PLACE).merges if one.dropped]
    assert dropped == (first,)
    assert gating.state(node.services, PLACE).rollout.rolled_back == (first,)


def _told(node: Node, by: Identity, update: ContentId, mean: float) -> None:
    gain = Gain(
        by=by.node,
        place=PLACE,
        update=update,
        model=node.base.model,
        documents=40,
        mean=mean,
        error=0.01,
        measured_at=1.0,
    )
    node.trust.gate.keep_gain(PLACE, update, by.node, seal(by, gain))


@pytest.mark.parametrize(("said", "served"), [(0.2, True), (-0.2, False)])
def test_two_other_keepers_have_a_say_and_a_single_one_has_not(
    node: Node, said: float, served: bool
) -> None:
    sent = node.send(PEERS[0], "good", "good")
    for by in PEERS[1:3]:
        _told(node, by, sent, said)
    node.advance()
    assert (sent in node.served()) == served
    [one] = [d for d in node.trust.gate.decisions(sent) if d.stage == "shadow"]
    numbers = msgspec.json.decode(one.raw)
    assert (numbers["others"], numbers["alone"]) == (2, False)
    alone = node.send(PEERS[3], "alone", "good")
    _told(node, PEERS[1], alone, -0.2)
    _told(node, PEERS[3], alone, 5.0)  # the publisher's own word is not heard
    node.advance()
    assert alone in node.served()


def test_others_cannot_carry_an_update_against_own_text(node: Node) -> None:
    node.measurer.gains["good"] = -0.02
    sent = node.send(PEERS[0], "good", "good")
    for by in PEERS[1:5]:
        _told(node, by, sent, 0.5)
    node.advance()
    assert sent not in node.served()


@pytest.mark.parametrize(("live", "spared"), [(0.05, True), (-0.05, False)])
def test_what_keepers_accept_above_is_applied_unless_text_below_suffers(
    node: Node, live: float, spared: bool
) -> None:
    below = Place("en", "medical", "heart")
    node.trust.probes.add(below, [f"heart and valve {n} " * 4 for n in range(40)], "given")
    asked: list[ShadowJob] = []
    run = node.measurer.run
    node.measurer.live = live

    async def noted(job: Any, report: object) -> Any:
        asked.append(job)
        return await run(job, report)

    node.services.learner = SimpleNamespace(run=noted)
    sent = node.send(PEERS[0], "from-above", "good")
    one = Vouched(sent, 0.5, (PEERS[1].node,))
    assert trio.run(lower.spares, node.services, PLACE, Following(), one) == spared
    assert [text.name for text in asked[0].texts] == ["en/medical", "en/medical/heart"]
    assert asked[0].before == ()
    assert (sent in node.trust.gate.refused(PLACE)) != spared
    assert _outcomes(node, sent) == [("child", "accept" if spared else "reject")]


def test_without_text_of_a_place_or_below_it_goes_by_its_keepers(node: Node) -> None:
    elsewhere = Place("es")
    sent = node.send(PEERS[0], "foreign", "good")
    one = Vouched(sent, 0.5, (PEERS[1].node,))
    assert trio.run(lower.spares, node.services, elsewhere, Following(), one)
    assert _outcomes(node, sent) == []
