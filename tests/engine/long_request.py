"""Rank many pictures under a budget and print how far memory went. Run as a program."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image

from sightrank.config import EngineConfig
from sightrank.reranker import Reranker
from sightrank.types import Document

SIDE = 168
PIXEL_BYTES = 3 * SIDE * SIDE


def pictures(count: int) -> Iterator[Document]:
    """Some hundred bytes each, and PIXEL_BYTES when read."""
    random = np.random.default_rng(0)
    for _ in range(count):
        coarse = PIL.Image.fromarray(random.integers(0, 256, (2, 2, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((SIDE, SIDE), PIL.Image.Resampling.NEAREST).save(buffer, "png")
        yield Document.image(buffer.getvalue())


def main(checkpoint: str, count: int, memory: int) -> None:
    config = EngineConfig(memory_bytes=memory)
    ranker = Reranker.from_pretrained(Path(checkpoint), device="cpu", engine=config)
    documents = list(pictures(count))
    expected = ranker.expect(documents)
    assert expected is not None
    ranking = ranker.rank("what is shown?", documents)
    facts = {
        "ranked": len(ranking),
        "expected_bytes": expected.peak_bytes,
        "peak_bytes": peak(),
    }
    print(json.dumps(facts))


def peak() -> int:
    """Most memory that this program has held, in bytes. Linux alone tells, and `getrusage` counts
    what the process held before it became this program."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
