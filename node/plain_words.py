"""What the numbers of a verdict mean, in plain words, and which side of each limit is the harmful.

A number that is not in the table, as of a newer node, is shown as it is and never marked.
"""

from collections.abc import Mapping, Sequence
from math import exp
from typing import Any, Literal, NamedTuple

from node import render

Side = Literal["above", "from", "below"]
MARK = "!"


class Words(NamedTuple):
    """One number: which side of its limit speaks against the update, and what it says."""

    side: Side
    means: str
    costs: str  # what the harmful side does


REASONS: Mapping[str, Words] = {
    "sound": Words(
        "below",
        "1: finite weights of the promised shapes on the right base, its sketch true",
        "quarantines at once",
    ),
    "stake": Words(
        "from",
        "odds against the peer, of all its rounds, that it makes the place's text harder to tell"
        " apart",
        "quarantines",
    ),
    "counter": Words(
        "from",
        "odds against the peer, of all its rounds, that it works against this node's own training",
        "quarantines",
    ),
    "damage": Words(
        "from",
        "odds against the peer, of all its rounds, that it harms one kind of the place's text",
        "quarantines",
    ),
    "knowledge": Words(
        "below",
        "what it adds to telling the kinds of the probe's text apart, over the worst of honest"
        " peers",
        "raises the first odds; a quarter of the weight",
    ),
    "alignment": Words(
        "below",
        "how far it goes the way of this node's own training on the probe",
        "raises the second odds",
    ),
    "spare": Words(
        "below",
        "what the peer could still take from the kind of text that it harms most, in gains of the"
        " usual update",
        "raises the third odds",
    ),
    "p": Words(
        "below",
        "share of trusted peers' updates that were as unusual; odd is not guilty",
        "a quarter of the weight",
    ),
    "oddity": Words("from", "how unusual it is, in deviations from the usual", "nothing by itself"),
    "copies": Words("above", "peers that sent this update or a copy", "they share one vote"),
    "useful": Words(
        "below",
        "what the peer adds to the kind of text that it helps most, of the usual",
        "less weight",
    ),
    "reputation": Words("below", "the peer's share of good rounds", "suspect; less weight"),
    "harm": Words(
        "above", "rise of the loss on this node's own text, nats a token", "it is not served"
    ),
    "payload": Words(
        "above",
        "how surely it recites a text that came with it, in nats: the sign of a backdoor",
        "it is not served",
    ),
    "merged": Words(
        "above", "loss of what would be served, beside what is served now", "it is not served"
    ),
}
UPDATES = {
    "waiting": "waits to be fetched",
    "fetched": "waits to be measured",
    "held": "is held, and looked at again",
    "refused": "is refused",
}
"""State of an update without a verdict -> what that means."""

STAGES: Mapping[str, str] = {
    "shadow": "alone in the shadow",
    "together": "with what is served",
    "trial": "on trial",
    "child": "laid on a lower place",
    "up": "taught upwards",
    "down": "taught downwards",
}
CHECKS: Mapping[str, str] = {
    "signed": "its signature holds",
    "lineage": "it fits our base",
    "unseen": "it was not decided before",
    "judged": "the judge accepted it",
    "size": "bytes",
    "norm": "deviations of its length from the usual",
    "spectrum": "deviations of its spectrum from the usual",
    "novelty": "share that is not served yet",
    "trust": "weight of its publisher",
    "peers": "keepers whose text was scored, this node too",
    "anchors": "documents that rest",
    "gain": "least gain of probes, nats a token, 19 times of 20",
    "damage": "most damage to what rests, nats a token, 19 times of 20",
    "descendant": "most damage to a lower place",
    "fairness": "worsening of the fairness probe",
    "arm": "mean gain of its publisher's updates",
    "together": "most damage of the set that would be served",
    "best": "mean loss of that set over the best there was",
    "live": "documents that did not decide it",
}
ODDS = ("stake", "counter", "damage")  # their values are logarithms

FEATURES: Mapping[str, str] = {
    "sound": "the files are what they claim to be",
    "norm": "size of the change of the weights",
    "echo": "cosine to what the place accepted last",
    "agreement": "helps (to 1) or undoes (to -1) telling kinds of text apart",
    "alignment": "cosine to this node's own training, in what it changes",
    "fresh": "largest gain and loss of a kind of text that were not there before",
}


def harmful(reason: Mapping[str, Any]) -> bool:
    """Whether a number lies on the side of its limit that speaks against the update."""
    words = REASONS.get(str(reason["code"]))
    if words is None:
        return False
    value, limit = float(reason["value"]), float(reason["limit"])
    if words.side == "below":
        return value < limit
    return value > limit or (words.side == "from" and value == limit)


def reason_rows(reasons: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a number: a mark where it speaks against the update, value, limit, meaning."""
    rows = []
    for reason in reasons:
        code = str(reason["code"])
        words = REASONS.get(code)
        bad = harmful(reason)
        if words is None:
            says = "a number that this version does not know"
        else:
            says = words.means + (f": {words.costs}" if bad else "")
        shown = [_shown(code, reason[name]) for name in ("value", "limit")]
        rows.append((MARK if bad else " ", code, shown[0], _bound(code, shown[1]), says))
    return render.table((" ", "NUMBER", "VALUE", "BAD IF", "WHAT IT SAYS"), rows)


def _shown(code: str, value: Any) -> str:
    if code in ODDS:
        return f"{exp(min(float(value), 50.0)):.3g}:1"
    return f"{float(value):.4g}"


def _bound(code: str, limit: str) -> str:
    words = REASONS.get(code)
    if words is None:
        return limit
    return {"below": "<", "above": ">", "from": ">="}[words.side] + f" {limit}"


def against(reasons: Sequence[Mapping[str, Any]]) -> str:
    """The numbers that speak against, in a phrase; the worst kind first."""
    found = {str(reason["code"]): reason for reason in reasons if harmful(reason)}
    ordered = [code for code in REASONS if code in found]
    return ", ".join(
        f"{code} {_shown(code, found[code]['value'])}"
        f" ({_bound(code, _shown(code, found[code]['limit']))})"
        for code in ordered
    )


def check_line(check: Mapping[str, Any]) -> str:
    """One number of the gate beside its limit."""
    code = str(check["code"])
    mark = " " if check["passed"] else MARK
    says = CHECKS.get(code, "a number that this version does not know")
    numbers = f"{float(check['value']):.4g} (limit {float(check['limit']):.4g})"
    return f"  {mark} {render.clean(code)} {numbers}: {says}"


def feature_rows(features: Mapping[str, Any]) -> list[str]:
    """What was measured, a line each; lists of numbers are left to --json."""
    rows = [(name, _plain(features[name]), FEATURES[name]) for name in FEATURES if name in features]
    return render.table(("MEASURED", "VALUE", "WHAT IT IS"), rows) if rows else []


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return f"{_plain(max(value))}, {_plain(min(value))}" if value else ""
    return f"{float(value):.4g}" if isinstance(value, int | float) else render.clean(value)


def probe_line(before: float, after: float, domain: str = "") -> str:
    """Loss on the probe, and whether the update made it worse."""
    worse = "worse" if after > before else "better" if after < before else "the same"
    where = f" {render.clean(domain)}" if domain else ""
    return f"probe{where}: loss {before:.4f} without it, {after:.4f} with it ({worse})"
