"""What this device is: memory within its cgroups, cores, accelerators; measured, dated, on disk."""

import os
import platform
from pathlib import Path
from typing import Annotated

import msgspec
import psutil

from p2pllm.durable import replace_file
from p2pllm.errors import LocalError
from p2pllm.fit import Calibration

PROFILE_FILE = "profile.json"
_UNLIMITED = 2**60  # cgroup v1 writes a number near 2**63 for 'no limit'
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device as it was found at `measured_at`."""

    measured_at: float  # Unix seconds
    system: str  # such as 'Linux x86_64'
    processor: str
    cores: float  # that this process may use: affinity and cgroup quota
    memory_bytes: Count  # that this process may use in all
    free_bytes: Count  # of it, when measured
    cgroup_bytes: Count = 0  # the limit that confines it; 0 for none
    accelerators: tuple[str, ...] = ()
    calibration: Calibration | None = None


def look(now: float, root: Path = Path("/")) -> Device:
    """This device now, without a calibration; `root` is where /proc and /sys are."""
    total = int(psutil.virtual_memory().total)
    limit = min((limit for limit, _ in _memory_limits(root)), default=0)
    return Device(
        measured_at=now,
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(root),
        cores=_cores(root),
        memory_bytes=min(total, limit or total),
        free_bytes=free_bytes(root),
        cgroup_bytes=limit,
        accelerators=_accelerators(root),
    )


def free_bytes(root: Path = Path("/")) -> int:
    """Memory that can still be taken: the machine's, or less where this process is confined."""
    free = int(psutil.virtual_memory().available)
    return min([free, *(max(0, most - used) for most, used in _memory_limits(root))])


def save(device: Device, home: Path) -> None:
    """Keep a profile in a node's folder."""
    replace_file(home / PROFILE_FILE, msgspec.json.format(msgspec.json.encode(device)))


def load(home: Path) -> Device | None:
    """The profile kept there, or None; LocalError E0306 if it cannot be read."""
    path = home / PROFILE_FILE
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Device)
    except msgspec.MsgspecError as bad:
        raise LocalError(
            "E0306",
            f"{path} is damaged",
            why=[str(bad)],
            fix=["p2pllm profile --calibrate writes it anew"],
        ) from bad


def _memory_limits(root: Path) -> list[tuple[int, int]]:
    """Limit and use, in bytes, of every cgroup above this process that has a limit; v1 and v2."""
    found = []
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            names, top = ("memory.max", "memory.current"), root / "sys/fs/cgroup"
            cached = "inactive_file "
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            top, cached = root / "sys/fs/cgroup/memory", "total_inactive_file "
        else:
            continue
        for folder in _upwards(top, path):
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and limit < _UNLIMITED:
                # Files that were read and could be read again are given up for the asking.
                spare = [
                    int(at[len(cached) :])
                    for at in _lines(folder / "memory.stat")
                    if at.startswith(cached)
                ]
                found.append((limit, max(0, (used or 0) - sum(spare))))
    return found


def _upwards(top: Path, path: str) -> list[Path]:
    """The folders of a cgroup and of all above it; in a container its own may be the top."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [top.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _cores(root: Path) -> float:
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    quotas = []
    for name in ("sys/fs/cgroup/cpu.max",):
        for line in _lines(root / name)[:1]:
            quota, _, period = line.partition(" ")
            if quota.isdigit() and period.strip().isdigit():
                quotas.append(int(quota) / int(period))
    quota_us = _number(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    period_us = _number(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us")
    if quota_us and period_us and quota_us > 0:
        quotas.append(quota_us / period_us)
    return round(min([cores, *quotas]), 2)


def _processor(root: Path) -> str:
    for line in _lines(root / "proc/cpuinfo"):
        if line.startswith(("model name", "Model", "Hardware")):
            return line.partition(":")[2].strip()[:100]
    return platform.processor()[:100]


def _accelerators(root: Path) -> tuple[str, ...]:
    """What could compute beside the processor, by name; models run on the processor today."""
    named = []
    for info in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        models = [line for line in _lines(info) if line.startswith("Model:")]
        named += [line.partition(":")[2].strip()[:100] for line in models]
    if (root / "dev/kfd").exists():
        named.append("AMD GPU (ROCm)")
    return tuple(named + ["NPU"] * any((root / "sys/class/accel").glob("accel*")))


def _number(path: Path) -> int | None:
    line = next(iter(_lines(path)), "").strip()
    return int(line) if line.lstrip("-").isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []  # another system, or not confined
