"""Learn jobs of a node: the process waits for the next one, and is replaced when it has gone."""

from pathlib import Path

import trio
import trio.testing

from node.learning import open_learner
from p2pllm.jobs import ImportJob, ImportReport
from tests.p2pllm.learn import tiny


def quiet(_stage: str, **_fields: object) -> None:
    """Nobody listens."""


def test_a_process_waits_for_the_next_job_and_one_that_left_is_replaced(tmp_path: Path) -> None:
    source = tiny.save_base(tmp_path / "base", tiny.llama())

    async def jobs() -> None:
        async with open_learner() as learner:
            seen = []
            for number in range(3):
                job = ImportJob(source=str(source), out_dir=str(tmp_path / str(number)))
                assert isinstance(await learner.run(job, quiet), ImportReport)
                assert learner._kept is not None
                seen.append(learner._kept.process)
                if number == 1:
                    seen[1].terminate()  # as if it had waited for too long
                    await seen[1].wait()
                    await trio.testing.wait_all_tasks_blocked()
                    assert learner._kept is None  # its end is seen without a next job
            assert seen[0] is seen[1]
            assert seen[1] is not seen[2]
        assert [one.returncode for one in seen] == [0, 0, 0]

    trio.run(jobs)
