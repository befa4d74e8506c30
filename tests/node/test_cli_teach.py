"""`distill` asks the daemon for what was said, with paths that mean the same to it."""

from pathlib import Path

import pytest

from tests.node.double import Double
from tests.node.test_cli_verbs import BASE, Ask, ask, daemon, home

__all__ = ["ask", "daemon", "home"]  # fixtures


def test_distill_sends_teacher_student_and_what_was_set(
    daemon: Double, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    argv = ["distill", BASE, "--into", "en/small", "--data", "a.txt", "--name", "taught"]
    assert ask(*argv, "--place", "en/medical", "--steps", "9", "--hard", "0.5")[0] == 0
    wanted = {"kind": "distill", "teacher": BASE, "student": "en/small", "name": "taught"}
    wanted |= {"data": [str(tmp_path / "a.txt")], "place": "en/medical"}
    assert daemon.bodies("POST", "jobs") == [wanted | {"steps": 9, "hard": 0.5}]
