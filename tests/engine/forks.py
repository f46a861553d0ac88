"""Processes that index at once, or are killed while they do. Run as a program.

The model is loaded once and every process is a fork of it, so that 50 of them start in no time.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sightrank.config import EngineConfig
from sightrank.engine.index import Index
from sightrank.reranker import Reranker
from sightrank.types import Document
from tests.engine.conftest import load

KILLS = 50
NEW = 4
"""Documents that each run adds to those of the run before."""
RECENT = 24
"""Documents of a run: what the last ones that were killed have left is taken up."""
STEPS = 60
"""Of the file system that a run of NEW documents takes, about."""


def texts(count: int) -> list[Document]:
    return [Document.text(f"Passage number {at}.", name=f"p{at}") for at in range(count)]


def killed(checkpoint: Path, path: Path) -> dict[str, object]:
    """Kill indexing runs until 50 have died at work: by turns after a random time, and before a
    random step in the file system.

    Returns what was acknowledged, which of that was missing after a kill, and how many runs died.
    """
    ranker, chance = load(checkpoint, engine=EngineConfig(batch_tokens=64)), random.Random(0)
    lost: list[str] = []
    acknowledged: set[str] = set()
    died, run, seconds = 0, 0, 0.1
    while died < KILLS and run < 4 * KILLS:
        run += 1
        documents = texts(NEW * run)[-RECENT:]
        reader, writer = os.pipe()
        step = chance.randrange(STEPS) if run % 2 else None
        start = time.perf_counter()
        child = forked(lambda: index(ranker, documents, path, writer, step))  # noqa: B023
        os.close(writer)
        if step is None:
            time.sleep(chance.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as pipe:
            said = max(0, 0, *(int(line) for line in pipe.read().split()))
        acknowledged |= {str(document.name) for document in documents[:said]}
        died += os.WIFSIGNALED(status)
        if os.WIFEXITED(status):
            seconds = time.perf_counter() - start
        lost += missing(path, acknowledged)
    return {"acknowledged": len(acknowledged), "lost": lost, "died": died, "documents": NEW * run}


def index(
    ranker: Reranker, documents: list[Document], path: Path, writer: int, step: int | None
) -> None:
    """Index, and say after each batch how many are acknowledged; die before file system step `step`."""
    if step is not None:
        left = iter(range(step))
        watched = {"open", "os.rename", "os.remove", "os.mkdir", "sqlite3.connect"}

        def hook(event: str, _: object) -> None:
            if event in watched and next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)

    def say(done: int, _: int) -> None:
        os.write(writer, b"%d\n" % done)

    ranker.index(documents, path, progress=say)


def missing(path: Path, acknowledged: set[str]) -> list[str]:
    """Names of acknowledged documents that the index does not hold with an entry."""
    if not acknowledged:
        return []
    there = {held.record.name for held in Index(path).documents() if held.num_bytes}
    return sorted(acknowledged - there)


def crowd(checkpoint: Path, path: Path) -> dict[str, object]:
    """Three writers of overlapping documents, and one process that prunes all the while."""
    ranker = load(checkpoint)
    Index.create(path)
    everything = texts(24)
    pruner = forked(lambda: prune_until_killed(path))
    writers = [
        forked(lambda: write_one_by_one(ranker, path, part))  # noqa: B023
        for part in (everything[:16], everything[8:], everything[::-1])
    ]
    statuses = [os.waitpid(writer, 0)[1] for writer in writers]
    os.kill(pruner, signal.SIGKILL)
    os.waitpid(pruner, 0)
    return {
        "statuses": statuses,
        "lost": missing(path, {str(document.name) for document in everything}),
    }


def write_one_by_one(ranker: Reranker, path: Path, documents: list[Document]) -> None:
    for document in documents:
        ranker.index([document], path)


def prune_until_killed(path: Path) -> None:
    while True:
        Index(path).prune()


def forked(work: Callable[[], None]) -> int:
    """The id of a copy of this process that does `work` and ends."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    modes = {"killed": killed, "crowd": crowd}
    print(json.dumps(modes[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))))
