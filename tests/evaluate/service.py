"""A reranking service on this machine, for tests: it scores by shared words, or misbehaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any], int], tuple[int, bytes, dict[str, str]]]
"""(body, number of the request) -> status, content, headers."""


@dataclass
class Service:
    """What was asked of it, and where it is."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def by_words(body: dict[str, Any], _: int) -> tuple[int, bytes, dict[str, str]]:
    """Results best first, as the real ones; an image has the length of its base64."""
    words = set(body["query"].split())
    scores = [
        len(words & set(sent.split())) if isinstance(sent, str) else len(sent["image"])
        for sent in body["documents"]
    ]
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    results = [{"index": place, "relevance_score": scores[place]} for place in order]
    return 200, json.dumps({"object": "list", "results": results}).encode(), {}


@contextmanager
def serving(answer: Answer) -> Iterator[Service]:
    """A service that answers so until the block ends."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            service.bodies.append(body)
            service.keys.append(self.headers["Authorization"])
            service.paths.append(self.path)
            status, content, headers = answer(body, len(service.bodies))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            service.paths.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_address[1]}/v1/rerank"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
