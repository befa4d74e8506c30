"""The control API of the daemon, asked over its unix socket. Standard library alone, blocking.

Every failure leaves as a P2pllmError: what the daemon answered as DaemonError, no daemon as E0302,
no answer in time as E0501.
"""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from p2pllm.errors import LocalError, P2pllmError, Unavailable

PREFIX = "/p2p/v1/"
MAX_ANSWER_BYTES = 64 * 1024 * 1024  # ten thousand search results are 4 MB
MAX_EVENT_BYTES = 1024 * 1024
PING_S = 15.0  # the daemon sends at least this often on an event stream
STARTING_S = 20.0  # a new daemon's DHT takes some seconds, more on a busy machine
LOOK_S = 0.5
_pause = threading.Event()  # never set
Document = dict[str, Any]


class DaemonError(P2pllmError):
    """What the daemon answered instead of a result; `exit` and `kind` are its own words."""

    def __init__(self, card: Mapping[str, Any]) -> None:
        super().__init__(
            str(card.get("code", "E0101")),
            str(card.get("message", "the daemon gave no reason")),
            why=[str(line) for line in card.get("why") or ()],
            fix=[str(line) for line in card.get("fix") or ()],
            details=card.get("details") or {},
        )
        self.kind = str(card.get("kind", "DaemonError"))
        self.exit = card.get("exit")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except BaseException:
            self.sock.close()
            raise


class Client:
    """One daemon, named by its control socket. Each request has its own connection."""

    def __init__(
        self, path: Path, timeout_s: float = 30.0, tell: Callable[[str], None] | None = None
    ) -> None:
        """With `tell`, which is told so, what a daemon cannot do yet is waited for."""
        self.path = path
        self.timeout_s = timeout_s
        self._tell = tell
        self._patience_s = min(STARTING_S, timeout_s)  # of all requests together

    def get(self, what: str, **query: object) -> Document:
        """The document at `what`."""
        return self._ask("GET", what, query)

    def post(self, what: str, body: Mapping[str, object] | None = None) -> Document:
        """What the daemon answers to `body`."""
        return self._ask("POST", what, {}, body or {})

    def delete(
        self, what: str, body: Mapping[str, object] | None = None, **query: object
    ) -> Document:
        """What the daemon answers to a removal."""
        return self._ask("DELETE", what, query, body)

    def get_bytes(self, what: str, **query: object) -> bytes:
        """The bytes at `what`, as they are."""
        connection, answer = self._open("GET", what, query, None)
        try:
            return _read(answer)
        except (OSError, http.client.HTTPException) as broken:
            raise self._failed(broken) from broken
        finally:
            answer.close()
            connection.close()

    def running(self) -> Document | None:
        """The daemon's status, or None where none answers."""
        try:
            return self.get("status")
        except LocalError as error:
            if error.code == "E0302":
                return None
            raise

    def awaited(self, early: P2pllmError) -> bool:
        """Wait if a part of the daemon is starting, which a request failed for: give it again?"""
        part = early.details.get("starting")
        if part is None or self._tell is None or self._patience_s <= 0:
            return False
        self._tell("waiting: the daemon is starting")
        while self._patience_s > 0:
            _pause.wait(LOOK_S)
            self._patience_s -= LOOK_S
            children = self.get("status").get("children") or {}
            if children.get(part, {}).get("state") == "up":
                return True
        return False

    def events(self, job: str, after: int = 0) -> Iterator[Document]:
        """A job's events numbered above `after`, as they come; each with its 'seq'."""
        connection, answer = self._open("GET", "events", {"job": job, "after": after}, None)
        try:
            yield from read_events(answer)
        except (OSError, http.client.HTTPException) as broken:
            raise self._failed(broken) from broken
        finally:
            answer.close()
            connection.close()

    def _ask(
        self,
        method: str,
        what: str,
        query: Mapping[str, object],
        body: Mapping[str, object] | None = None,
    ) -> Document:
        connection, answer = self._open(method, what, query, body)
        try:
            return _document(_read(answer))
        except (OSError, http.client.HTTPException) as broken:
            raise self._failed(broken) from broken
        finally:
            answer.close()
            connection.close()

    def _open(
        self,
        method: str,
        what: str,
        query: Mapping[str, object],
        body: Mapping[str, object] | None,
    ) -> tuple[_UnixConnection, http.client.HTTPResponse]:
        while True:
            try:
                return self._request(method, what, query, body)
            except DaemonError as early:
                if not self.awaited(early):
                    raise

    def _request(
        self,
        method: str,
        what: str,
        query: Mapping[str, object],
        body: Mapping[str, object] | None,
    ) -> tuple[_UnixConnection, http.client.HTTPResponse]:
        given = {key: value for key, value in query.items() if value is not None}
        target = PREFIX + quote(what) + (f"?{urlencode(given)}" if given else "")
        data = None if body is None else _encoded(body)
        headers = {} if data is None else {"Content-Type": "application/json"}
        timeout_s = self.timeout_s if what != "events" else max(self.timeout_s, 3 * PING_S)
        connection = _UnixConnection(self.path, timeout_s)
        try:
            connection.request(method, target, data, headers)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise _refusal(answer)
        except (OSError, http.client.HTTPException) as broken:
            connection.close()
            raise self._failed(broken) from broken
        except BaseException:
            connection.close()
            raise
        return connection, answer

    def _failed(self, broken: Exception) -> P2pllmError:
        if isinstance(broken, TimeoutError):
            return Unavailable(
                "E0501",
                f"the daemon gave no answer in {self.timeout_s:g} s",
                fix=["p2pllm doctor", "or wait longer: --timeout 2m"],
            )
        if isinstance(broken, FileNotFoundError | ConnectionRefusedError):
            return LocalError(
                "E0302",
                "no daemon is running",
                why=[f"nothing answers at {self.path}"],
                fix=["p2pllm up --detach"],
            )
        why = f"{self.path}: {broken or type(broken).__name__}"
        fix = ["p2pllm status", "p2pllm up --detach"]
        return LocalError("E0302", "the daemon cannot be asked, or stopped", why=[why], fix=fix)


