"""How far fewer bits move nano's scores on the documents in demo/, and what they cost, side by side.

`python benchmarks/agreement.py`; the last line of stdout is one JSON object. Against float32, over all
pairs of a set: `mean` and `largest` difference of logits beside their `spread` (the standard deviation of a
query's logits, averaged), Kendall's tau of a query's order, averaged, and the share of queries with the
`same_first` document. `seconds` are of the processor for a document that is met for the first time, without
reading its file, the forms taking turns; `flushed` is float32 with subnormal numbers taken as 0.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from machine import describe
from nano import DEMO, QUERIES
from numpy.typing import NDArray

from sightrank import Document, Reranker
from sightrank.config import EngineConfig
from sightrank.engine.engine import Engine

DTYPES = ("float32", "bfloat16", "int8")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model")
    parser.add_argument("--pages", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    pdf = DEMO / "xfig-howto.pdf"
    sets = {
        "passages": [Document.of(path) for path in sorted(DEMO.glob("passages/*.txt"))],
        "pages": [Document.pdf(pdf, pages=page + 1) for page in range(given.pages)],
        "pictures": [Document.image(path) for path in sorted(DEMO.glob("pictures/*.png"))],
    }
    rankers = {
        dtype: Reranker.from_pretrained(given.model, device="cpu", dtype=dtype) for dtype in DTYPES
    }
    load = os.getloadavg()
    result: dict[str, Any] = {
        "fingerprint": rankers["float32"].fingerprint,
        "rounds": given.rounds,
        "sets": {},
    }
    for name, documents in sets.items():
        result["sets"][name] = {
            "documents": len(documents),
            "queries": len(QUERIES),
            "seconds": costs(rankers, documents, given.rounds),
            **agreement(rankers, documents),
        }
        print(name, result["sets"][name], file=sys.stderr, flush=True)
    result["machine"] = describe() | {"load_average": [load, os.getloadavg()]}
    print(json.dumps(result))


def agreement(rankers: dict[str, Reranker], documents: Sequence[Document]) -> dict[str, Any]:
    """Of each dtype with float32."""
    found = {dtype: logits(ranker, documents) for dtype, ranker in rankers.items()}
    truth = found.pop("float32")
    return {"spread": float(truth.std(axis=1).mean())} | {
        dtype: {
            "mean": float(np.abs(each - truth).mean()),
            "largest": float(np.abs(each - truth).max()),
            "tau": statistics.mean(tau(*rows) for rows in zip(truth, each, strict=True)),
            "same_first": float((truth.argmax(axis=1) == each.argmax(axis=1)).mean()),
        }
        for dtype, each in found.items()
    }


def logits(ranker: Reranker, documents: Sequence[Document]) -> NDArray[np.float64]:
    """(queries, documents)."""
    pairs = [(q, d) for q in range(len(QUERIES)) for d in range(len(documents))]
    return ranker.score_matrix(QUERIES, documents, pairs).reshape(len(QUERIES), -1)


def tau(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Kendall's: pairs in the same order less those in the other, over all."""
    pairs = list(combinations(range(len(one)), 2))
    same = sum(np.sign(one[a] - one[b]) * np.sign(two[a] - two[b]) for a, b in pairs)
    return float(same / len(pairs))


def costs(
    rankers: dict[str, Reranker], documents: Sequence[Document], rounds: int
) -> dict[str, float]:
    """Processor's seconds a document, for vision tower and decoder."""
    times: dict[str, list[float]] = {}
    encoder = rankers["float32"].encoder
    segments = [encoder.document(document) for document in documents]
    for _ in range(rounds):
        for form in (*DTYPES, "flushed"):
            ranker = rankers["float32" if form == "flushed" else form]
            engine = Engine(ranker.runner, EngineConfig(), ranker.engine.settings)
            torch.set_flush_denormal(form == "flushed")
            start = time.process_time()
            engine.pack(segments, "exact")
            times.setdefault(form, []).append((time.process_time() - start) / len(segments))
            torch.set_flush_denormal(False)
    return {form: statistics.median(each) for form, each in times.items()}


if __name__ == "__main__":
    main()
