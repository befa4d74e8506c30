"""The daemon as a process: `python -m node --home DIR`."""

import argparse
import json
import sys

from node.config import home_dir, load
from p2pllm.durable import file_fault
from p2pllm.error_codes import exit_status, usual_fix
from p2pllm.errors import P2pllmError


def _flags(argv: list[str]) -> tuple[str | None, dict[str, object]]:
    parser = argparse.ArgumentParser(prog="python -m node", description="Run a p2pllm node.")
    parser.add_argument("--home")
    parser.add_argument("--listen", action="append", default=[], metavar="MADDR")
    parser.add_argument("--bootstrap", action="append", default=[], metavar="MADDR")
    parser.add_argument("--follow", action="append", default=[], metavar="PLACE")
    parser.add_argument("--quota", type=float, metavar="GIB")
    parser.add_argument("--json", action="store_true", help="an error as JSON on stdout")
    parser.add_argument("--attached", action="store_true", help="end when standard input does")
    given = parser.parse_args(argv)
    flags: dict[str, object] = {
        f"network.{name}": getattr(given, name)
        for name in ("listen", "bootstrap", "follow")
        if getattr(given, name)
    }
    if given.quota is not None:
        flags["store.quota_gib"] = given.quota
    return given.home, flags


def main(argv: list[str]) -> int:
    """Run the daemon; the exit status, with the error on standard error."""
    home, flags = _flags(argv)
    try:
        config = load(home_dir(home), flags)
        from node.daemon import run  # heavy: a bad setting is told before it loads

        run(config, attached="--attached" in argv)
    except (P2pllmError, OSError, ExceptionGroup) as fault:
        error = _known(fault)
        if error is None:
            raise
        _tell(error, as_json="--json" in argv)
        return exit_status(error.code)
    return 0


def _known(fault: Exception) -> P2pllmError | None:
    """An error with a code; of several the first, if all have one."""
    if isinstance(fault, ExceptionGroup):
        known = [_known(one) for one in fault.exceptions]
        return known[0] if all(known) else None
    return fault if isinstance(fault, P2pllmError) else file_fault(fault)


def _tell(error: P2pllmError, as_json: bool) -> None:
    if as_json:
        from node.jobs import error_card

        document = {"schema": "p2pllm.error/1", "error": error_card(error)}
        print(json.dumps(document, separators=(",", ":")))  # noqa: T201
        return
    print(f"error[{error.code}] {error.message}", file=sys.stderr)  # noqa: T201
    for label, lines in (("why", error.why), ("fix", error.fix or usual_fix(error.code))):
        for line in lines:
            print(f"  {label}   {line}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
