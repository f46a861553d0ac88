"""A comparison as one HTML file that needs nothing beside itself: no script, font or image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sightrank.evaluate.compare import deepest, means
from sightrank.evaluate.metrics import METRICS
from sightrank.evaluate.peers import FIRST_STAGE
from sightrank.evaluate.plot import Point, Series, draw

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; font-size: .9rem; text-align: right; border-bottom: 1px solid #8885; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; min-width: 12rem; }
.scroll { overflow-x: auto; }
.best { font-weight: 700; }
.note { opacity: .75; }
figure { margin: 1.5rem 0; }
svg { width: 100%; height: auto; }
svg text { fill: currentColor; font-size: 12px; }
svg .small { font-size: 10px; }
svg .axis { fill: none; stroke: currentColor; }
svg .grid { fill: none; stroke: #8884; }
svg .level { fill: none; stroke: currentColor; stroke-dasharray: 6 4; }
"""


def html(report: Mapping[str, Any]) -> str:
    """The whole page. `report` is what `compare.summary` gives; all its strings are escaped."""
    names = ", ".join(each["dataset"] for each in report["sets"])
    body = [f"<h1>Reranking compared on {escape(names)}</h1>", _how(report)]
    if len(report["sets"]) > 1:
        body.append(_mean_table(report))
    for each in report["sets"]:
        body.append(_section(each, report))
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(names)}: reranking compared</title>",
            f"<style>{STYLE}</style></head><body>",
            *body,
            "</body></html>",
            "",
        ]
    )


def points(each: Mapping[str, Any], metric: str) -> list[Series]:
    """Quality over seconds a query: one series an entrant, one point a depth.

    The first stage's own order costs nothing; it is the plot's reference and no series.
    """
    series: dict[str, list[Point]] = {}
    for run in sorted(each["runs"], key=lambda run: int(run["depth"])):
        point = Point(run["seconds_per_query"], run["metrics"][metric], f"{run['depth']}")
        series.setdefault(run["model"], []).append(point)
    return [Series(name, tuple(found)) for name, found in series.items() if name != FIRST_STAGE]


def _how(report: Mapping[str, Any]) -> str:
    test = report["test"]
    return (
        f"<p>Differences are those of {escape(report['metric'])} from"
        f" <b>{escape(report['baseline'])}</b>, tested by a {escape(test['name'])}"
        f" ({test['permutations']:,} permutations, seed {test['seed']}; all of them where there are no"
        " more), not corrected for the number of comparisons. Every run began with nothing"
        " remembered of earlier ones. Seconds are those of scoring, with reading and drawing the"
        f" documents and without loading the model. Sightrank {escape(report['sightrank'])}.</p>"
    )


def _mean_table(report: Mapping[str, Any]) -> str:
    rows = means(report)
    head = ["mean over the sets", *METRICS]
    cells = [[row["model"], *_values(row["metrics"])] for row in rows]
    return _table(head, cells, _best([row["metrics"] for row in rows]))


def _section(each: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    runs, metric = deepest(each), report["metric"]
    head = ["", *METRICS, "difference", "p", "won/lost/tied", "ms/query", "ms/document"]
    first = ["candidates' own order", *_values(runs[0]["first_stage"]), *[""] * 5]
    rows = [first, *([run["model"], *_values(run["metrics"]), *cells(run)] for run in runs)]
    best = _best([runs[0]["first_stage"], *(run["metrics"] for run in runs)])
    level = ("the candidates' own order", runs[0]["first_stage"][metric])
    plot = draw(points(each, metric), "seconds a query", metric, level)
    counted = f"{each['queries']} queries, {each['documents']} documents, depth {runs[0]['depth']}"
    return "\n".join(
        [
            f"<h2>{escape(each['dataset'])}</h2><p class='note'>{counted}</p>",
            _table(head, rows, best),
            f"<figure>{plot}<figcaption class='note'>Quality against cost; the number at a point is"
            " the depth.</figcaption></figure>",
            *(_queries(run, report["baseline"]) for run in runs if "against" in run),
        ]
    )


def _values(metrics: Mapping[str, float]) -> list[str]:
    return [f"{metrics[name]:.4f}" for name in METRICS]


def cells(run: Mapping[str, Any]) -> list[str]:
    """Difference, p, wins, and what a query and a document cost, as they are shown."""
    against = run.get("against")
    judged = (
        [
            f"{against['difference']:+.4f}",
            _p(against),
            f"{against['wins']}/{against['losses']}/{against['ties']}",
        ]
        if against
        else ["baseline", "", ""]
    )
    costs = (run["seconds_per_query"] * 1e3, run["seconds_per_document"] * 1e3)
    return [*judged, *(f"{cost:,.2f}" for cost in costs)]


def _p(against: Mapping[str, Any]) -> str:
    return "< 0.0001" if against["p"] < 0.0001 else f"{against['p']:.4f}"


def _best(rows: Sequence[Mapping[str, float]]) -> set[tuple[int, int]]:
    """(row, column) of the highest values; the first column holds the names."""
    return {
        (place, column)
        for column, name in enumerate(METRICS, start=1)
        for place, row in enumerate(rows)
        if row[name] == max(other[name] for other in rows)
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], best: set[tuple[int, int]]) -> str:
    top = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = "".join(
        "<tr>" + "".join(
            f"<td{' class=best' if (at, column) in best else ''}>{escape(cell)}</td>"
            for column, cell in enumerate(row)
        ) + "</tr>"
        for at, row in enumerate(rows)
    )  # fmt: skip
    return f"<div class=scroll><table><tr>{top}</tr>{lines}</table></div>"


def _queries(run: Mapping[str, Any], baseline: str) -> str:
    parts = [f"<details><summary>{escape(run['model'])}: queries that differ most</summary>"]
    for title, rows in (("Won", run["won"]), ("Lost", run["lost"])):
        if rows:
            cells = [
                [row["text"] or row["query"], f"{row['value']:.4f}", f"{row['baseline']:.4f}"]
                for row in rows
            ]
            parts.append(_table([title, run["model"], baseline], cells, set()))
    return "\n".join([*parts, "</details>"])
