"""Where a node lives and how it is set: flags over environment over config.toml over defaults.

The only module that reads the environment. Standard library alone, so that every verb may use it.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from p2pllm.errors import LocalError

GIB = 1024**3
_LARGEST = 10**9  # of any setting
_WANTED = {
    float: f"a number from 0 to {_LARGEST}",
    int: f"a whole number from 1 to {_LARGEST}",
    tuple: "a text or a list of texts",
}


@dataclass(frozen=True)
class NetworkConfig:
    """How this node meets others."""

    listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)  # multiaddrs; loopback unless you say so
    bootstrap: tuple[str, ...] = ()  # multiaddrs of seeds, each ending in /p2p/ID
    follow: tuple[str, ...] = ()  # places whose announcements we hear, such as en/medical
    presence_s: float = 60.0  # how often we say that we are up, and look for a copied key
    retry_s: float = 2.0  # first wait before an unreachable seed is tried again
    heads_s: float = 10.0  # how often peers of a place are asked for its heads


@dataclass(frozen=True)
class StoreConfig:
    """How much disk the models may take."""

    quota_gib: float = 20.0


@dataclass(frozen=True)
class LearnConfig:
    """What a learning job may use."""

    threads: int = 1  # two threads on a busy two-core machine are slower than one
    max_memory_gib: float = 0.0  # 0: what the machine (or its cgroup) has free


@dataclass(frozen=True)
class TrustConfig:
    """How updates of followed places are judged."""

    settle_s: float = 30.0  # what comes within this time is judged together
    review_s: float = 600.0  # after which a held update is judged again, on turned probes
    probe_tokens: int = 1024  # of each domain, in a round
    own_steps: int = 40  # of this node's own training on its probes, once
    witness_s: float = 60.0  # how often peers are asked what they observed
    audit: int = 4  # one node in so many looks at what a quarantined peer sends
    max_update_mib: int = 256  # a larger adapter is not fetched to be judged


@dataclass(frozen=True)
class Config:
    """All settings of one node."""

    home: Path
    network: NetworkConfig = field(default_factory=NetworkConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    learn: LearnConfig = field(default_factory=LearnConfig)
    trust: TrustConfig = field(default_factory=TrustConfig)

    @property
    def run(self) -> Path:
        """Sockets, lock and log: gone without loss."""
        return self.home / "run"

    @property
    def api(self) -> Path:
        """The control socket."""
        return self.run / "api.sock"


def home_dir(option: str | None) -> Path:
    """The node's folder: the flag, else $P2PLLM_HOME, else the platform's data folder."""
    if option:
        return Path(option).expanduser().absolute()
    if named := os.environ.get("P2PLLM_HOME"):
        return Path(named).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser().absolute() / "p2pllm"


def child_environment(**extra: str) -> dict[str, str]:
    """The environment for a child process: ours, and what the child must have set."""
    return {**os.environ, **extra}


def load(home: Path, flags: Mapping[str, object] | None = None) -> Config:
    """The settings in force; LocalError E0205 names the bad one and the nearest right spelling.

    `flags` maps 'section.key' to a value and wins over `P2PLLM_SECTION__KEY`, which wins over
    HOME/config.toml.
    """
    config = Config(home=home)
    for origin, settings in (
        (str(home / "config.toml"), _from_file(home / "config.toml")),
        ("environment", _from_environment()),
        ("flags", dict(flags or {})),
    ):
        for key, value in settings.items():
            config = _set(config, key, value, origin)
    return config


def _from_file(path: Path) -> dict[str, object]:
    if not path.exists():
        return {}
    try:
        tree = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as bad:
        raise LocalError(
            "E0205", f"{path} cannot be read", why=[str(bad)], fix=["mend it, or move it away"]
        ) from bad
    flat: dict[str, object] = {}
    for section, body in tree.items():
        if isinstance(body, dict):
            flat.update({f"{section}.{key}": value for key, value in body.items()})
        else:
            flat[section] = body
    return flat


def _from_environment() -> dict[str, object]:
    found: dict[str, object] = {}
    for name, text in os.environ.items():
        if name.startswith("P2PLLM_") and "__" in name:
            key = name.removeprefix("P2PLLM_").lower().replace("__", ".", 1)
            found[key] = _toml_value(text)
    return found


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _set(config: Config, key: str, value: object, origin: str) -> Config:
    section, _, name = key.partition(".")
    sections = [f.name for f in fields(Config) if f.name != "home"]
    part: Any = getattr(config, section, None) if section in sections else None
    known = [f.name for f in fields(part)] if is_dataclass(part) else []
    if name not in known:
        every = [f"{s}.{f.name}" for s in sections for f in fields(getattr(config, s))]
        near = difflib.get_close_matches(key, every, 1)
        raise LocalError(
            "E0205",
            f"{origin}: no such setting: {key}",
            fix=[f"did you mean {near[0]}?" if near else "settings: " + ", ".join(every)],
        )
    typed = _typed(getattr(part, name), value)
    if typed is None:
        want = _WANTED[type(getattr(part, name))]
        raise LocalError("E0205", f"{origin}: {key} must be {want}, not {value!r}")
    return replace(config, **{section: replace(part, **{name: typed})})


def _typed(default: object, value: object) -> object | None:
    if isinstance(default, tuple):
        items = [value] if isinstance(value, str) else value
        ok = isinstance(items, list | tuple) and all(isinstance(item, str) for item in items)
        return tuple(items) if ok and isinstance(items, list | tuple) else None
    if isinstance(default, float) and isinstance(value, int | float):
        return float(value) if 0 <= value <= _LARGEST and not isinstance(value, bool) else None
    if isinstance(default, int) and isinstance(value, int) and not isinstance(value, bool):
        return value if 1 <= value <= _LARGEST else None
    return None
