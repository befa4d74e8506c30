"""Real endpoints on loopback for tests, each with its own key and p2pd, connected to the first."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from gossip.endpoint import Endpoint, open_endpoint
from p2pllm import keys

LISTEN = ("/ip4/127.0.0.1/tcp/0",)


@asynccontextmanager
async def open_endpoints(count: int) -> AsyncIterator[list[Endpoint]]:
    """`count` endpoints; all but the first are connected to the first."""
    with tempfile.TemporaryDirectory(prefix="p2e") as name:
        async with AsyncExitStack() as stack:
            opened: list[Endpoint] = []
            for number in range(count):
                home = Path(name) / str(number)
                home.mkdir()
                keys.load_or_create(home / "key")
                endpoint = open_endpoint(home / "run", home / "key", LISTEN)
                opened.append(await stack.enter_async_context(endpoint))
            if count:
                hub = (await opened[0].addresses())[0]
                for endpoint in opened[1:]:
                    await endpoint.connect(hub)
            yield opened
