"""What the control API answers about this device and which model to take."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from node.advice import RecommendRequest, advise, calibrate, profile_card
from node.jobs import Jobs
from node.requests import parse
from node.services import Services

Document = dict[str, Any]
Query = dict[str, str]


async def recommend(services: Services, _jobs: Jobs, body: bytes, _query: Query) -> Document:
    """The models that fit best, with reasons."""
    return await advise(services, parse(body, RecommendRequest))


async def profile(services: Services, _jobs: Jobs, _body: bytes, _query: Query) -> Document:
    """What this device is."""
    return await profile_card(services)


async def start_calibration(
    services: Services, jobs: Jobs, _body: bytes, _query: Query
) -> Document:
    """Begin to measure this device."""
    job = jobs.start("calibrate", partial(calibrate, services))
    return {"schema": "p2pllm.job/1", "job": job}


ROUTES: list[tuple[str, str, Callable[..., Awaitable[Document]]]] = [
    ("POST", "/recommend", recommend),
    ("GET", "/profile", profile),
    ("POST", "/profile", start_calibration),
]
