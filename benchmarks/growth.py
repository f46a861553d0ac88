"""How time and memory grow with the number of documents and with their length.

`python benchmarks/growth.py` ranks passages of random words with nano, each size in a process of its
own: 10 to 10,000 passages of 128 tokens, then 16 to 8,192 tokens a passage, as many passages as make
65,536 tokens, at most 1,000. `exponents` are slopes of log time to log size over each row of sizes: 1 is
in proportion, 2 quadratic. Times are processor time, since other programs may run. The last line of
stdout is one JSON object.

cold    passages never seen
warm    another query to the same passages
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from machine import ROOT, describe
from memory import peak

from sightrank import Document, Reranker

COUNTS = (10, 100, 1_000, 10_000)
LENGTHS = (16, 64, 256, 1_024, 4_096, 8_192)
LENGTH, TOTAL, MOST = 128, 65_536, 1_000
WORDS = ROOT / "demo" / "passages"


def main() -> None:
    """Measure every size and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model")
    parser.add_argument("--one", nargs=2, type=int, metavar=("DOCUMENTS", "TOKENS"))
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.model, *given.one)))
        return
    growing = [apart(given.model, count, LENGTH) for count in COUNTS]
    longer = [apart(given.model, min(MOST, TOTAL // each), each) for each in LENGTHS]
    result = {
        "machine": describe() | {"load_average": os.getloadavg()},
        "documents": growing,
        "lengths": longer,
        "exponents": {
            "documents, cold": slope(growing, "documents", "cold_cpu_seconds"),
            "documents, warm": slope(growing, "documents", "warm_cpu_seconds"),
            "tokens, cold, of one document": slope(longer, "tokens_each", "cold_cpu_each"),
            "tokens, warm, of one document": slope(longer, "tokens_each", "warm_cpu_each"),
        },
    }
    print(json.dumps(result))


def apart(model: str | None, documents: int, tokens: int) -> dict[str, Any]:
    """One size in a fresh process, so that its peak is its own."""
    command = [sys.executable, __file__, "--one", str(documents), str(tokens)]
    asked = [*command, "--model", model] if model else command
    out = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout
    row: dict[str, Any] = json.loads(out.splitlines()[-1])
    print(row, file=sys.stderr, flush=True)
    return row


def measure(model: str | None, documents: int, tokens: int) -> dict[str, Any]:
    """The figures of one size."""
    ranker = Reranker.from_pretrained(model)
    made = passages(ranker, documents, tokens)
    ranker.rank("warm up", ["a few words"])
    before = peak()
    cold = spent(lambda: ranker.rank("how are colours chosen?", made))
    warm = spent(lambda: ranker.rank("who may own a house?", made))
    return {
        "documents": documents,
        "tokens_each": tokens,
        "cold_cpu_seconds": cold,
        "warm_cpu_seconds": warm,
        "cold_cpu_each": cold / documents,
        "warm_cpu_each": warm / documents,
        "peak_bytes_with_model_alone": before,
        "peak_bytes": peak(),
    }


def passages(ranker: Reranker, count: int, tokens: int) -> list[Document]:
    """Different passages of about so many tokens, of the demonstration's words."""
    words = " ".join(path.read_text(encoding="utf-8") for path in sorted(WORDS.glob("*.txt")))
    vocabulary = sorted(set(words.split()))
    chance, tokenizer = random.Random(0), ranker.encoder.tokenizer
    made = []
    for _ in range(count):
        text = " ".join(chance.choices(vocabulary, k=tokens))
        made.append(Document.text(tokenizer.decode(tokenizer.encode(text)[:tokens])))
    return made


def slope(rows: Sequence[dict[str, Any]], size: str, taken: str) -> float:
    """Of a straight line through the logarithms."""
    x, y = (np.log([row[key] for row in rows]) for key in (size, taken))
    return float(np.polyfit(x, y, 1)[0])


def spent(work: Callable[[], object]) -> float:
    """Seconds of processor time of all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
