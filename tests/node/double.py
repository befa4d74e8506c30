"""A stand-in for the daemon: a real HTTP server on a unix socket that answers recorded samples.

For tests of the command line alone; tests of the node itself start real daemons.
"""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

SAMPLES = Path(__file__).parent / "samples"
PREFIX = "/p2p/v1/"

GETS = {
    "profile": "profile",
    "status": "status",
    "identity": "identity",
    "peers": "peers",
    "models": "models",
    "models/show": "model",
    "store": "store",
    "jobs": "jobs",
    "jobs/j1": "job",
    "jobs/j2": "job",
    "trust": "trust",
    "trust/explain": "explanation",
    "quarantine": "quarantine",
    "follow": "follow",
    "tree": "tree",
}
POSTS = {
    "recommend": "recommend",
    "peers": "peer",
    "search": "search",
    "store/gc": "gc",
    "store/verify": "verify",
    "store/pin": "pin",
    "down": "down",
    "trust": "trust",
    "trust/probes": "probes",
    "quarantine": "quarantine",
    "follow": "follow",
}
DELETES = {"models": "removed", "jobs/j1": "job", "jobs/j2": "job"}
DELETES |= {"quarantine": "quarantine", "trust/probes": "probes"}


def sample(name: str) -> dict[str, Any]:
    return json.loads((SAMPLES / f"{name}.json").read_text())


class Double:
    """What it answers, what it was asked, and a gate that holds a job's last events back."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {}
        for method, table in (("GET", GETS), ("POST", POSTS), ("DELETE", DELETES)):
            for path, name in table.items():
                self.answers[method, path] = (200, sample(name))
        self.answers["POST", "jobs"] = (202, {"job": "j1"})
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.events: list[dict[str, Any]] = []
        self.after_cancel: list[dict[str, Any]] = []
        self.streams = 0
        self.break_first = 0  # streams that break after one event
        self.stall = False  # send no last event until cancelled
        self.cancelled = threading.Event()
        self.asleep = threading.Event()  # set when the server shuts down
        self.seen = threading.Condition()

    def bodies(self, method: str, path: str) -> list[Any]:
        return [body for m, p, _, body in self.asked if (m, p) == (method, path)]

    def queries(self, method: str, path: str) -> list[dict[str, str]]:
        return [query for m, p, query, _ in self.asked if (m, p) == (method, path)]

    def stream(self, after: int) -> Iterator[dict[str, Any]]:
        self.streams += 1
        for seq, event in enumerate(self.events, 1):
            if seq <= after:
                continue
            yield {**event, "seq": seq}
            if self.streams <= self.break_first:
                return
        if self.stall:
            while not (self.cancelled.wait(0.02) or self.asleep.is_set()):
                pass
            for seq, event in enumerate(self.after_cancel, len(self.events) + 1):
                yield {**event, "seq": seq}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    double: Double

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        assert parts.path.startswith(PREFIX)
        path, query = parts.path.removeprefix(PREFIX), dict(parse_qsl(parts.query))
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        with self.double.seen:
            self.double.asked.append((self.command, path, query, body))
            self.double.seen.notify_all()
        if (self.command, path) == ("GET", "events"):
            self._events(int(query.get("after", 0)))
            return
        if self.command == "DELETE" and path.startswith("jobs/"):
            self.double.cancelled.set()
        status, document = self.double.answers.get(
            (self.command, path), (404, {"error": {**sample("error")["error"], "code": "E0404"}})
        )
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815

    def _events(self, after: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk(b": ping\n\n")
        for event in self.double.stream(after):
            text = f"id: {event.pop('seq')}\ndata: {json.dumps(event)}\n\n"
            self._chunk(text.encode())
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        return


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        return  # a client that goes away is part of what is tested


@contextmanager
def open_double(socket: Path, **status: object) -> Iterator[Double]:
    """Answer on `socket` for the length of the block; `status` differs so from the sample."""
    double = Double()
    double.answers["GET", "status"] = (200, {**sample("status"), **status})
    handler = type("Handler", (_Handler,), {"double": double})
    socket.parent.mkdir(parents=True, exist_ok=True)
    server = _Server(str(socket), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield double
    finally:
        double.asleep.set()
        server.shutdown()
        server.server_close()
        thread.join()
        socket.unlink()
