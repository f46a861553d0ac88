"""The report of `benchmarks/quality.py` as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LISTS = {"bm25": "BM25", "e5": "e5", "random": "random"}
METRICS = ("ndcg@10", "ndcg@5", "mrr@10", "recall@10")
LEVEL = 0.05


def markdown(report: Mapping[str, Any]) -> str:
    """docs/quality.md: nDCG@10 of everything side by side, then each metric of each list."""
    model = report["model"]
    limit = report["max_queries"]
    machine = report["machine"]
    some = "" if limit is None else f" Of each set only the first {limit} queries were asked."
    return "\n".join(
        [
            "# Quality on labelled sets",
            "",
            "Made by `python benchmarks/quality.py SETS --files PDFS`, from"
            " [quality.json](../benchmarks/results/quality.json). Do not edit.",
            "",
            f"Model: {model}, weights {report['fingerprint'][:16]}. {machine['processor']},"
            f" {machine['threads']} threads, torch {machine['torch']}.{some}",
            "",
            f"A list is a first stage's candidates; beside its own order stands that of {model}, which"
            " sees only those candidates. BM25 and e5 (multilingual-e5-small, 4 bit) read the text layer"
            f" of pages, {model} reads pictures of them.",
            "A random list holds the right page among 19 others.",
            "",
            "## nDCG@10",
            "",
            *_side_by_side(report["sets"], model),
            "",
            f"\\+ and \\-: better or worse than the list's own order at p < {LEVEL} (paired randomisation"
            " test, two-sided, not corrected for the number of comparisons).",
            "",
            "## Every metric",
            "",
            *_every_metric(report["sets"], model),
            "",
        ]
    )


def _side_by_side(sets: Sequence[Mapping[str, Any]], model: str) -> list[str]:
    titles = ["set", "queries", "documents", *LISTS.values()]
    rows = [[*titles, *(f"{model} on {name}" for name in LISTS.values())]]
    for each in sets:
        lists = each["candidates"]
        own = [_figure(lists, name, "first_stage") for name in LISTS]
        ours = [_figure(lists, name, "metrics") + _mark(lists, name) for name in LISTS]
        rows.append([each["dataset"], str(each["queries"]), str(each["documents"]), *own, *ours])
    return _table(rows)


def _every_metric(sets: Sequence[Mapping[str, Any]], model: str) -> list[str]:
    rows = [["set", "list", "order by", *METRICS, "difference", "p", "won/lost/tied"]]
    for each in sets:
        for name, found in each["candidates"].items():
            place = [each["dataset"], f"{LISTS.get(name, name)}, {found['depth']}"]
            before, after = (
                [f"{found[kind][metric]:.4f}" for metric in METRICS]
                for kind in ("first_stage", "metrics")
            )
            test = found["against"]
            tested = [
                f"{test['difference']:+.4f}",
                f"{test['p']:.4f}",
                f"{test['wins']}/{test['losses']}/{test['ties']}",
            ]
            rows += [[*place, "itself", *before, "", "", ""], [*place, model, *after, *tested]]
    return _table(rows)


def _figure(lists: Mapping[str, Any], name: str, kind: str) -> str:
    return f"{lists[name][kind]['ndcg@10']:.3f}" if name in lists else ""


def _mark(lists: Mapping[str, Any], name: str) -> str:
    if name not in lists or lists[name]["against"]["p"] >= LEVEL:
        return ""
    return " +" if lists[name]["against"]["difference"] > 0 else " -"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return [head, "|" + "---|" * len(rows[0]), *rest]