def _encoded(body: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except ValueError as bad:
        raise LocalError("E0204", "an option is infinite, or no number at all (nan)") from bad


def read_events(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[Document]:
    """Events out of a text/event-stream; comments and empty events are passed over."""
    seq, data = 0, b""
    for line in _lines(lines):
        if line.startswith(b"id:"):
            number = line[3:].strip()
            seq = int(number) if number.isdigit() else seq
        elif line.startswith(b"data:"):
            data += line[5:].strip()
        elif not line and data:
            event = _document(data)
            yield event if "seq" in event else {**event, "seq": seq}
            data = b""


def _lines(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[bytes]:
    if not isinstance(lines, http.client.HTTPResponse):
        yield from (line.rstrip(b"\r\n") for line in lines)
        return
    while line := lines.readline(MAX_EVENT_BYTES + 1):
        if len(line) > MAX_EVENT_BYTES:
            raise http.client.LineTooLong("event")
        yield line.rstrip(b"\r\n")


def _read(answer: http.client.HTTPResponse) -> bytes:
    data = answer.read(MAX_ANSWER_BYTES + 1)
    if len(data) > MAX_ANSWER_BYTES:
        raise http.client.HTTPException(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return data


def _document(data: bytes) -> Document:
    try:
        found = json.loads(data or b"{}")
    except ValueError as bad:
        raise http.client.HTTPException("an answer that is not JSON") from bad
    if not isinstance(found, dict):
        raise http.client.HTTPException("an answer that is not a JSON object")
    return found


def _refusal(answer: http.client.HTTPResponse) -> P2pllmError:
    try:
        card = _document(_read(answer)).get("error")
    except http.client.HTTPException:
        card = None
    if not isinstance(card, dict):
        why = [f"HTTP {answer.status} {answer.reason}"]
        return LocalError("E0101", "the daemon answered without a reason", why=why)
    return DaemonError(card)
