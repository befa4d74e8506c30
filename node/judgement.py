"""The parts of judgement that a node keeps open: what it remembers, its probes, whom it follows."""

import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import trio

from gossip.messages import Announce, GainList
from node import round_plan
from node.books import Books
from node.gate_log import GateLog
from node.library import Library
from node.opinions import Opinions
from node.probe_texts import ProbeTexts
from node.standing import Faults
from node.trust_db import TrustDb, Update
from node.witnesses import Witnesses
from p2pllm.heads import HeadFile
from p2pllm.ids import ContentId, NodeId
from p2pllm.keys import Identity
from p2pllm.names import Place, parse_place

SECRET_BYTES = 32


@dataclass
class Judgement:
    """Opened at start, closed at the end, handed to whatever judges or asks."""

    me: NodeId
    db: TrustDb
    books: Books
    opinions: Opinions
    witnesses: Witnesses
    probes: ProbeTexts
    heads: HeadFile
    gate: GateLog
    followed: set[Place]
    secret: bytes
    blocked: dict[Place, tuple[str, str]] = field(default_factory=dict)  # code and reason
    try_at: dict[Place, float] = field(default_factory=dict)  # when what is open is tried again
    trial: trio.Lock = field(default_factory=trio.Lock)  # held while a set is tried
    news: trio.Event = field(default_factory=trio.Event)  # something to judge may be there

    def wake(self) -> None:
        """Look again now."""
        self.news.set()
        self.news = trio.Event()

    def try_again(self, place: Place) -> None:
        """Peers of a place came: what could not be fetched before is tried at once."""
        late = [one for one in self.db.pending(place) if one.state == "waiting" and one.tries]
        for one in late:  # which does not count as one more failure
            self.db.put(msgspec.structs.replace(one, due_at=0.0, tries=one.tries - 1))
        if late:
            self.wake()

    def hear(self, announce: Announce) -> None:
        """Take note of an announced adapter at a place that this node follows."""
        if announce.kind != "adapter" or announce.place not in self.followed:
            return
        new = Update(
            place=announce.place,
            manifest=announce.manifest,
            peer=announce.by,
            model=announce.model,
            size=announce.size,
            state="waiting",
            heard_at=time.time(),
        )
        judged = new.manifest in self.books.place(new.place).judged
        if not judged and self.db.update(new.place, new.manifest) is None:
            if round_plan.may_wait(*self.db.waiting(new.place, new.peer)):
                self.db.put(new)
            self.wake()

    async def observed(self, after: int, limit: int) -> list[bytes]:
        """This node's own signed observations with higher numbers, for whoever asks."""
        return self.db.after(self.me, after, limit)

    async def sketch_of(self, manifest: ContentId) -> bytes:
        """The signed sketch of an update of ours or one that is served here; empty for others."""
        return self.db.fact(f"sketch/{manifest}") or b""

    async def gains_of(
        self, asker: NodeId, place: Place, updates: tuple[ContentId, ...]
    ) -> GainList:
        """What updates gave text of ours, for other keepers; nothing for who is shut out."""
        if not self.judges(place) or self.opinions.shut(asker, place):
            return GainList(keeps=False)
        records = (self.gate.gains(place, update).get(self.me) for update in updates)
        return GainList(keeps=True, records=tuple(one for one in records if one is not None))

    def judges(self, place: Place) -> bool:
        """Whether updates of a place are judged here, so that only accepted ones are offered."""
        return place in self.followed and bool(self.probes.files(place))

    def follow(self, library: Library, place: Place, *, follow: bool) -> None:
        """Judge the updates of a place from now on, or no more; remembered over restarts."""
        (self.followed.add if follow else self.followed.discard)(place)
        library.set_fact("followed", json.dumps(sorted(str(one) for one in self.followed)))
        self.wake()


def open_judgement(
    home: Path, identity: Identity, library: Library, faults: Faults, follow: tuple[str, ...]
) -> Judgement:
    """What this home remembers of others, its ledgers replayed."""
    db = TrustDb(home / "trust.db")
    secret = db.fact("secret")
    if secret is None:
        secret = secrets.token_bytes(SECRET_BYTES)
        db.set_fact("secret", secret)
    books = Books(db, identity)
    witnesses = Witnesses(identity.node, db, books)
    remembered = json.loads(library.fact("followed", "[]"))
    return Judgement(
        me=identity.node,
        db=db,
        books=books,
        opinions=Opinions(identity.node, books, faults, witnesses),
        witnesses=witnesses,
        probes=ProbeTexts(home / "probes"),
        heads=HeadFile(home / "heads"),
        gate=GateLog(db),
        followed={parse_place(text) for text in (*follow, *remembered)},
        secret=secret,
    )
