"""Does a document have the fields and types of a recorded sample?"""

from typing import Any

from tests.node.double import sample


def assert_shape(document: Any, name: str) -> None:
    """Fail where `document` lacks a field of tests/node/samples/NAME.json or has another type.

    null fits anything; a field that a sample does not have is allowed, since readers ignore it;
    so is a list that is empty on one of the two sides.
    """
    wrong = list(_differences(document, sample(name), "$"))
    assert not wrong, f"not a {name} document: " + "; ".join(wrong)


def _differences(found: Any, wanted: Any, where: str) -> list[str]:
    if found is None or wanted is None:
        return []
    if isinstance(wanted, bool) or isinstance(found, bool):
        ok = isinstance(wanted, bool) and isinstance(found, bool)
        return [] if ok else [f"{where}: {found!r} where {wanted!r} was recorded"]
    if isinstance(wanted, float):
        return [] if isinstance(found, int | float) else [f"{where}: {found!r} is no number"]
    if type(found) is not type(wanted):
        return [f"{where}: {type(found).__name__}, not {type(wanted).__name__}"]
    if isinstance(wanted, dict):
        lacking = [f"{where}.{key} is missing" for key in wanted if key not in found]
        both = [key for key in wanted if key in found]
        return lacking + [
            d for k in both for d in _differences(found[k], wanted[k], f"{where}.{k}")
        ]
    if isinstance(wanted, list) and wanted:
        each = [(item, f"{where}[{index}]") for index, item in enumerate(found)]
        return [d for item, path in each for d in _differences(item, wanted[0], path)]
    return []
