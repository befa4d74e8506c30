"""Taking an update back: what was built on it, and the heads without any of that.

A head is a set, so dropping a poisoned update and computing anew leaves no trace of it. What was
trained on top of a dropped update has learned from it, and goes as well.
"""

from collections.abc import Iterable, Mapping

import msgspec

from p2pllm.heads import Accepted, Head, without
from p2pllm.ids import ContentId

Parents = Mapping[ContentId, tuple[ContentId, ...]]


def descendants(dropped: Iterable[ContentId], parents: Parents) -> frozenset[ContentId]:
    """The dropped updates and every update with one of them among its ancestors.

    parents  of each known update; a circle, which no honest signer can make, ends as well
    """
    children: dict[ContentId, list[ContentId]] = {}
    for update, above in parents.items():
        for parent in above:
            children.setdefault(parent, []).append(update)
    reached = set(dropped)
    ahead = list(reached)
    while ahead:
        for child in children.get(ahead.pop(), ()):
            if child not in reached:
                reached.add(child)
                ahead.append(child)
    return frozenset(reached)


def revoke(
    heads: Iterable[Head], dropped: Iterable[ContentId], parents: Parents
) -> list[tuple[Head, Head]]:
    """Each head that held a dropped update or a descendant of one, and the head in its place.

    The new heads have the next `seq` and are unsigned. Repeating this changes nothing.
    """
    gone = descendants(dropped, parents)
    changed = []
    for head in heads:
        kept: tuple[Accepted, ...] = without(head.accepted, gone)
        if kept != head.accepted:
            changed.append((head, msgspec.structs.replace(head, accepted=kept, seq=head.seq + 1)))
    return changed
