"""Load on a live server: one client after another, then many at once, in one run.

python benchmarks/serve.py --clients 32 --seconds 12

Every request is four passages of which no other request has the same. Prints one JSON object as its
last line; tokens that answers reported must equal those that were settled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import machine
import uvicorn

from sightrank import Reranker
from sightrank.serve.access import Caller, NoAccess
from sightrank.serve.app import create_app
from sightrank.serve.settings import Settings

WORDS = (
    *("sugar", "leaf", "light", "ore", "iron", "coal", "market", "price"),
    *("shop", "hour", "river", "stone", "fox", "snow", "page", "word"),
)


class Counting(NoAccess):
    """Adds up what was settled, once a request."""

    def __init__(self) -> None:
        self.settled: dict[str, int] = {}
        self.twice = 0

    async def admit(self, authorization: str | None) -> Caller:
        """By the name in the header, so that turns are taken."""
        return Caller(authorization, "client")

    async def settle(self, caller: Caller, tokens: int, request_id: str) -> None:
        """Remember."""
        self.twice += request_id in self.settled
        self.settled[request_id] = tokens


def main() -> None:
    """Serve, ask, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="Default: nano.")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=12.0, help="Of each of the two parts.")
    parser.add_argument("--queue", type=int, default=256)
    options = parser.parse_args()
    reranker, access = Reranker.from_pretrained(options.model, device="cpu"), Counting()
    app = create_app(reranker, access, Settings(queue=options.queue))
    with served(app) as url:
        asyncio.run(load(url, 1, 2.0))  # warm
        access.settled.clear()
        one = asyncio.run(load(url, 1, options.seconds))
        before = memory()
        many = asyncio.run(load(url, options.clients, options.seconds))
        after = memory()
    reported = one.pop("tokens") + many.pop("tokens")
    settled = sum(access.settled.values())
    print(
        json.dumps(
            {
                "benchmark": "serve",
                "model": reranker.name.rpartition("/")[2],
                "machine": machine.describe(),
                "load_average": os.getloadavg()[0],
                "documents_a_request": 4,
                "one_client": one,
                f"{options.clients}_clients": many,
                "throughput_ratio": round(
                    many["requests_per_second"] / one["requests_per_second"], 2
                ),
                "tokens_reported": reported,
                "tokens_settled": settled,
                "settled_twice": access.twice,
                "equal": reported == settled,
                "memory_before_and_after_bytes": [before, after],
            }
        )
    )


async def load(url: str, clients: int, seconds: float) -> dict[str, Any]:
    """Clients that ask again as soon as they are answered."""
    times: list[float] = []
    statuses: Counter[str] = Counter()
    tokens = 0

    async def client(number: int) -> None:
        nonlocal tokens
        rng = random.Random(f"{clients}/{number}")
        headers = {"Authorization": f"client {number}"}
        while time.perf_counter() < end:
            start = time.perf_counter()
            try:
                answer = await http.post(f"{url}/v1/rerank", json=request(rng), headers=headers)
            except httpx.HTTPError as error:
                statuses[type(error).__name__] += 1
                continue
            statuses[str(answer.status_code)] += 1
            if answer.status_code == 200:
                times.append(time.perf_counter() - start)
                tokens += answer.json()["usage"]["total_tokens"]
            else:
                await asyncio.sleep(float(answer.headers.get("retry-after", "1")))

    before, started = counters(url), time.perf_counter()
    end = started + seconds
    room = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=120, verify=False, limits=room) as http:
        await asyncio.gather(*map(client, range(clients)))
    took = time.perf_counter() - started
    ran = {name: value - before[name] for name, value in counters(url).items()}
    times.sort()
    return {
        "seconds": round(took, 2),
        "requests": len(times),
        "requests_per_second": round(len(times) / took, 2),
        "p50_seconds": round(times[len(times) // 2], 4),
        "p99_seconds": round(times[int(len(times) * 0.99)], 4),
        "statuses": dict(statuses),
        "tokens": tokens,
        "passes": int(ran["sightrank_batches_total"]),
        "share_of_time_in_model": round(ran["sightrank_model_seconds_total"] / took, 3),
    }


def request(rng: random.Random) -> dict[str, Any]:
    """Four passages of some twenty words."""
    passages = [" ".join(rng.choices(WORDS, k=20)) + f" {rng.random()}" for _ in range(4)]
    return {"model": "sightrank", "query": " ".join(rng.choices(WORDS, k=4)), "documents": passages}


@contextmanager
def served(app: Any) -> Any:
    """The application's address, on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def memory() -> int:
    """Resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def counters(url: str) -> dict[str, float]:
    """What the server has counted so far."""
    pairs = [line.split() for line in httpx.get(f"{url}/metrics").text.splitlines()]
    names = ("sightrank_batches_total", "sightrank_model_seconds_total")
    return {pair[0]: float(pair[1]) for pair in pairs if pair[0] in names}


if __name__ == "__main__":
    main()
