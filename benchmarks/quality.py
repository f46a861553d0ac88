"""Ranking quality on every set below a folder: `python benchmarks/quality.py ../shared/eval`.

Each set is reranked from each of its candidate lists, `run.*.trec`. PDFs that a set names are looked
for in `--files`. Progress goes to stderr, one JSON object to stdout; nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from machine import describe

from sightrank.errors import SightrankError
from sightrank.evaluate.run import prepare, rerank
from sightrank.reranker import Reranker


def main() -> None:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", type=Path, help="a folder of sets")
    parser.add_argument("--files", type=Path, action="append", default=[], help="folders of PDFs")
    parser.add_argument("--only", default="", help="a part of the sets' names")
    parser.add_argument("--model")
    parser.add_argument("--max-queries", type=int)
    arguments = parser.parse_args()
    ranker = Reranker.from_pretrained(arguments.model)
    results = []
    for run in sorted(arguments.sets.glob(f"*{arguments.only}*/run.*.trec")):
        for files in [None, *arguments.files]:
            try:
                task = prepare(run.parent, run.name, files, max_queries=arguments.max_queries)
                result = {"run": run.name, **rerank(ranker, task).to_dict()}
            except SightrankError as error:
                failure = error
                continue
            results.append(result)
            before, after = (result[kind]["ndcg@10"] for kind in ("first_stage", "metrics"))
            shown = f"{before:.3f} -> {after:.3f} ({result['seconds']:.0f} s)"
            print(run.parent.name, run.name, shown, file=sys.stderr, flush=True)
            break
        else:
            print(f"{run}: left out. {failure}", file=sys.stderr)
    print(json.dumps({"machine": describe(), "fingerprint": ranker.fingerprint, "sets": results}))


if __name__ == "__main__":
    main()
