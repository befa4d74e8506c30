"""When a child proposes an update to its parent: armed by a lasting gain, with hysteresis.

Stage one of the rule in docs/specs/gate.md. No I/O, no clock: windows in, a state out.
"""

from typing import Annotated

import msgspec

Nats = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]  # per token


class ArmRule(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of stage one."""

    on: Nats = 0.02  # of the smoothed gain
    off: Nats = 0.01
    windows: int = 2  # in a row, before either counts
    smooth: float = 0.1  # share of the latest window
    tokens: int = 20_000  # learnt since the last proposal


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """What a child remembers between windows."""

    level: float | None = None  # smoothed gain, nats per token
    windows: int = 0  # seen
    run: int = 0  # in a row that ask for the other state
    armed: bool = False
    tokens: int = 0  # learnt since the last proposal


def observe(arm: Arm, gain: float, tokens: int, rule: ArmRule) -> Arm:
    """The state after one window.

    gain     loss of the parent less loss of the child on the child's held-out text
    tokens   the child learnt in this window
    """
    share = max(rule.smooth, 1 / (arm.windows + 1))  # the first ones are a plain mean
    level = gain if arm.level is None else arm.level + share * (gain - arm.level)
    wants = level < rule.off if arm.armed else level > rule.on
    run = arm.run + 1 if wants else 0
    turns = run >= rule.windows
    return Arm(
        level=level,
        windows=arm.windows + 1,
        run=0 if turns else run,
        armed=arm.armed != turns,
        tokens=arm.tokens + tokens,
    )


def may_propose(arm: Arm, rule: ArmRule) -> bool:
    """Whether the child has something to propose now."""
    return arm.armed and arm.tokens >= rule.tokens


def proposed(arm: Arm) -> Arm:
    """The state after a proposal."""
    return msgspec.structs.replace(arm, tokens=0)


def adopted(arm: Arm) -> Arm:
    """The state after the parent took the child's update: the gain is measured anew."""
    return msgspec.structs.replace(arm, level=None, windows=0, run=0)
