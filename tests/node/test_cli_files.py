"""`merge`, `quantise` and `export` ask the daemon for what was said, with whole paths."""

from pathlib import Path

import pytest

from tests.node.double import Double
from tests.node.test_cli_verbs import BASE, REF, Ask, ask, daemon, home

__all__ = ["ask", "daemon", "home"]  # fixtures


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (
            f"merge {REF} ./mine --weight 1 --weight -0.5 --name both --place en/medical"
            " --energy 0.99 --method ties --rank 8",
            {"kind": "merge", "what": [REF, "HERE/mine"], "weights": [1.0, -0.5], "name": "both"}
            | {"place": "en/medical", "energy": 0.99, "method": "ties", "rank": 8},
        ),
        (
            "merge --head en/medical --name served",
            {"kind": "merge", "what": [], "weights": [], "head": "en/medical", "name": "served"},
        ),
        (
            f"quantise {BASE} --bits 4 --data mine",
            {"kind": "quantise", "ref": BASE, "bits": 4, "data": ["HERE/mine"]},
        ),
        (
            f"export {REF} --format gguf --to out --alone",
            {"kind": "export", "ref": REF, "format": "gguf", "dest": "HERE/out", "alone": True},
        ),
    ],
)
def test_what_is_said_is_what_is_asked(
    daemon: Double,
    ask: Ask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: str,
    wanted: dict[str, object],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert ask(*argv.split())[0] == 0
    [body] = daemon.bodies("POST", "jobs")

    def placed(value: object) -> object:
        if isinstance(value, list):
            return [placed(one) for one in value]
        return value.replace("HERE", str(tmp_path)) if isinstance(value, str) else value

    assert body == {key: placed(value) for key, value in wanted.items()}
