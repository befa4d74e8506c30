"""Proof that a model is what it says before it is used: names, shapes, values, and an effect."""

from pathlib import Path

import trio

from node.jobs import Report
from node.library import Held
from node.services import Services
from p2pllm import adapter, base_files, blocks
from p2pllm.jobs import CheckJob, CheckReport


async def prove_base(folder: Path) -> None:
    """Known files only, JSON without code, headers that hold; a cut that is of it;
    raises E0603, E0606, E0608 or E0711."""
    await trio.to_thread.run_sync(base_files.inspect, folder)
    await trio.to_thread.run_sync(blocks.read, folder)


async def prove(
    services: Services, folder: Path, base: Held, report: Report, *, sketch: bool = False
) -> CheckReport:
    """Run the proof that an adapter fits its base; raises the code of the rule it breaks."""
    await trio.to_thread.run_sync(adapter.inspect, folder, Path(base.folder))
    job = CheckJob(
        base_dir=base.folder,
        adapter_dir=str(folder),
        model=base.model,
        sketch=sketch,
        threads=services.config.learn.threads,
        max_memory_bytes=services.memory_bytes,
    )
    done = await services.learner.run(job, report)
    assert isinstance(done, CheckReport)
    return done
