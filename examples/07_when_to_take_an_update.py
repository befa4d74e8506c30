"""Let a parent decide on five updates by what they do to others' text and to its own.

Run: python examples/07_when_to_take_an_update.py     (no network, no files)
"""

from random import Random

from p2pllm import keys
from p2pllm.gate import Decision, Facts, Rule, Shadow, cheap, judge
from p2pllm.ids import NodeId, content_id

PROPOSER, OTHERS = keys.generate().node, [keys.generate().node for _ in range(3)]


def facts(name: str, by: NodeId = PROPOSER, seen: bool = False) -> Facts:
    """What is known of an update before it is applied to anything."""
    return Facts(
        update=content_id(name.encode()),
        by=by,
        lineage=name,
        signed=True,
        base_known=True,
        seen=seen,
        size=4_000_000,
        trust=0.8,
        norm=0.3,
        spectrum=0.2,
        novelty=0.7,
    )


def decide(name: str, gain: float, damage: float, documents: int = 200) -> Decision:
    """Cheap checks, then losses of documents before and after; here they are drawn."""
    rng, rule = Random(name), Rule()
    first = cheap(facts(name, seen=name == "duplicate"), rule)
    if first.outcome != "accept":
        return first
    shadow = Shadow(
        probes={
            peer: [rng.gauss(gain, 0.4 * abs(gain) + 0.02) for _ in range(documents)]
            for peer in OTHERS
        },
        anchors=[rng.gauss(-damage, 0.03) for _ in range(documents)],
    )
    return judge(facts(name), shadow, rule, armed=False)


def main() -> None:
    """Useful, marginal, forgetful, harmful and sent twice."""
    wanted = {
        ("useful", 0.20, 0.0): "accept",
        ("marginal", 0.005, 0.0): "reject",
        ("forgetful", 0.40, 0.08): "reject",
        ("harmful", -0.30, 0.5): "reject",
        ("duplicate", 0.20, 0.0): "reject",
    }
    for (name, gain, damage), outcome in wanted.items():
        decision = decide(name, gain, damage)
        why = ", ".join(decision.failed) or "every check passed"
        print(f"{name:10} {decision.outcome:7} gain {decision.gain:+.3f} nats/token: {why}")
        assert decision.outcome == outcome


if __name__ == "__main__":
    main()
