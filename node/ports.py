"""The same port after every restart, so that peers who remember our address find us again."""

import json
import re
import socket
from collections.abc import Sequence

from node.library import Library

_ANY = re.compile(r"(/ip[46]/[^/]+)/(tcp|udp)/0(?=/|$)")
_PORT = re.compile(r"/ip[46]/[^/]+/(tcp|udp)/(\d+)")
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def same_ports(listen: Sequence[str], library: Library) -> list[str]:
    """The addresses to listen on: port 0 becomes the port of the last run, if it is free."""
    last: dict[str, int] = json.loads(library.fact("ports", "{}"))

    def port(match: re.Match[str]) -> str:
        host, kind = match.groups()
        known = last.get(kind, 0)
        return f"{host}/{kind}/{known if known and _is_free(host, kind, known) else 0}"

    return [_ANY.sub(port, address) for address in listen]


def remember_ports(listen: Sequence[str], addresses: Sequence[str], library: Library) -> None:
    """Keep the ports that the system chose for us."""
    if any(_ANY.search(address) for address in listen):
        found = {m[1]: int(m[2]) for address in addresses if (m := _PORT.search(address))}
        library.set_fact("ports", json.dumps(found))


def _is_free(host: str, kind: str, port: int) -> bool:
    _, version, address = host.split("/")
    family = socket.AF_INET6 if version == "ip6" else socket.AF_INET
    with socket.socket(family, _KINDS[kind]) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
