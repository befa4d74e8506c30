"""The store against a dictionary: whatever is done to it, in whatever order, also after crashes."""

import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from p2pllm.ids import ContentId
from p2pllm.manifest import CHUNK_BYTES
from p2pllm.partial import Partial, footprint
from p2pllm.store import Store
from tests.p2pllm.stores import Blob, a_blob, refused

QUOTA = 6 * CHUNK_BYTES
# Some share a size, so that the short way for copies is taken too.
BLOBS = [a_blob(chunks, seed) for seed, chunks in enumerate((0, 0.1, 0.1, 1, 1, 1.5, 2, 2.5))]
CHUNK_LISTS = {blob.id: Blob(blob.hashes) for blob in BLOBS}
blobs = st.sampled_from(BLOBS)


class StoreMachine(RuleBasedStateMachine):
    """`here`, `partial` and `damaged` are what the store must agree with after every step."""

    @initialize()
    def open_it(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="p2pllm-store-"))
        self.runs = 0
        self.root = self.folder / "0"
        self.store = Store(self.root, QUOTA)
        self.here: dict[ContentId, Blob] = {}
        self.partial: dict[ContentId, tuple[Blob, set[int]]] = {}
        self.open: dict[ContentId, Partial] = {}
        self.pins: set[ContentId] = set()
        self.damaged: dict[ContentId, int] = {}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)

    def room(self) -> int:
        used = sum(len(blob.data) for blob in self.here.values()) + sum(self.damaged.values())
        promised = sum(footprint(len(blob.data)) for blob, _ in self.partial.values())
        return QUOTA - used - promised

    @rule(blob=blobs)
    def put_bytes(self, blob: Blob) -> None:
        if blob.id in self.here or len(blob.data) <= self.room():
            assert self.store.put_bytes(blob.data) == blob.id
            self.here[blob.id] = blob
        else:
            refused("E0801", lambda: self.store.put_bytes(blob.data))

    @rule(blob=blobs)
    def put_file(self, blob: Blob) -> None:
        source = self.folder / "source"
        source.write_bytes(blob.data)
        chunk_list = CHUNK_LISTS[blob.id]
        need = len(blob.data) + len(chunk_list.data)
        if blob.id in self.here:
            need = 0 if chunk_list.id in self.here else len(chunk_list.data)
        if not need or need <= self.room():
            stored = self.store.put_file(source)
            assert (stored.blake3, stored.chunks) == (blob.id, chunk_list.id)
            self.here |= {blob.id: blob, chunk_list.id: chunk_list}
        else:
            refused("E0801", lambda: self.store.put_file(source))

    @rule(blob=blobs)
    def begin(self, blob: Blob) -> None:
        def ask() -> Partial:
            return self.store.begin(blob.id, len(blob.data), blob.hashes)

        if blob.id in self.here or blob.id in self.open:
            refused("E0307", ask)
        elif blob.id in self.partial or footprint(len(blob.data)) <= self.room():
            _, had = self.partial.setdefault(blob.id, (blob, set()))
            self.open[blob.id] = incoming = ask()
            assert set(incoming.missing()) == set(range(blob.count)) - had
        else:
            refused("E0801", ask)

    def any_open(self) -> bool:
        return bool(self.open)

    @precondition(any_open)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        blob, had = self.partial[data.draw(st.sampled_from(sorted(self.open)))]
        if blob.count:
            index = data.draw(st.integers(0, blob.count - 1))
            wrong = bytearray(blob.chunk(index))
            wrong[-1] ^= 1
            refused("E0604", lambda: self.open[blob.id].accept(index, memoryview(wrong)))
            self.open[blob.id].accept(index, blob.chunk(index))
            had.add(index)

    @precondition(any_open)
    @rule(data=st.data(), how=st.sampled_from(["finish", "close", "discard"]))
    def end(self, data: st.DataObject, how: str) -> None:
        blob, had = self.partial[data.draw(st.sampled_from(sorted(self.open)))]
        incoming = self.open.pop(blob.id)
        if how == "finish":
            for index in set(range(blob.count)) - had:
                incoming.accept(index, blob.chunk(index))
            assert incoming.finish() == blob.id
            self.here[blob.id] = blob
        getattr(incoming, how if how != "finish" else "close")()
        if how != "close":
            del self.partial[blob.id]

    @rule(blob=blobs, pinned=st.booleans())
    def pin(self, blob: Blob, pinned: bool) -> None:
        if pinned and blob.id in self.here:
            self.store.pin(blob.id)
            self.pins.add(blob.id)
        elif not pinned:
            self.store.unpin(blob.id)
            self.pins.discard(blob.id)
        assert self.store.pinned() == self.pins

    @rule(roots=st.sets(blobs.map(lambda blob: blob.id)), dry_run=st.booleans())
    def gc(self, roots: set[ContentId], dry_run: bool) -> None:
        keep = roots | self.pins
        gone = [(blob.id, len(blob.data)) for blob in self.here.values() if blob.id not in keep]
        left = [
            (blob.id, footprint(len(blob.data)))
            for blob, _ in self.partial.values()
            if blob.id not in self.open and (blob.id not in keep or blob.id in self.here)
        ]
        expected = sorted(gone + left + list(self.damaged.items()))
        assert sorted(self.store.gc(roots, dry_run)) == expected
        if not dry_run:
            self.damaged.clear()
            for blob, _ in gone:
                del self.here[blob]
            for blob, _ in left:
                del self.partial[blob]

    @rule(blob=blobs)
    def remove(self, blob: Blob) -> None:
        if blob.id in self.here and blob.id not in self.pins:
            self.store.remove(blob.id)
            del self.here[blob.id]

    @precondition(lambda self: any(blob.data for blob in self.here.values()))
    @rule(data=st.data())
    def damage_and_verify(self, data: st.DataObject) -> None:
        ids = sorted(name for name, blob in self.here.items() if blob.data)
        blob = self.here.pop(data.draw(st.sampled_from(ids)))
        path = self.store.path(blob.id)
        path.chmod(0o600)
        at = random.Random(len(blob.data)).randrange(len(blob.data))
        path.write_bytes(blob.data[:at] + bytes([blob.data[at] ^ 1]) + blob.data[at + 1 :])
        assert self.store.verify() == [blob.id]
        self.damaged[blob.id] = len(blob.data)

    @rule()
    def close_and_open_again(self) -> None:
        self.store.close()
        self.open_at(self.root)

    @rule()
    def crash_and_open_again(self) -> None:
        """What is on disk at this moment, and nothing else, is what the next process finds."""
        self.runs += 1
        after = self.folder / str(self.runs)
        shutil.copytree(self.root, after)
        self.store.close()
        shutil.rmtree(self.root)
        self.open_at(after)

    def open_at(self, root: Path) -> None:
        self.root, self.open = root, {}
        # A fetch of what is here by now has nothing left to do.
        self.partial = {k: v for k, v in self.partial.items() if k not in self.here}
        self.store = Store(root, QUOTA)

    @invariant()
    def it_agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        usage = self.store.usage()
        assert usage.quota_bytes - usage.used_bytes - usage.reserved_bytes == self.room() >= 0
        assert (usage.blobs, usage.partials) == (len(self.here), len(self.partial))
        for blob in BLOBS:
            assert self.store.has(blob.id) == (blob.id in self.here)
        on_disk = sum(
            path.stat().st_size for path in self.root.glob("[bpd]*/**/*") if path.is_file()
        )
        assert on_disk <= QUOTA
        for name, blob in self.here.items():
            assert self.store.path(name).read_bytes() == blob.data


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    # 40 of the usual profile, 800 of `make sim`: each step waits for the disk.
    max_examples=settings().max_examples * 2 // 5,
    stateful_step_count=30,
)
