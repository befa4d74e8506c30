"""Learn from text that keeps coming: a job without end, a step each time there is enough of it.

Each learner has HOME/learn/NAME: what it was asked (`request.json`), what `p2pllm.learner` keeps.
The adapter after each step is kept as a model of this node, tagged `step-N`; nothing is published.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from node.job_parts import limits, told
from node.jobs import Jobs, Report
from node.learn_flows import NO_LICENCE, Described, base_for, card_of, find_base, keep_adapter
from node.library import Held
from node.requests import LearnRequest
from node.round_job import laid, served
from node.services import Services
from p2pllm import durable, learner
from p2pllm.errors import LocalError
from p2pllm.ids import ContentId
from p2pllm.job_fields import Laid
from p2pllm.jobs import checked
from p2pllm.jobs_learn import ContinualJob, ContinualReport
from p2pllm.learner import State, Step
from p2pllm.manifest import Report as Claim
from p2pllm.names import Place, parse_place, parse_ref

REQUEST_FILE, JOB_FILE = "request.json", "job"
TAG = "step-"
LOOK_S = 15.0


class Learning(msgspec.Struct, frozen=True, kw_only=True, tag="learning.1"):
    """What a learner was asked, worked out."""

    place: Place
    name: str
    base: ContentId  # of a manifest
    begin: str  # manifest of the adapter it began with, or ''
    wanted: bool  # goes on when the node starts again
    request: LearnRequest

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.place}/{self.name}"


async def learn(services: Services, request: LearnRequest, report: Report) -> dict[str, Any]:
    """Take a step whenever there is enough new text; ends after one if it was asked for once."""
    learning = _work_out(services, request)
    folder = folder_of(services, learning.title)
    _same_base(services, folder, learning)
    done: dict[str, Any] = {}
    with _alone(services, folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(folder, learning)
        stamp: object = None
        while True:
            now = await trio.to_thread.run_sync(learner.stamp, request.data)
            if now != stamp:
                done = await _step(services, learning, folder, report)
                stamp = None if done["step"] else now  # there may be more than one step reads
            if request.once:
                _write(folder, msgspec.structs.replace(learning, wanted=False))
                return done
            if stamp is not None:
                few = f"{done.get('waiting_tokens', 0)} new tokens so far; enough is more"
                report("waiting", message=done.get("waits") or few)
                await trio.sleep(request.every_s)


def resume(services: Services, jobs: Jobs) -> None:
    """Go on with every learner that was not stopped; one that cannot is a job that failed."""
    for folder in folders(services):
        try:
            learning = read(folder)
            if learning.wanted:
                begin(services, jobs, learning.request)
        except LocalError as fault:
            jobs.start("learn", partial(_refuse, fault))


async def _refuse(fault: LocalError, _report: Report) -> dict[str, Any]:
    raise fault


def begin(services: Services, jobs: Jobs, request: LearnRequest) -> str:
    """Start the job of a learner; its name."""
    learning = _work_out(services, request)
    folder = folder_of(services, learning.title)
    if folder in services.working:
        raise LocalError(
            "E0204", f"{learning.title} is learning already", fix=["p2pllm learn status"]
        )
    job = jobs.start("learn", partial(learn, services, request))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    durable.replace_file(folder / JOB_FILE, job.encode())
    return job


def folders(services: Services) -> list[Path]:
    """The folders of all learners."""
    return sorted(path.parent for path in _root(services).glob(f"*/{REQUEST_FILE}"))


def folder_of(services: Services, title: str) -> Path:
    """Where a learner's things are."""
    return _root(services) / title.replace("/", ".")


def read(folder: Path) -> Learning:
    """What a learner was asked; LocalError E0408 if there is none."""
    try:
        return msgspec.json.decode((folder / REQUEST_FILE).read_bytes(), type=Learning)
    except msgspec.MsgspecError as bad:
        raise LocalError(
            "E0306",
            f"{folder.name}/{REQUEST_FILE} is damaged: {str(bad)[:200]}",
            fix=[f"remove {folder} to begin anew; adapters that were kept stay"],
        ) from bad
    except FileNotFoundError as bad:
        raise LocalError(
            "E0408",
            f"no learner {folder.name!r}",
            why=["its name is PLACE/NAME, such as en/medical/learnt"],
            fix=["p2pllm learn status"],
        ) from bad


