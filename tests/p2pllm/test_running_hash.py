"""The running hash is that of the file, whatever the order the chunks came in."""

import random
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from p2pllm.ids import content_id
from p2pllm.manifest import CHUNK_BYTES
from p2pllm.running_hash import RunningHash

DATA = random.Random(1).randbytes(9 * CHUNK_BYTES + 5)
CHUNKS = [DATA[at : at + CHUNK_BYTES] for at in range(0, len(DATA), CHUNK_BYTES)]
IN_ORDER = list(range(len(CHUNKS)))


@pytest.mark.parametrize(
    "order", [IN_ORDER, IN_ORDER[::-1], IN_ORDER[5:] + IN_ORDER[:5], [3, 0, 1, 9, 2, 4, 8, 5, 7, 6]]
)
@pytest.mark.parametrize("before", [0, 4])
def test_hash_is_that_of_the_whole_whatever_the_order(order: list[int], before: int) -> None:
    """`before` chunks were there already, as when a fetch goes on."""
    with tempfile.TemporaryFile(buffering=0) as file:
        here = set(range(before))
        file.write(DATA[: before * CHUNK_BYTES])
        running = RunningHash(file.fileno())
        for index in order:
            file.seek(index * CHUNK_BYTES)
            file.write(CHUNKS[index])
            here.add(index)
            running.arrived(index, memoryview(CHUNKS[index]), here.__contains__)
        assert running.finish() == content_id(DATA)


def test_threads_do_not_get_in_each_others_way() -> None:
    with tempfile.TemporaryFile(buffering=0) as file, ThreadPoolExecutor(4) as pool:
        file.write(DATA)
        running = RunningHash(file.fileno())
        here = set(IN_ORDER)
        arrivals = [
            pool.submit(running.arrived, index, memoryview(CHUNKS[index]), here.__contains__)
            for index in IN_ORDER
        ]
        for arrival in arrivals:
            arrival.result()
        assert running.finish() == content_id(DATA)


def test_file_that_is_other_than_what_should_have_arrived_has_another_hash() -> None:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(bytes([DATA[0] ^ 1]) + DATA[1:])
        assert RunningHash(file.fileno()).finish() != content_id(DATA)
