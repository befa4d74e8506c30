"""Teach a smaller model what a larger one knows: a learn job, and the adapter that comes of it."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import trio

from node.job_parts import claim, limits, told
from node.jobs import Report
from node.learn_flows import (
    NO_LICENCE,
    Described,
    base_for,
    card_of,
    find_base,
    keep_adapter,
    work_name,
)
from node.library import Held
from node.requests import DistillRequest
from node.services import Services
from p2pllm.errors import LocalError
from p2pllm.jobs import checked
from p2pllm.jobs_teach import DistillJob, DistillReport
from p2pllm.names import parse_place, parse_ref

_CHOSEN = ("rank", "alpha", "steps", "lr", "batch", "seq", "seed", "hard", "threads")


async def distill(services: Services, request: DistillRequest, report: Report) -> dict[str, Any]:
    """An adapter on the student that makes it answer as the teacher does."""
    teacher, student = _teacher(services, request.teacher), find_base(services, request.student)
    place, name = parse_place(request.place), request.name
    parse_ref(f"{place}/{name}")
    if (teacher.kind, teacher.model) == ("base", student.model):
        raise LocalError("E0204", f"{student.ref} is its own teacher", fix=["p2pllm tune"])
    folder = work_name("distill", msgspec.json.encode(request).decode() + teacher.manifest)
    with services.work_folder(folder) as work:
        job = _job(services, (teacher, student), request, work)
        done = await services.learner.run(job, report)
        assert isinstance(done, DistillReport)
        described = Described(
            place=place,
            name=name,
            licence=request.licence or NO_LICENCE,
            report=claim(done, done.base_loss),
        )
        held = await keep_adapter(services, work, student, described)
        await trio.to_thread.run_sync(shutil.rmtree, work)
    card = {"teacher": teacher.ref, "student": student.ref, **card_of(held)}
    return {"schema": "p2pllm.distill/1", **card, **told(done)}


def _teacher(services: Services, text: str) -> Held:
    """A base or an adapter that is here, by reference or, a base, by its bare name."""
    return services.library.find(parse_ref(text)) if "/" in text else find_base(services, text)


def _job(
    services: Services, who: tuple[Held, Held], request: DistillRequest, work: Path
) -> DistillJob:
    teacher, student = who
    base = teacher if teacher.kind == "base" else base_for(services, teacher)
    return checked(
        DistillJob(
            teacher_dir=base.folder,
            teacher_adapter=teacher.folder if teacher.kind == "adapter" else None,
            teacher=teacher.model if teacher.kind == "base" else teacher.manifest,
            base_dir=student.folder,
            data=tuple(request.data),
            eval_data=tuple(request.eval_data),
            out_dir=str(work),
            **limits(services, request, _CHOSEN),
        )
    )
