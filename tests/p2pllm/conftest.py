"""A store for a test, in a folder of its own."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from p2pllm.store import Store
from tests.p2pllm.stores import QUOTA


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "store", QUOTA)) as opened:
        yield opened
