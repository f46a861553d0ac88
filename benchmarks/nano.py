"""Nano on this machine: passages and pages a second, first met and met again.

`python benchmarks/nano.py` ranks the documents in demo/; the last line of stdout is one JSON object.
Each figure is the median of `--repeats` runs with a fresh memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from machine import ROOT, describe

from sightrank import Document, Reranker
from sightrank.inputs.load import FileLimits
from sightrank.inputs.pdf import page_count

DEMO = ROOT / "demo"
QUERIES = (
    "printed circuit board",
    "vacaciones pagadas",
    "how are colours chosen?",
    "Recht auf Arbeit",
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    pdf = DEMO / "xfig-howto.pdf"
    passages = [path.read_text(encoding="utf-8") for path in sorted(DEMO.glob("passages/*.txt"))]
    sets: dict[str, list[Document]] = {
        "passages": [Document.text(f"{text}\n{n}") for n in range(20) for text in passages],
        "pages": [
            Document.pdf(pdf, pages=page + 1) for page in range(page_count(pdf, FileLimits()))
        ],
        "pictures": [Document.image(path) for path in sorted(DEMO.glob("pictures/*.png"))],
    }
    result: dict[str, Any] = {"machine": describe(), "sets": {}}
    for name, documents in sets.items():
        figures = [measure(arguments.model, documents) for _ in range(arguments.repeats)]
        result["sets"][name] = {
            "documents": len(documents),
            **{key: statistics.median(row[key] for row in figures) for key in figures[0]},
        }
        print(name, result["sets"][name], file=sys.stderr, flush=True)
    print(json.dumps(result))


def measure(model: str | None, documents: list[Document]) -> dict[str, float]:
    """Documents a second: read and scored for the first time, and pairs a second from memory.

    Reading files, rendering and resizing are part of both.
    """
    ranker = Reranker.from_pretrained(model)
    cold = seconds(lambda: ranker.rank(QUERIES[0], documents))
    tokens = ranker.rank(QUERIES[0], documents).total_tokens
    warm = min(seconds(partial(ranker.rank, query, documents)) for query in QUERIES[1:])
    pairs = [(q, d) for q in range(len(QUERIES)) for d in range(len(documents))]
    matrix = seconds(lambda: ranker.score_matrix(QUERIES, documents, pairs))
    return {
        "cold_documents_per_second": len(documents) / cold,
        "warm_documents_per_second": len(documents) / warm,
        "warm_pairs_per_second_of_four_queries": len(pairs) / matrix,
        "tokens_per_document": tokens / len(documents),
    }


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
