"""The job that measures this device, and what it answers. No torch."""

from typing import Annotated

import msgspec

from p2pllm.fit import Calibration
from p2pllm.job_fields import Bytes, Threads


class CalibrateJob(msgspec.Struct, frozen=True, kw_only=True, tag="calibrate", tag_field="job"):
    """Measure how fast this device runs models, and what they cost beside their weights."""

    seconds: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0  # about, libraries loaded
    threads: Threads = 1
    max_memory_bytes: Bytes = 0


class CalibrateReport(msgspec.Struct, frozen=True, kw_only=True, tag="calibrate", tag_field="job"):
    """What this device was found to cost."""

    calibration: Calibration
    reference_s: float  # least seconds a token of the probe that later runs are compared with
    seconds: float
    peak_rss: int
