"""Bring blobs and whole models here from peers, everything checked against its name.

Goals: a corrupt chunk costs that chunk and its sender; a peer that stops costs its deadline; what
arrived stays, over a cancel or a kill. Non-goals: who might have a blob, whether we want it.
Wire format: docs/specs/exchange.md. The other side is `gossip.exchange`.
"""

from collections.abc import Callable, Sequence
from itertools import count

import trio

from gossip import bulk
from gossip.asking import ask, open_exchange, read_answer, wait_a_turn
from gossip.download import Download
from gossip.endpoint import Endpoint
from gossip.framing import read_exactly
from gossip.ledger import FetchEvent, FetchReport, Ledger
from gossip.messages import Want
from p2pllm.errors import PeerError, Unavailable
from p2pllm.ids import ContentId, NodeId, content_id
from p2pllm.manifest import (
    CHUNK_BYTES,
    MAX_MANIFEST_BYTES,
    File,
    Manifest,
    open_manifest,
)
from p2pllm.store import Store

OnEvent = Callable[[FetchEvent], None]
# Bytes a second below which a small blob is given up, beside the time a peer may think.
_SLOWEST = 16 * 1024


async def fetch_model(
    endpoint: Endpoint,
    store: Store,
    manifest: ContentId,
    providers: Sequence[NodeId],
    on_event: OnEvent,
    judge: Callable[[Manifest], None] = lambda _manifest: None,
) -> tuple[Manifest, FetchReport]:
    """A model's manifest, verified, once it, its files and their chunk lists are in the store.

    judge  sees the verified manifest before any file is asked for; what it raises ends the fetch

    The caller holds the store (`Store.hold`) until something names the model.
    Raises Unavailable E0906 when no provider is left, PeerError if the manifest is forged or lies
    about a file, LocalError E0801 or E0802 without room, E0307 if a file is on its way already.
    """
    ledger = Ledger(on_event)
    fetch = _Fetch(endpoint, store, providers, ledger)
    record = await fetch.small(manifest, MAX_MANIFEST_BYTES)
    opened = open_manifest(record)
    judge(opened)
    ledger.expect(opened.size)
    for file in opened.files:
        await fetch.file(file)
    # Last, so that whoever finds the manifest in the store finds its files too.
    await fetch.put(record)
    return opened, ledger.report()


async def fetch_blob(
    endpoint: Endpoint,
    store: Store,
    file: File,
    providers: Sequence[NodeId],
    on_event: OnEvent,
) -> FetchReport:
    """One file, once it and its chunk list are in the store. Raises as `fetch_model` does."""
    ledger = Ledger(on_event)
    ledger.expect(file.size)
    await _Fetch(endpoint, store, providers, ledger).file(file)
    return ledger.report()


async def fetch_bytes(
    endpoint: Endpoint, blob: ContentId, max_bytes: int, providers: Sequence[NodeId]
) -> bytes:
    """A blob of at most 1 MiB, checked against its id; Unavailable E0906 if nobody gives it."""
    return await _fetch_small(endpoint, blob, max_bytes, providers, Ledger(_ignore))


class _Fetch:
    """What the parts of one fetch share; a peer dropped in one part is not asked in the next."""

    def __init__(
        self, endpoint: Endpoint, store: Store, providers: Sequence[NodeId], ledger: Ledger
    ) -> None:
        self._endpoint, self._store = endpoint, store
        self._providers, self._ledger = providers, ledger
        self._disk = trio.CapacityLimiter(1)

    async def file(self, file: File) -> None:
        """Have a file and its chunk list in the store."""
        if await trio.to_thread.run_sync(self._store.has, file.blake3, limiter=self._disk):
            self._ledger.have(file.size)
            return
        hashes = await self._chunk_hashes(file)
        partial = await trio.to_thread.run_sync(
            self._store.begin, file.blake3, file.size, hashes, limiter=self._disk
        )
        try:
            missing = sum(partial.chunk_range(chunk)[1] for chunk in partial.missing())
            self._ledger.have(file.size - missing)
            usable = self._ledger.usable(self._providers)
            await Download(self._endpoint, partial, self._ledger).run(usable)
            await trio.to_thread.run_sync(partial.finish, limiter=self._disk)
        finally:
            with trio.CancelScope(shield=True):  # as long as one fsync takes; keeps the progress
                await trio.to_thread.run_sync(partial.close, limiter=self._disk)

    async def small(self, blob: ContentId, max_bytes: int) -> bytes:
        """A small blob, out of the store if it is there."""
        if await trio.to_thread.run_sync(self._store.has, blob, limiter=self._disk):
            return await trio.to_thread.run_sync(
                self._store.read, blob, max_bytes, limiter=self._disk
            )
        return await _fetch_small(
            self._endpoint, blob, max_bytes, self._ledger.usable(self._providers), self._ledger
        )

    async def put(self, data: bytes) -> None:
        """Keep a small blob."""
        await trio.to_thread.run_sync(self._store.put_bytes, data, limiter=self._disk)

    async def _chunk_hashes(self, file: File) -> bytes:
        if file.size <= CHUNK_BYTES:  # the file is its one chunk, and bears its hash
            hashes = bytes.fromhex(file.blake3)
            if content_id(hashes) != file.chunks:
                raise PeerError("E0603", f"the chunk list of {file.path} is not that of its bytes")
        else:
            hashes = await self.small(file.chunks, CHUNK_BYTES)
        await self.put(hashes)
        return hashes


async def _fetch_small(
    endpoint: Endpoint,
    blob: ContentId,
    max_bytes: int,
    providers: Sequence[NodeId],
    ledger: Ledger,
) -> bytes:
    for peer in providers:
        try:
            return await _ask_small(endpoint, blob, max_bytes, peer)
        except (PeerError, Unavailable) as fault:
            ledger.refuse(peer, fault)
    raise Unavailable("E0906", f"no provider gives blob {blob}", why=ledger.reasons())


async def _ask_small(endpoint: Endpoint, blob: ContentId, max_bytes: int, peer: NodeId) -> bytes:
    assert max_bytes <= CHUNK_BYTES
    async with await open_exchange(endpoint, peer) as stream:
        for refused in count():
            await ask(stream, Want(blob=blob, first=0, count=1))
            give = await read_answer(stream)
            if give.status == "ok":
                break
            await wait_a_turn(refused)
        if give.size > max_bytes or give.length != give.size:
            raise PeerError(
                "E0603", f"{give.length} of {give.size} bytes offered, at most {max_bytes} wanted"
            )
        with trio.move_on_after(bulk.STALL_S + give.size / _SLOWEST):
            data = await read_exactly(stream, give.length)
            if content_id(data) != blob:
                raise PeerError("E0605", f"the bytes are not those of blob {blob}")
            return data
        raise Unavailable("E0501", "a small blob did not arrive in time")


def _ignore(_event: FetchEvent) -> None:
    pass
