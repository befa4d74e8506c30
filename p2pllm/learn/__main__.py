"""Learn jobs: `python -m p2pllm.learn` reads a job and writes events (see `p2pllm.jobs`).

With `--warm` it stays for further jobs (see `p2pllm.learn.warm`).
"""

import os
import sys
import traceback
from collections.abc import Callable
from functools import partial

from p2pllm import jobs
from p2pllm.durable import file_fault
from p2pllm.errors import LocalError, P2pllmError
from p2pllm.jobs import (
    CheckJob,
    EvalJob,
    ImportJob,
    Job,
    Progress,
    Report,
    Result,
    SketchJob,
    VitalsJob,
)
from p2pllm.jobs_blocks import BlockJob, GatherJob
from p2pllm.jobs_device import CalibrateJob
from p2pllm.jobs_files import FilesJob
from p2pllm.jobs_learn import ContinualJob
from p2pllm.jobs_round import MergeJob, RoundJob
from p2pllm.jobs_shadow import ShadowJob
from p2pllm.jobs_teach import DistillJob
from p2pllm.jobs_transfer import TransferJob
from p2pllm.learn.channel import Channel

_NO_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


def main() -> int:
    """Run the job on standard input; 0, or the exit status of the error it ended with."""
    channel = Channel()
    if sys.argv[1:] != ["--warm"]:
        return _one(channel)
    from p2pllm.learn import warm

    _prepare(1)  # each job says how many threads it has
    return warm.serve(partial(_one, channel))


def _one(channel: Channel, life: int = 0) -> int:
    try:
        job = channel.read_job(life)
        _prepare(job.threads)
        report = _run(job, channel.progress)
    except P2pllmError as error:
        return _fail(channel, error)
    except Exception as fault:  # noqa: BLE001 - the edge of the process
        traceback.print_exc()
        return _fail(channel, _crash(fault))
    channel.send(Result(report=report))
    return 0


def _prepare(threads: int) -> None:
    # Written, not read: these libraries take their settings from the environment as they are
    # imported, and this process must neither reach for a network nor take more cores.
    os.environ |= {  # noqa: TID251
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }


def _run(job: Job, report: Callable[[Progress], None]) -> Report:
    report(Progress(stage="start", message="loading the learning libraries"))
    import torch

    torch.set_num_threads(job.threads)
    if isinstance(job, ImportJob):
        from p2pllm.learn.base_import import import_base

        return import_base(job, report)
    if isinstance(job, EvalJob):
        from p2pllm.learn.evaluate import evaluate

        return evaluate(job, report)
    if isinstance(job, CheckJob):
        from p2pllm.learn.check import check

        return check(job, report)
    if isinstance(job, VitalsJob | SketchJob):
        from p2pllm.learn import vitals

        return vitals.run(job, report)
    if isinstance(job, RoundJob | MergeJob):
        from p2pllm.learn import round_measure

        return round_measure.run(job, report)
    if isinstance(job, ShadowJob):
        from p2pllm.learn.shadow import shadow

        return shadow(job, report)
    if isinstance(job, CalibrateJob):
        from p2pllm.learn.calibrate import calibrate

        return calibrate(job, report)
    if isinstance(job, DistillJob):
        from p2pllm.learn.teach import teach

        return teach(job, report)
    if isinstance(job, TransferJob):
        from p2pllm.learn import handover

        return handover.run(job, report)
    if isinstance(job, ContinualJob):
        from p2pllm.learn import stream

        return stream.step(job, report)
    if isinstance(job, FilesJob):
        from p2pllm.learn import convert

        return convert.run(job, report)
    if isinstance(job, BlockJob):
        from p2pllm.learn.block_cut import cut_block

        return cut_block(job, report)
    if isinstance(job, GatherJob):
        from p2pllm.learn.gather import gather

        return gather(job, report)
    from p2pllm.learn.tune import tune

    return tune(job, report)


def _crash(fault: Exception) -> LocalError:
    text = str(fault)
    if isinstance(fault, MemoryError) or any(part in text for part in _NO_MEMORY):
        return LocalError(
            "E1003",
            "the job ran out of memory",
            why=[text.strip().splitlines()[0][:300]] if text.strip() else [],
            fix=["use a smaller batch, a shorter sequence or a smaller base, or free memory"],
        )
    if (refused := file_fault(fault)) is not None:
        return refused
    if "No space left" in text:
        return LocalError("E0802", "the disk is full", why=[text], fix=["free disk space"])
    return LocalError(
        "E1002",
        f"the job failed: {type(fault).__name__}: {text[:300]}",
    )


def _fail(channel: Channel, error: P2pllmError) -> int:
    channel.send(jobs.failed(error))
    return int(error.code[1:3])


if __name__ == "__main__":
    ended = main()
    sys.stderr.flush()
    os._exit(ended)  # all is written, and taking torch apart takes a second of a busy machine