async def stop(services: Services, jobs: Jobs, title: str) -> dict[str, Any]:
    """End a learner's job; what it learnt stays."""
    folder = folder_of(services, title)
    learning = read(folder)
    _write(folder, msgspec.structs.replace(learning, wanted=False))
    job = (folder / JOB_FILE).read_text() if (folder / JOB_FILE).is_file() else ""
    if folder in services.working and job:
        jobs.cancel(job)
        async for _event in jobs.follow(job, 0, LOOK_S):
            pass  # to its end: its child has two seconds to leave
    with _alone(services, folder):
        await _keep(services, learning, learner.read(folder))
    return {"schema": "p2pllm.learner.stop/1", "learner": learning.title, "job": job or None}


async def roll_back(
    services: Services, title: str, to: int | None, *, again: bool
) -> dict[str, Any]:
    """Make an earlier step the head, and forget the adapters of those after it."""
    folder = folder_of(services, title)
    learning = read(folder)
    state = learner.read(folder)
    if to is None:
        to = state.step(state.head).parent if state.head else 0
    with _alone(services, folder):
        state = await trio.to_thread.run_sync(partial(learner.go_back, folder, to, again=again))
        await _keep(services, learning, state)
        still = await _forget(services, learning, state)
    return {
        "schema": "p2pllm.learner.rollback/1",
        "learner": learning.title,
        "head": state.head,
        "ref": _ref(services, learning, state.head),
        "still_offered": still,
    }


def card(services: Services, folder: Path) -> dict[str, Any]:
    """How a learner is."""
    learning, state = read(folder), learner.read(folder)
    steps = [
        {
            **{key: getattr(step, key) for key in ("number", "parent", "at", "documents")},
            **{key: getattr(step, key) for key in ("before", "after", "forgetting")},
            "meters": [msgspec.to_builtins(one) for one in step.meters],
            "ref": _ref(services, learning, step.number),
        }
        for step in state.steps
    ]
    return {
        "learner": learning.title,
        "state": "learning" if folder in services.working else "stopped",
        "job": (folder / JOB_FILE).read_text() if (folder / JOB_FILE).is_file() else None,
        "base": learning.base,
        "data": list(learning.request.data),
        "head": state.head,
        "ref": _ref(services, learning, state.head),
        "documents_seen": state.seen,
        "forgetting": steps[-1]["forgetting"] if steps else 0.0,
        "steps": steps,
    }


async def _step(
    services: Services, learning: Learning, folder: Path, report: Report
) -> dict[str, Any]:
    job = _job(services, learning, folder)
    try:
        done = await services.learner.run(job, report)
    except LocalError as nothing:
        if nothing.code != "E0406" or learning.request.once:
            raise
        return {"step": 0, "waits": nothing.message}
    assert isinstance(done, ContinualReport)
    state = learner.read(folder)
    await _keep(services, learning, state)
    held = _held(services, learning, state.head)
    shown = card_of(held) if held else {}
    return {"schema": "p2pllm.learn/1", "learner": learning.title, **shown, **told(done)}


async def _keep(services: Services, learning: Learning, state: State) -> None:
    """Every kept step's adapter as a model of this node; those of other steps are dropped."""
    await _forget(services, learning, state)
    base = services.library.get(learning.base)
    folder = folder_of(services, learning.title)
    for step in state.steps:
        if base is None or _held(services, learning, step.number) is not None:
            continue
        described = Described(
            place=learning.place,
            name=learning.name,
            licence=learning.request.licence or NO_LICENCE,
            tag=f"{TAG}{step.number}",
            report=_claim(step),
        )
        source = learner.adapter_folder(folder, step.number)
        await keep_adapter(services, source, base, described)


async def _forget(services: Services, learning: Learning, state: State) -> list[str]:
    """Drop adapters of steps that are not kept; those offered or pinned stay: their names."""
    kept, still = {f"{TAG}{step.number}" for step in state.steps}, []
    for held in services.library.models():
        if (held.place, held.name) != (learning.place, learning.name) or held.tag in kept:
            continue
        if not held.tag.startswith(TAG):
            continue
        if held.offered or held.manifest in services.store.pinned():
            still.append(held.ref)
        else:
            await services.models.drop(held)
    return still


