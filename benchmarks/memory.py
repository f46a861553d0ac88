"""Whether a long request stays inside its budget: peak memory of this process beside what was allowed.

`python benchmarks/memory.py --documents 2000 --side 448 --memory 2147483648` scores random square
pictures with a random model, or `--model`. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
from index import loaded
from machine import describe

from sightrank import Document
from sightrank.config import EngineConfig
from sightrank.engine.engine import Engine


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model")
    parser.add_argument("--shape", choices=["nano", "m0"])
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--side", type=int, default=448)
    parser.add_argument("--memory", type=int, default=2 * 1024**3)
    arguments = parser.parse_args()
    ranker = loaded(arguments)
    before = peak()
    config = EngineConfig(memory_bytes=arguments.memory)
    ranker.engine = Engine(ranker.runner, config, ranker.engine.settings)
    pages = list(pictures(arguments.documents, arguments.side))
    expected = ranker.expect(pages)
    start = time.perf_counter()
    ranking = ranker.rank("what is shown?", pages, progress=show)
    result = {
        "machine": describe(),
        "shape": arguments.shape or ranker.name,
        "dtype": arguments.dtype,
        "documents": len(ranking),
        "tokens": ranking.total_tokens,
        "seconds": time.perf_counter() - start,
        "limits": vars(ranker.engine.limits),
        "loaded_bytes": before,
        "allowed_bytes": arguments.memory,
        "expected_bytes": expected.peak_bytes if expected else None,
        "peak_bytes": peak(),
    }
    print(json.dumps(result))


def pictures(count: int, side: int) -> Iterator[Document]:
    """Small in memory, large when read: a few random squares, drawn at the side's size."""
    random = np.random.default_rng(0)
    for _ in range(count):
        coarse = PIL.Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        yield Document.image(_png(coarse.resize((side, side), PIL.Image.Resampling.NEAREST)))


def _png(image: PIL.Image.Image) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def show(done: int, total: int) -> None:
    """A line now and then."""
    print(f"\r{done}/{total}, peak {peak() / 2**20:.0f} MiB", end="", file=sys.stderr)


def peak() -> int:
    """Most memory that this program has held, in bytes. Linux alone tells, and `getrusage` counts
    what the process held before it became this program."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
