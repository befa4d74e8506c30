"""The node's main process: opens everything in one block, until told to stop.

It owns every child; a child holds nothing that is not on disk. Only one daemon runs on a home,
which a lock says that dies with its holder.
"""

import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TextIO

import trio

from gossip.p2pd import check_listening
from node import hearing, judging, stream_flows
from node.config import GIB, Config
from node.control import Control, serve
from node.events import Events
from node.jobs import Jobs
from node.judgement import open_judgement
from node.keeping import Keeping
from node.learning import open_learner
from node.library import Library
from node.models import Models
from node.network import Network
from node.services import Services
from node.standing import Faults
from node.tidy import tidy
from p2pllm import keys
from p2pllm.errors import LocalError
from p2pllm.reserve import reserve_of
from p2pllm.store import Store

log = logging.getLogger(__name__)
MAX_SOCKET_PATH = 100  # bytes; the kernel allows 107, and the longest name in run/ counts


def run(config: Config, *, attached: bool = False) -> None:
    """Run a node until SIGINT, SIGTERM or a request to stop.

    attached  also until standard input ends, as it does when who holds its other end is killed
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    _make_home(config)
    with _only_one(config.run / "lock"):
        identity = keys.load_or_create(config.home / "key")
        store = Store(config.home / "store", int(config.store.quota_gib * GIB))
        with closing(store), closing(Library(config.home / "node.db")) as library:
            models = Models(config.home, store, library, identity)
            tidy(config.home, models, time.time())
            trio.run(_main, config, models, attached)


def _make_home(config: Config) -> None:
    if len(os.fsencode(config.api)) > MAX_SOCKET_PATH:
        raise LocalError(
            "E0205",
            f"the home's path is too long for a unix socket: {config.home}",
            why=[f"{config.api} may have {MAX_SOCKET_PATH} bytes"],
            fix=["choose a shorter --home"],
        )
    for address in config.network.listen:
        check_listening(address)
    config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    config.run.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise _in_use(path, file) from taken
        reserve_of(path.parent.parent).give_up()  # a start writes too; set aside when all is open
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
        file.truncate(0)


def _in_use(path: Path, file: TextIO) -> LocalError:
    file.seek(0)
    pid = file.read(20).strip()
    return LocalError(
        "E0303",
        f"a daemon already runs on {path.parent.parent}",
        why=[f"pid {pid} holds the lock" if pid else "its lock is held"],
        fix=["p2pllm status", "p2pllm down", "or another --home"],
        details={"pid": int(pid) if pid.isdigit() else None},
    )


async def _main(config: Config, models: Models, attached: bool) -> None:
    events = Events(time.time)
    faults = Faults(events, time.monotonic)
    follow = config.network.follow
    trust = open_judgement(config.home, models.identity, models.library, faults, follow)
    network = Network(config, models, events, trust)
    with closing(network.heard), closing(network.shelf), closing(trust.db):
        async with open_learner() as learner, trio.open_nursery() as nursery:
            services = Services(
                config=config,
                identity=models.identity,
                store=models.store,
                library=models.library,
                models=models,
                network=network,
                trust=trust,
                learner=learner,
                events=events,
                pid=os.getpid(),
                started_at=time.time(),
                transfers=trio.Lock(),
                working=set(),
            )
            stop = nursery.cancel_scope.cancel
            nursery.start_soon(_obey_signals, stop)
            if attached:
                nursery.start_soon(_stay_attached, stop)
            jobs = Jobs(nursery, models.library, events, time.time)
            control = Control(services, jobs, stop)
            await nursery.start(serve, control, str(config.api))
            models.reserve.set_aside()
            stream_flows.resume(services, jobs)
            log.info("node %s answers on %s", models.identity.node, config.api)
            nursery.start_soon(network.run)
            nursery.start_soon(judging.run, services)
            nursery.start_soon(hearing.run, services)
            nursery.start_soon(Keeping(services).run)
    config.api.unlink(missing_ok=True)


async def _stay_attached(stop: Callable[[], None]) -> None:
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
        async for _ in stream:
            pass
    log.info("standard input ended: stopping")
    stop()


async def _obey_signals(stop: Callable[[], None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        async for number in received:
            log.info("signal %d: stopping", number)
            stop()
