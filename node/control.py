"""The control API: HTTP with JSON and an event stream over a unix socket that only its owner opens.

Paths, requests and answers: docs/specs/control.md. Everything long is a job; the rest answers at
once. Whoever can open the socket is the owner of this node: its mode is 0600 in a 0700 folder.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import trio
from hypercorn.config import Config as ServerConfig
from hypercorn.trio import serve as serve_http
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from node import advice_answers, answers, stream_answers, tree_answers, trust_acts, trust_answers
from node.events import Event
from node.jobs import Jobs, error_card, unforeseen
from node.services import Services
from p2pllm.durable import file_fault
from p2pllm.errors import LocalError, P2pllmError

log = logging.getLogger(__name__)
PREFIX = "/p2p/v1"
PING_S = 15.0
MAX_BODY_BYTES = 1024 * 1024
OWNER_ONLY = 0o177  # umask: the socket is 0600
_STATUS = {2: 400, 3: 409, 4: 404, 5: 504, 6: 422, 7: 403, 8: 507, 9: 503}

Answer = Callable[[Services, Jobs, bytes, dict[str, str]], Awaitable[dict[str, Any] | bytes]]


class Control:
    """The routes of the control API over one node."""

    def __init__(self, services: Services, jobs: Jobs, stop: Callable[[], None]) -> None:
        self._services = services
        self._jobs = jobs

        async def stop_after_the_answer() -> None:
            stop()

        self._stop = stop_after_the_answer
        self.app = Starlette(
            routes=[
                *(self._route(method, path, answer) for method, path, answer in answers.ROUTES),
                *(self._route(m, path, answer) for m, path, answer in stream_answers.ROUTES),
                *(self._route(m, path, answer) for m, path, answer in trust_answers.ROUTES),
                *(self._route(m, path, answer) for m, path, answer in trust_acts.ROUTES),
                *(self._route(m, path, answer) for m, path, answer in tree_answers.ROUTES),
                *(self._route(m, path, answer) for m, path, answer in advice_answers.ROUTES),
                Route(f"{PREFIX}/events", self._events),
                Route(f"{PREFIX}/down", self._down, methods=["POST"]),
            ],
            exception_handlers={404: _no_such_path, 405: _no_such_path},
        )

    def _route(self, method: str, path: str, answer: Answer) -> Route:
        async def handle(request: Request) -> Response:
            query = {**request.query_params, **request.path_params}
            try:
                body = await _body(request)
                document = await answer(self._services, self._jobs, body, query)
            except P2pllmError as error:
                return _refusal(error)
            except Exception as unknown:  # a fault of ours is an answer, too
                if file_fault(unknown) is None:
                    log.exception("%s %s", request.method, request.url.path)
                return _refusal(unforeseen(unknown))
            if isinstance(document, bytes):
                return Response(document, media_type="application/octet-stream")
            status = 202 if "job" in document and method == "POST" else 200
            return Response(msgspec.json.encode(document), status, media_type="application/json")

        return Route(f"{PREFIX}{path}", handle, methods=[method])

    async def _down(self, _request: Request) -> Response:
        document = {"schema": "p2pllm.down/1", "state": "stopping"}
        return JSONResponse(document, 202, background=BackgroundTask(self._stop))

    async def _events(self, request: Request) -> Response:
        query = request.query_params
        try:
            after = int(query.get("after") or request.headers.get("last-event-id") or 0)
            job = query.get("job")
            if job:
                self._jobs.show(job)
                source = self._jobs.follow(job, after, PING_S)
            else:
                source = self._services.events.follow(after, PING_S)
        except ValueError:
            return _refusal(LocalError("E0204", "after must be a number"))
        except P2pllmError as error:
            return _refusal(error)
        return StreamingResponse(_stream(source), media_type="text/event-stream")


async def _stream(source: AsyncIterator[Event | None]) -> AsyncIterator[bytes]:
    """Server-sent events, and a ping where nothing happens."""
    async for event in source:
        if event is None:
            yield b": ping\n\n"
        else:
            yield b"id: %d\ndata: %b\n\n" % (event["seq"], msgspec.json.encode(event))


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        elif size > 64 * MAX_BODY_BYTES:
            break  # until here it is read to the end, or the sender would not see the answer
    if size > MAX_BODY_BYTES:
        raise LocalError("E0204", f"a request has at most {MAX_BODY_BYTES} bytes")
    return b"".join(parts)


def _refusal(error: P2pllmError) -> Response:
    card = error_card(error)
    return JSONResponse({"error": card}, _STATUS.get(card["exit"], 500))


async def _no_such_path(request: Request, _error: Exception) -> Response:
    return _refusal(LocalError("E0204", f"no such request: {request.method} {request.url.path}"))


async def serve(
    control: Control, socket: str, *, task_status: Any = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer on the unix socket until cancelled; reports ready once it is bound."""
    config = ServerConfig()
    config.bind = [f"unix:{socket}"]
    config.umask = OWNER_ONLY
    config.accesslog = None
    config.graceful_timeout = 1.0
    try:
        await serve_http(control.app, config, task_status=task_status)  # type: ignore[arg-type]
    except OSError as fault:
        raise LocalError("E0305", f"cannot listen on {socket}", why=[str(fault)]) from fault
