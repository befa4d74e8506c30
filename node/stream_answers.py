"""What the control API answers about learners: `learn start`, `status`, `stop`, `rollback`."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from node import stream_flows
from node.jobs import Jobs
from node.requests import LearnerRequest, LearnRequest, parse
from node.services import Services
from p2pllm.errors import LocalError

Document = dict[str, Any]
Query = dict[str, str]


async def learners(services: Services, jobs: Jobs, _body: bytes, query: Query) -> Document:
    """All learners, or the one that is asked for."""
    asked = query.get("learner")
    folders = stream_flows.folders(services)
    if asked:
        stream_flows.read(folder := stream_flows.folder_of(services, asked))
        folders = [folder]
    cards = [stream_flows.card(services, folder) for folder in folders]
    for card in cards:
        with suppress(LocalError):  # one that is taken back has no job
            card["message"] = jobs.show(card["job"] or "").get("message")
    return {"schema": "p2pllm.learners/1", "learners": cards}


async def start(services: Services, jobs: Jobs, body: bytes, _query: Query) -> Document:
    """Begin, or go on; the job runs until it is stopped, also when the node starts again."""
    request = parse(body, LearnRequest)
    return {"schema": "p2pllm.job/1", "job": stream_flows.begin(services, jobs, request)}


async def stop(services: Services, jobs: Jobs, body: bytes, _query: Query) -> Document:
    """End a learner's job."""
    return await stream_flows.stop(services, jobs, parse(body, LearnerRequest).learner)


async def roll_back(services: Services, _jobs: Jobs, body: bytes, _query: Query) -> Document:
    """Take a learner back to an earlier step."""
    request = parse(body, LearnerRequest)
    return await stream_flows.roll_back(services, request.learner, request.to, again=request.again)


ROUTES: list[tuple[str, str, Callable[..., Awaitable[Document]]]] = [
    ("GET", "/learners", learners),
    ("POST", "/learners", start),
    ("POST", "/learners/stop", stop),
    ("POST", "/learners/rollback", roll_back),
]
