"""A real server on a free port, in this process: what clients of other services talk to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from sightrank.serve.listen import Patient, config
from sightrank.serve.settings import Settings


@contextmanager
def live(
    app: Any, settings: Settings | None = None, protocol: type[Patient] = Patient
) -> Iterator[str]:
    """Its address, such as http://127.0.0.1:41234."""
    server = uvicorn.Server(config(app, settings or Settings(), protocol=protocol))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
