"""Clients that ask again as soon as they are answered, and what that does to a server."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from serve_process import Process, machine_seconds

WORDS = (
    *("sugar", "leaf", "light", "ore", "iron", "coal", "market", "price"),
    *("shop", "hour", "river", "stone", "fox", "snow", "page", "word"),
)
COUNTERS = ("sightrank_batches_total", "sightrank_model_seconds_total")


@dataclass(frozen=True)
class Phase:
    """So many clients, for so long."""

    clients: int
    seconds: float
    documents: int


@dataclass
class Seen:
    """What clients and a watcher saw."""

    times: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    tokens: dict[str, int] = field(default_factory=dict)
    """By the request's id, of answered requests."""
    memory: list[tuple[float, int]] = field(default_factory=list)
    """(seconds, bytes), each second."""


def load(
    server: Process, secrets: list[str], phase: Phase
) -> tuple[dict[str, Any], dict[str, int]]:
    """Figures of a phase, and the tokens that each answered request reported."""
    threads, used, counted = server.seconds_by_thread(), server.seconds(), counters(server)
    (busy, whole), own = machine_seconds(), time.process_time()
    started = time.perf_counter()
    seen = asyncio.run(_ask(server, secrets, phase))
    took = time.perf_counter() - started
    figures = _figures(seen, phase, took, server.seconds() - used)
    ran = {name: value - counted[name] for name, value in counters(server).items()}
    if ran:
        figures["passes"] = int(ran[COUNTERS[0]])
        figures["share_of_time_in_model"] = round(ran[COUNTERS[1]] / took, 3)
    busy, whole = (
        after - before for after, before in zip(machine_seconds(), (busy, whole), strict=True)
    )
    figures["cores_busy"] = {
        "of": os.cpu_count(),
        "machine": round(busy / whole * (os.cpu_count() or 1), 2),
        "share_of_machine": round(busy / whole, 3),
        "server": round((server.seconds() - used) / took, 2),
        "clients": round((time.process_time() - own) / took, 2),
        "server_by_thread": _by_thread(server, threads, took),
    }
    return figures, seen.tokens


def _figures(seen: Seen, phase: Phase, took: float, processor: float) -> dict[str, Any]:
    times = sorted(seen.times)
    if not times:
        raise SystemExit(f"no request was answered: {dict(seen.statuses)}")
    return {
        "clients": phase.clients,
        "seconds": round(took, 2),
        "requests": len(times),
        "requests_per_second": round(len(times) / took, 2),
        "p50_seconds": round(times[len(times) // 2], 4),
        "p99_seconds": round(times[int(len(times) * 0.99)], 4),
        "longest_seconds": round(times[-1], 4),
        "processor_seconds_a_request": round(processor / len(times), 4),
        "statuses": dict(seen.statuses),
        "tokens": sum(seen.tokens.values()),
        "memory": _memory(seen.memory),
    }


def _memory(samples: list[tuple[float, int]]) -> dict[str, Any]:
    """Resident memory; its slope by least squares over the later two thirds."""
    late = samples[len(samples) // 3 :]
    at, held = np.array(late, dtype=float).T
    held_in_all = np.array([size for _, size in samples], dtype=float)
    slope = np.polyfit(at, held, 1)[0] if len(late) > 2 else 0.0
    return {
        "first_bytes": samples[0][1],
        "last_bytes": samples[-1][1],
        "largest_bytes": max(size for _, size in samples),
        "slope_bytes_a_minute": round(60 * slope),
        "mean_bytes_by_sixth": [
            round(float(np.mean(part))) for part in np.array_split(held_in_all, 6) if len(part)
        ],
        "samples": len(samples),
    }


def _by_thread(server: Process, before: dict[int, float], took: float) -> dict[str, Any]:
    """Shares of a core: the event loop's thread, the busiest of the others, and all others.

    The busiest ones run passes of the model, or help one that has several threads.
    """
    now = server.seconds_by_thread()
    shares = {thread: (now[thread] - before.get(thread, 0.0)) / took for thread in now}
    loop = shares.pop(server.id, 0.0)
    busiest, *rest = sorted(shares.values(), reverse=True) or [0.0]
    return {
        "event_loop": round(loop, 3),
        "busiest_other": round(busiest, 3),
        "next_busiest": [round(share, 3) for share in rest[:3]],
        "all_others": round(sum(rest), 3),
    }


async def _ask(server: Process, secrets: list[str], phase: Phase) -> Seen:
    seen = Seen()
    end = time.perf_counter() + phase.seconds
    room = httpx.Limits(max_connections=phase.clients, max_keepalive_connections=phase.clients)
    async with httpx.AsyncClient(timeout=120, verify=False, limits=room) as http:
        watching = asyncio.ensure_future(_watch(server, seen))
        clients = (
            _client(http, server, secrets[n % len(secrets)], seen, Asking(n, phase, end))
            for n in range(phase.clients)
        )
        await asyncio.gather(*clients)
        watching.cancel()
    return seen


async def _watch(server: Process, seen: Seen) -> None:
    while True:
        seen.memory.append((time.perf_counter(), server.memory()))
        await asyncio.sleep(1.0)


@dataclass(frozen=True)
class Asking:
    """Which client, of what phase, until when."""

    number: int
    phase: Phase
    end: float


async def _client(
    http: httpx.AsyncClient, server: Process, secret: str, seen: Seen, asking: Asking
) -> None:
    rng = random.Random(f"{asking.phase}/{asking.number}")
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    while time.perf_counter() < asking.end:
        body = request(rng, asking.phase.documents, server.model)
        start = time.perf_counter()
        try:
            answer = await http.post(server.url + server.rank, json=body, headers=headers)
        except httpx.HTTPError as error:
            seen.statuses[type(error).__name__] += 1
            continue
        seen.statuses[str(answer.status_code)] += 1
        if answer.status_code == 200:
            seen.times.append(time.perf_counter() - start)
            own = answer.headers.get("x-request-id", str(len(seen.tokens)))
            seen.tokens[own] = answer.json()["usage"]["total_tokens"]
        else:
            await asyncio.sleep(float(answer.headers.get("retry-after", "1")))


def request(rng: random.Random, documents: int, model: str) -> dict[str, Any]:
    """Passages of some twenty words and a number that no other has."""
    passages = [" ".join(rng.choices(WORDS, k=20)) + f" {rng.random()}" for _ in range(documents)]
    query = " ".join(rng.choices(WORDS, k=4))
    return {"model": model, "query": query, "documents": passages, "return_documents": False}


def counters(server: Process) -> dict[str, float]:
    """What our own server has counted so far; others have no such counters."""
    page = httpx.get(f"{server.url}/metrics")
    pairs = [line.split() for line in page.text.splitlines()] if page.status_code == 200 else []
    return {pair[0]: float(pair[1]) for pair in pairs if pair and pair[0] in COUNTERS}
