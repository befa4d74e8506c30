"""What an update gave a keeper of a place on text of its own: a few signed numbers. No torch.

Told to other keepers of the place, who decide whether they take the update. docs/specs/gate.md, 9
"""

from typing import Annotated

import msgspec

from p2pllm import codec
from p2pllm.bounds import Estimate
from p2pllm.ids import ContentIdField, NodeIdField
from p2pllm.keys import Identity
from p2pllm.names import Place
from p2pllm.summary import Nats

PURPOSE = "gain.1"
MAX_GAIN_BYTES = 1024
DIGITS = 4  # of a number: what is told of own text is no finer than what decides


class Gain(msgspec.Struct, frozen=True, kw_only=True, tag="gain.1"):
    """The update alone on its base: what documents of one keeper gained. Signed as `gain.1`."""

    by: NodeIdField
    place: Place
    update: ContentIdField
    model: ContentIdField  # the base
    documents: Annotated[int, msgspec.Meta(ge=2, le=2**20)]
    mean: Nats  # per token: before less after
    error: Annotated[float, msgspec.Meta(ge=0, le=1e6)]  # standard error of the mean
    measured_at: Annotated[float, msgspec.Meta(ge=0, le=2**33)]  # Unix seconds

    @property
    def estimate(self) -> Estimate:
        """The same as the gate takes it."""
        return Estimate(self.mean, self.error, self.documents)


def rounded(found: Estimate) -> Estimate:
    """An estimate as it is told; its error is never told smaller than the rounding."""
    error = max(round(found.error, DIGITS), 10.0**-DIGITS)
    return Estimate(round(found.mean, DIGITS), error, found.count)


def seal(identity: Identity, gain: Gain) -> bytes:
    """The signed bytes of a gain."""
    return codec.sign(identity, PURPOSE, gain)


def open_gain(record: bytes) -> Gain:
    """A gain out of signed bytes; PeerError E0602 or E0603 if it is forged or malformed."""
    return codec.open_signed(record, PURPOSE, Gain, MAX_GAIN_BYTES)
