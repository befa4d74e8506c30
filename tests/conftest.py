"""How much the property tests try: the usual profile, and `sim`, which `make sim` asks for."""

import os
import signal

from hypothesis import HealthCheck, settings

# No deadline: on a shared machine a slow example says nothing about the code.
_QUIET = (HealthCheck.too_slow,)
settings.register_profile("usual", deadline=None, suppress_health_check=_QUIET, print_blob=True)
settings.register_profile(
    "sim",
    deadline=None,
    suppress_health_check=_QUIET,
    print_blob=True,
    max_examples=2000,
    stateful_step_count=100,
)
settings.load_profile("usual")

# Two threads of a matrix library on a busy machine wait for each other, up to six times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A shell that starts tests in the background has them ignore Ctrl-C, and all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
