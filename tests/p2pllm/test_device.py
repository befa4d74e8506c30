"""What a device is: memory under cgroups of both versions, cores, a profile kept on disk."""

from pathlib import Path

import msgspec
import pytest

from p2pllm import device
from p2pllm.errors import LocalError
from p2pllm.fit import CAUTIOUS

MIB = 1024**2


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_tightest_cgroup_above_counts_in_version_2(tmp_path: Path) -> None:
    put(tmp_path / "proc/self/cgroup", "0::/user/job\n")
    put(tmp_path / "sys/fs/cgroup/user/memory.max", f"{300 * MIB}\n")
    put(tmp_path / "sys/fs/cgroup/user/memory.current", f"{100 * MIB}\n")
    put(tmp_path / "sys/fs/cgroup/user/job/memory.max", "max\n")
    put(tmp_path / "sys/fs/cgroup/cpu.max", "50000 100000\n")
    found = device.look(0.0, tmp_path)
    assert (found.cgroup_bytes, found.memory_bytes) == (300 * MIB, 300 * MIB)
    assert found.free_bytes <= 200 * MIB
    assert found.cores == 0.5
    # Of what is used, files that were read can be read again.
    put(tmp_path / "sys/fs/cgroup/user/memory.stat", f"anon 5\ninactive_file {90 * MIB}\n")
    assert 200 * MIB < device.free_bytes(tmp_path) <= 290 * MIB


def test_version_1_is_read_and_its_number_for_no_limit_is_none(tmp_path: Path) -> None:
    put(tmp_path / "proc/self/cgroup", "4:memory:/a\n2:cpu:/\n0::/\n")
    top = tmp_path / "sys/fs/cgroup/memory"
    put(top / "memory.limit_in_bytes", "9223372036854771712\n")
    put(top / "memory.usage_in_bytes", "5\n")
    assert device.look(0.0, tmp_path).cgroup_bytes == 0
    put(top / "a/memory.limit_in_bytes", f"{64 * MIB}\n")
    put(top / "a/memory.usage_in_bytes", f"{60 * MIB}\n")
    found = device.look(0.0, tmp_path)
    assert found.cgroup_bytes == 64 * MIB
    assert found.free_bytes <= 4 * MIB


def test_an_accelerator_is_named(tmp_path: Path) -> None:
    put(tmp_path / "proc/driver/nvidia/gpus/0/information", "Model: \t NVIDIA Something\n")
    assert device.look(0.0, tmp_path).accelerators == ("NVIDIA Something",)


def test_a_profile_is_kept_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    assert device.load(tmp_path) is None
    found = msgspec.structs.replace(device.look(7.0), calibration=CAUTIOUS)
    device.save(found, tmp_path)
    assert device.load(tmp_path) == found
    (tmp_path / device.PROFILE_FILE).write_text("{")
    with pytest.raises(LocalError) as damaged:
        device.load(tmp_path)
    assert damaged.value.code == "E0306"
