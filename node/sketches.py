"""The kilobyte that goes ahead of an adapter: made at a push, asked for before a fetch.

A publisher signs what its update is; a node that can refuse on that does not fetch the bytes. A
sketch that is not of its weights is found when they are measured; that costs its signer its
standing.
"""

from collections.abc import Sequence
from statistics import median

import trio

from gossip.testimony import ANSWER_S, ask_sketch
from node.jobs import Report
from node.library import Held
from node.services import Services
from node.trust_db import Update
from p2pllm import adapter, summary
from p2pllm.errors import P2pllmError, PeerError
from p2pllm.ids import NodeId
from p2pllm.jobs import SketchJob, SketchReport
from p2pllm.summary import Sketch, open_sketch

COPY = 0.98  # cosine with another peer's served update: sent again under another name
OPPOSITE = -0.9  # … at which it would undo that update
LONG = 20.0  # times the usual length of what is served
KNOWN = 64  # sketches of served updates that a new one is held against


async def sketch_ahead(
    services: Services, held: Held, found: SketchReport | None, report: Report
) -> None:
    """Have a signed sketch of our own adapter to tell; without one peers just fetch it."""
    name = f"sketch/{held.manifest}"
    if held.kind != "adapter" or services.trust.db.fact(name):
        return
    base = services.library.base_of(held.model)
    if found is None and base is not None:
        job = SketchJob(base_dir=base.folder, adapter_dir=held.folder, model=held.model)
        try:
            done = await services.learner.run(job, report)
        except P2pllmError as fault:
            services.events.emit("sketch", state="failed", code=fault.code, manifest=held.manifest)
            return
        assert isinstance(done, SketchReport)
        found = done
    if found is not None:
        weights = services.models.manifest(held.manifest).file(adapter.WEIGHTS_FILE)
        record = summary.seal(
            services.identity,
            Sketch(
                by=services.identity.node,
                model=held.model,
                weights=weights.blake3,
                norm=found.norm,
                thirds=found.thirds,
                forms=found.forms,
            ),
        )
        services.trust.db.set_fact(name, record)


async def ask_ahead(services: Services, update: Update) -> bytes:
    """The signed sketch of an update from its publisher; empty if it tells none in time.

    Raises PeerError E0602 or E0603 if what it tells is forged or of another update.
    """
    try:
        with trio.fail_after(ANSWER_S):
            endpoint = services.network.endpoint()
            record = await ask_sketch(endpoint, update.peer, update.manifest)
    except PeerError:
        raise
    except (P2pllmError, trio.TooSlowError):
        return b""
    if record:
        sketch = open_sketch(record)
        if (sketch.by, sketch.model) != (update.peer, update.model):
            raise PeerError("E0603", f"the sketch of {update.manifest} is of something else")
    return record


def objection(
    update: Update, sketch: Sketch, known: Sequence[tuple[NodeId, Sketch]], *, wary: bool
) -> str:
    """Why an update need not be fetched, by its sketch alone; "" if it must be measured.

    known  sketches of what the place serves, with who published it
    wary   its publisher is a suspect or shut out: then a copy, or what would undo a served update,
           is enough. From others both are measured: a copy may have come here before what it
           copies, and a sketch refused is no evidence of harm
    """
    served = [(peer, one) for peer, one in known if one.model == sketch.model]
    if served and sketch.norm > LONG * median(one.norm for _, one in served):
        return f"it is {sketch.norm:.3g} long, far more than what is served"
    for peer, one in served:
        alike = summary.cosine(sketch.forms, one.forms)
        if wary and peer != update.peer and alike > COPY:
            return f"it is a copy of what {peer} published (cosine {alike:.3f})"
        if wary and alike < OPPOSITE:
            return f"it would undo what {peer} published (cosine {alike:.3f})"
    return ""


def known_sketches(services: Services, update: Update) -> list[tuple[NodeId, Sketch]]:
    """The sketches of what is served at an update's place, the latest first."""
    known = services.trust.books.place(update.place)
    latest = sorted(known.taken.values(), key=lambda one: -one.number)[:KNOWN]
    found = []
    for one in latest:
        record = services.trust.db.fact(f"sketch/{one.update}")
        if record:
            found.append((one.peer, open_sketch(record)))
    return found
