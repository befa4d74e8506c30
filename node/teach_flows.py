"""Teach a smaller model what a larger one knows: a learn job, and the adapter that comes of it."""

from pathlib import Path
from typing import Any

from node.job_parts import limits, told
from node.jobs import Report
from node.learn_flows import base_for, card_of, find_base, train
from node.library import Held
from node.requests import DistillRequest
from node.services import Services
from p2pllm.errors import LocalError
from p2pllm.jobs_teach import DistillJob
from p2pllm.names import parse_ref

_CHOSEN = ("rank", "alpha", "steps", "lr", "batch", "seq", "seed", "hard", "threads")


async def distill(services: Services, request: DistillRequest, report: Report) -> dict[str, Any]:
    """An adapter on the student that makes it answer as the teacher does."""
    teacher, student = _teacher(services, request.teacher), find_base(services, request.student)
    if (teacher.kind, teacher.model) == ("base", student.model):
        raise LocalError("E0204", f"{student.ref} is its own teacher", fix=["p2pllm tune"])
    base = teacher if teacher.kind == "base" else base_for(services, teacher)

    def job(work: Path) -> DistillJob:
        return DistillJob(
            teacher_dir=base.folder,
            teacher_adapter=teacher.folder if teacher.kind == "adapter" else None,
            teacher=teacher.model if teacher.kind == "base" else teacher.manifest,
            base_dir=student.folder,
            data=tuple(request.data),
            eval_data=tuple(request.eval_data),
            out_dir=str(work),
            **limits(services, request, _CHOSEN),
        )

    held, done = await train(services, request, [student, teacher], job, report)
    card = {"teacher": teacher.ref, "student": student.ref, **card_of(held)}
    return {"schema": "p2pllm.distill/1", **card, **told(done)}


def _teacher(services: Services, text: str) -> Held:
    """A base or an adapter that is here, by reference or, a base, by its bare name."""
    return services.library.find(parse_ref(text)) if "/" in text else find_base(services, text)
