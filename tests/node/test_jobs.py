"""Jobs of a node: what their progress says, whoever reports it."""

from pathlib import Path
from typing import Any

import pytest
import trio

from node.events import Events
from node.jobs import Jobs, Report
from node.library import Library
from tests.node.test_database import full


class Clock:
    """A time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def progress_of(tmp_path: Path, said: list[tuple[float, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The progress events of a job that says these things, each after some seconds."""
    clock = Clock()

    async def work(report: Report) -> dict[str, Any]:
        for seconds, fields in said:
            clock.now += seconds
            report(**fields)
        return {}

    async def main() -> list[dict[str, Any]]:
        library = Library(tmp_path / "node.db")
        async with trio.open_nursery() as nursery:
            jobs = Jobs(nursery, library, Events(clock), clock)
            name = jobs.start("pull", work)
            found = [dict(event) async for event in jobs.follow(name, 0, 1.0) if event]
        library.close()
        return [event for event in found if event["event"] == "progress"]

    return trio.run(main)


def fetch(done: int, **more: Any) -> dict[str, Any]:
    return {"stage": "fetch", "done": done, "total": 1000, **more}


def test_a_job_of_an_earlier_run_is_followed_to_its_end(tmp_path: Path) -> None:
    async def main() -> list[dict[str, Any]]:
        library, clock = Library(tmp_path / "node.db"), Clock()
        library.put_job("j7", "tune", "running", 1.0)
        async with trio.open_nursery() as nursery:
            jobs = Jobs(nursery, library, Events(clock), clock)
            found = [dict(event) async for event in jobs.follow("j7", 41, 1.0) if event]
        library.close()
        return found

    (last,) = trio.run(main)
    assert (last["event"], last["seq"], last["error"]["code"]) == ("error", 42, "E1002")


def test_a_stage_that_counts_has_a_time_left_even_if_it_says_none(tmp_path: Path) -> None:
    said = [(0.0, {"stage": "find"}), (5.0, fetch(200)), (2.0, fetch(300)), (2.0, fetch(600))]
    found = progress_of(tmp_path, [*said, (1.0, fetch(1000))])
    # Of a pull that goes on from 200, nothing is known before more has come.
    assert [event.get("eta_s") for event in found] == [None, None, 14.0, pytest.approx(4.0), None]


def test_what_a_stage_says_of_its_time_is_kept(tmp_path: Path) -> None:
    said = [(0.0, fetch(0)), (1.0, fetch(10, eta_s=7.0)), (1.0, {"stage": "store", "done": 1})]
    assert [event.get("eta_s") for event in progress_of(tmp_path, said)] == [None, 7.0, None]


def test_a_stage_is_told_twice_a_second_at_most(tmp_path: Path) -> None:
    found = progress_of(tmp_path, [(0.25, fetch(number)) for number in range(8)])
    assert [event["done"] for event in found] == [0, 2, 4, 6]


def test_who_waits_for_a_job_hears_its_end_on_a_full_disk(tmp_path: Path) -> None:
    async def work(_report: Report) -> dict[str, Any]:
        full(library._db)
        return {"long": "x" * 100_000}

    async def main() -> list[dict[str, Any]]:
        async with trio.open_nursery() as nursery:
            jobs = Jobs(nursery, library, Events(Clock()), Clock())
            name = jobs.start("pull", work)
            return [dict(event) async for event in jobs.follow(name, 0, 1.0) if event]

    library = Library(tmp_path / "node.db")
    assert [event["event"] for event in trio.run(main)] == ["result"]
    library.close()


def test_the_newest_job_comes_first_whatever_the_clock_says(tmp_path: Path) -> None:
    library = Library(tmp_path / "node.db")
    for number, started in enumerate((100.0, 900.0, 50.0)):
        library.put_job(f"j{number}", "pull", "running", started)
        library.end_job(f"j{number}", "done", started, "{}")
    assert [row["job"] for row in library.jobs()] == ["j2", "j1", "j0"]
    library.close()
