"""One blob from several peers at once: a session with each, until every chunk is here."""

from collections import deque
from collections.abc import Sequence

import trio

from gossip.asking import open_exchange
from gossip.endpoint import Endpoint
from gossip.ledger import Ledger
from gossip.session import Session, Shared
from p2pllm.errors import LocalError, PeerError, Unavailable
from p2pllm.ids import NodeId
from p2pllm.partial import Partial

PEERS_AT_ONCE = 8  # each costs two threads and 2 MiB; more do not fill a home line better
TELL_EVERY_S = 0.1  # more often is of no use to a person or a log


class Download:
    """The rest of one partial blob. `run` returns when every chunk is here."""

    def __init__(self, endpoint: Endpoint, partial: Partial, ledger: Ledger) -> None:
        self._endpoint, self._partial, self._ledger = endpoint, partial, ledger
        self._sessions = trio.CancelScope()
        trio_token = trio.lowlevel.current_trio_token()
        self._shared = Shared(
            partial,
            ledger,
            PEERS_AT_ONCE,
            # Whatever the sessions still wait for, it is not needed any more.
            on_complete=lambda: trio_token.run_sync_soon(self._sessions.cancel),
        )
        self._spare: deque[NodeId] = deque()
        self._fault: LocalError | None = None

    async def run(self, providers: Sequence[NodeId]) -> None:
        """Fetch all that is missing.

        Raises Unavailable E0906 when no provider is left, LocalError E0802 when the disk is full.
        """
        self._spare.extend(providers)
        left = self._shared.runs.left
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell)
            with self._sessions:
                async with trio.open_nursery() as sessions:
                    for _ in range(min(PEERS_AT_ONCE, len(self._spare), left())):
                        sessions.start_soon(self._work)
            nursery.cancel_scope.cancel()
        self._ledger.tell()
        if self._fault:
            raise self._fault
        if left():
            raise Unavailable(
                "E0906",
                f"no provider left for {left()} of {self._partial.chunk_count} chunks "
                f"of {self._partial.id}",
                why=self._ledger.reasons(),
            )

    async def _tell(self) -> None:
        while True:
            await trio.sleep(TELL_EVERY_S)
            self._ledger.tell()

    async def _work(self) -> None:
        while self._spare:
            peer = self._spare.popleft()
            try:
                async with await open_exchange(self._endpoint, peer) as stream:
                    await Session(self._shared, peer, stream).run()
                return
            except (PeerError, Unavailable) as fault:
                self._shared.give_back(peer)
                self._ledger.refuse(peer, fault)
            except LocalError as fault:
                self._fault = fault
                self._sessions.cancel()