def _work_out(services: Services, request: LearnRequest) -> Learning:
    """Which base and place: of the adapter or base that is named, or as the request says."""
    begin, place, name, found = "", request.place, request.name, _named(services, request.target)
    if found is None:
        place = place or request.target
        title = f"{place}/{name or 'learnt'}"
        if request.base:
            base = find_base(services, request.base)
        else:
            base = _base_before(services, folder_of(services, title)) or _only_base(services)
    elif found.kind == "adapter":
        base = base_for(services, found)
        begin, place, name = found.manifest, place or str(found.place), name or found.name
    else:
        base = found
    if not place:
        raise LocalError("E0201", "where it belongs is missing", fix=["--place en/medical"])
    learning = Learning(
        place=parse_place(place),
        name=name or "learnt",
        base=base.manifest,
        begin=begin,
        wanted=not request.once,
        request=request,
    )
    parse_ref(learning.title)
    return learning


def _named(services: Services, target: str) -> Held | None:
    """The model that a target names; None if it is a place."""
    try:
        return services.library.find(parse_ref(target))
    except LocalError as unknown:
        if unknown.code not in ("E0402", "E0202") or ":" in target or "@" in target:
            raise
        return None


def _only_base(services: Services) -> Held:
    bases = [held for held in services.library.models() if held.kind == "base"]
    if len(bases) != 1:
        fix = ["p2pllm base ls", "give --base REF"]
        raise LocalError("E0204", f"{len(bases)} bases are here; name the one to learn on", fix=fix)
    return bases[0]


def _base_before(services: Services, folder: Path) -> Held | None:
    """What a learner stood on; a base that was published since has another manifest."""
    try:
        learning, head = read(folder), learner.read(folder).head
    except LocalError:
        return None
    adapter = _held(services, learning, head)
    same = services.library.base_of(adapter.model) if adapter else None
    return services.library.get(learning.base) or same


def _same_base(services: Services, folder: Path, learning: Learning) -> None:
    if not (folder / REQUEST_FILE).is_file() or not learner.read(folder).head:
        return
    before, now = _base_before(services, folder), services.library.get(learning.base)
    if before is None or now is None or before.model != now.model:
        raise LocalError(
            "E0702",
            f"{learning.title} has learnt on another base",
            fix=["give another --name", f"p2pllm learn rollback {learning.title} --to 0"],
        )


def _job(services: Services, learning: Learning, folder: Path) -> ContinualJob:
    request = learning.request
    names = ("steps", "batch", "seq", "lr", "rank", "replay", "min_tokens", "threads")
    base = services.library.get(learning.base)
    begin = services.library.get(ContentId(learning.begin)) if learning.begin else None
    if base is None:
        raise LocalError("E0402", f"the base of {learning.title} is gone", fix=["p2pllm base ls"])
    return checked(
        ContinualJob(
            base_dir=base.folder,
            state_dir=str(folder),
            data=tuple(request.data),
            begin_dir=begin.folder if begin else None,
            accepted=_accepted(services, learning, base),
            **limits(services, request, names),
        )
    )


def _accepted(services: Services, learning: Learning, base: Held) -> tuple[Laid, ...]:
    """What the place serves on this base and did not learn here, as far as it is here."""
    found = []
    for one in served(services, learning.place):
        held = services.library.get(one.manifest)
        own = one.manifest == learning.begin or (held is not None and held.name == learning.name)
        if held is not None and held.model == base.model and not own:
            found.append(one)
    return laid(services, found)


def _claim(step: Step) -> Claim | None:
    if not step.meters:
        return None
    newest = step.meters[-1]
    return Claim(
        base_loss=newest.base,
        loss=newest.now,
        bits_per_byte=newest.bits_per_byte,
        tokens=newest.tokens,
        steps=step.number,
        train_tokens=step.train_tokens,
    )


def _held(services: Services, learning: Learning, number: int) -> Held | None:
    for held in services.library.models():
        same = (held.place, held.name, held.tag) == (
            learning.place,
            learning.name,
            f"{TAG}{number}",
        )
        if same and held.kind == "adapter":
            return held
    return None


def _ref(services: Services, learning: Learning, number: int) -> str | None:
    held = _held(services, learning, number) if number else None
    return held.ref if held else None


def _write(folder: Path, learning: Learning) -> None:
    durable.replace_file(folder / REQUEST_FILE, msgspec.json.encode(learning))


@contextmanager
def _alone(services: Services, folder: Path) -> Iterator[None]:
    if folder in services.working:
        title = folder.name.replace(".", "/")
        raise LocalError("E0204", f"{title} is learning", fix=[f"p2pllm learn stop {title}"])
    services.working.add(folder)
    try:
        yield
    finally:
        services.working.discard(folder)


def _root(services: Services) -> Path:
    return services.config.home / "learn"
