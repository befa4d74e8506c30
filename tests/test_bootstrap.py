"""What bootstrap/ hands out can be used as it stands."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from node import config

ROOT = Path(__file__).parent.parent
CHECK = ROOT / "bootstrap/check_system.sh"


@pytest.mark.parametrize("name", ["config.toml", "seeds.toml"])
def test_file_is_a_configuration_that_a_node_accepts(name: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "bootstrap" / name, tmp_path / "config.toml")
    assert config.load(tmp_path).home == tmp_path


def test_seed_listens_to_the_world_on_a_fixed_port(tmp_path: Path) -> None:
    shutil.copy(ROOT / "bootstrap/config.toml", tmp_path)
    listen = config.load(tmp_path).network.listen
    assert all("/0.0.0.0/" in address and "/4001" in address for address in listen)


def run_check(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(CHECK)],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
    )


def test_check_names_the_apt_command_when_gmp_is_missing(tmp_path: Path) -> None:
    compiler = tmp_path / "cc"  # a compiler that finds no header
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    done = run_check(CC=str(compiler))
    assert done.returncode == 1
    assert "apt-get install -y" in done.stderr
    assert "libgmp-dev" in done.stderr


def test_check_names_the_apt_command_when_the_compiler_is_missing() -> None:
    done = run_check(CC="/nowhere/cc")
    assert done.returncode == 1
    assert "build-essential libgmp-dev" in done.stderr


def test_check_refuses_an_old_python(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    python.chmod(0o755)
    done = run_check(PYTHON=str(python))
    assert done.returncode == 1
    assert "Python 3.9.2 is too old" in done.stderr


def test_unit_is_well_formed_and_starts_the_installed_program() -> None:
    lines = (ROOT / "bootstrap/p2pllm.service").read_text().splitlines()
    settings = [line for line in lines if line and not line.startswith(("#", "["))]
    assert all(line.partition("=")[0].isalnum() for line in settings)
    assert "ExecStart=/opt/p2pllm/.venv/bin/p2pllm --home /var/lib/p2pllm up" in settings
