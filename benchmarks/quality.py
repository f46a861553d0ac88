"""Ranking quality on every set below a folder: `python benchmarks/quality.py ../shared/eval`.

Every list of candidates beside a set, `run.*.trec`, is measured in its own order and as nano reranks it;
a page or passage is read once for all lists of its set. PDFs that a set names are looked for in the set
and in `--files`. Each set is written to `--to` as it is done, and a set that is there for the same
weights is not run again. `--table` writes the same as Markdown. Nothing is chosen by any of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from machine import ROOT, describe
from quality_table import markdown

from sightrank.errors import SightrankError
from sightrank.evaluate.metrics import average, measure
from sightrank.evaluate.run import Task, prepare, rerank
from sightrank.evaluate.significance import compare
from sightrank.evaluate.trec import Run, best_first
from sightrank.reranker import Reranker

RESULTS = ROOT / "benchmarks" / "results" / "quality.json"
TABLE = ROOT / "docs" / "quality.md"
TESTED = "ndcg@10"


def main() -> None:
    """Evaluate what is missing, write it, print all."""
    arguments = _arguments()
    ranker = Reranker.from_pretrained(arguments.model)
    found = sorted({run.parent for run in arguments.sets.glob(f"*{arguments.only}*/run.*.trec")})
    report = _begun(arguments, ranker)
    for folder in found:
        if any(each["dataset"] == folder.name for each in report["sets"]):
            print(f"{folder.name}: done before", file=sys.stderr)
            continue
        try:
            result = one_set(ranker, folder, arguments.files, arguments.max_queries)
        except SightrankError as error:
            print(f"{folder.name}: left out. {error}", file=sys.stderr)
            continue
        print(_line(result), file=sys.stderr, flush=True)
        report["sets"] = sorted([*report["sets"], result], key=lambda each: str(each["dataset"]))
        arguments.to.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        arguments.table.write_text(markdown(report), encoding="utf-8")
    print(json.dumps(report))


def one_set(
    ranker: Reranker, folder: Path, files: Sequence[Path], max_queries: int | None
) -> dict[str, Any]:
    """A set with each list of candidates: the list's metrics, nano's, and the test between them.

    Raises SightrankError, among others where a PDF is in none of the folders.
    """
    names = sorted(path.name for path in folder.glob("run.*.trec"))
    tasks = {name: _prepared(folder, name, files, max_queries) for name in names}
    first = next(iter(tasks.values()))
    ranker.forget()
    together = rerank(ranker, replace(first, candidates=_union(tasks.values())))
    lists = {}
    for name, task in tasks.items():
        reranked = {
            query: best_first({key: together.run[query][key] for key in scores})
            for query, scores in task.candidates.items()
        }
        grades = task.dataset.grades
        before, after = measure(grades, task.candidates), measure(grades, reranked)
        new, old = ([each[query][TESTED] for query in grades] for each in (after, before))
        lists[name.removeprefix("run.").removesuffix(".trec")] = {
            "depth": task.depth,
            "first_stage": average(before),
            "metrics": average(after),
            "against": compare(new, old).to_dict(),
        }
    return {
        "dataset": folder.name,
        "queries": len(first.dataset.grades),
        "documents": len(first.dataset.documents),
        "candidates": lists,
        "seconds": round(together.seconds, 1),
    }


def _prepared(folder: Path, run: str, files: Sequence[Path], max_queries: int | None) -> Task:
    """The set with its PDFs from the first folder that has them. Raises SightrankError."""
    failure: SightrankError | None = None
    for place in (None, *files):
        try:
            return prepare(folder, run, place, max_queries=max_queries)
        except SightrankError as error:
            failure = error
    assert failure is not None
    raise failure


def _union(tasks: Any) -> Run:
    """All candidates of each query, whichever list they stand on."""
    union: Run = {}
    for task in tasks:
        for query, scores in task.candidates.items():
            union.setdefault(query, {}).update(dict.fromkeys(scores, 0.0))
    return union


def _begun(arguments: argparse.Namespace, ranker: Reranker) -> dict[str, Any]:
    """What an earlier run has left for the same weights, or a report without sets."""
    facts = {
        "model": ranker.name,
        "fingerprint": ranker.fingerprint,
        "max_queries": arguments.max_queries,
        "metric_tested": TESTED,
    }
    if arguments.to.exists():
        earlier: dict[str, Any] = json.loads(arguments.to.read_text(encoding="utf-8"))
        if all(earlier.get(name) == value for name, value in facts.items()):
            return earlier
        print(f"{arguments.to} is of other weights or queries: begun anew", file=sys.stderr)
    return {"machine": describe(), **facts, "sets": []}


def _line(result: dict[str, Any]) -> str:
    lists = (
        f"{name} {each['first_stage'][TESTED]:.3f} -> {each['metrics'][TESTED]:.3f}"
        for name, each in result["candidates"].items()
    )
    return f"{result['dataset']}: {', '.join(lists)} ({result['seconds']:.0f} s)"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", type=Path, help="a folder of sets")
    parser.add_argument("--files", type=Path, action="append", default=[], help="folders of PDFs")
    parser.add_argument("--only", default="", help="a part of the sets' names")
    parser.add_argument("--model")
    parser.add_argument("--max-queries", type=int)
    parser.add_argument("--to", type=Path, default=RESULTS, help="the JSON")
    parser.add_argument("--table", type=Path, default=TABLE, help="the Markdown")
    return parser.parse_args()


if __name__ == "__main__":
    main()
