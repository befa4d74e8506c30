"""Taking an update back: what was built on it.

A head is a set, so dropping a poisoned update and computing anew leaves no trace of it. What was
trained on top of a dropped update has learned from it, and goes as well.
"""

from collections.abc import Iterable, Mapping

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
