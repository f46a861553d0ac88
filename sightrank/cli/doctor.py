"""`sightrank doctor`: what runs here, on what, and exactly what the model is given."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from sightrank.cli import checkup, options
from sightrank.cli.output import print_json, printable
from sightrank.types import Document, Query

QUERY = "What was the revenue in 2023?"
DOCUMENT = "Revenue rose to 4.2 million euros in 2023."


@options.model_options
def doctor(
    query: Annotated[str, typer.Option(help="Query of the pair that is shown.")] = QUERY,
    document: Annotated[
        str, typer.Option(help="Its document: a text, or the path of a file.")
    ] = DOCUMENT,
    model: options.ModelOptions = options.NANO,
    as_json: options.Json = False,
) -> None:
    """Show versions, device, the model, the exact prompt of a pair, and check published scores.

    \b
    sightrank doctor
    sightrank doctor --query "total revenue" --document page.png
    sightrank doctor --model jinaai/jina-reranker-m0 --json

    The exit status is 1 if the released weights do not give their published scores.
    """
    ranker = model.load()
    report = {
        "versions": checkup.versions(),
        "machine": checkup.machine(),
        "model": checkup.model(ranker),
        "pair": checkup.pair(ranker, Query.text(query), _document(document)),
        "golden": checkup.golden(ranker),
    }
    if as_json:
        print_json(report)
    else:
        typer.echo("\n".join(lines(report)))
    golden = report["golden"]
    raise typer.Exit(1 if golden and not golden["passed"] else 0)


def _document(given: str) -> Document:
    try:
        is_file = Path(given).is_file()
    except (OSError, ValueError):  # too long for a path, or with a zero byte
        is_file = False
    return Document.of(Path(given)) if is_file else Document.text(given)


def lines(report: dict[str, Any]) -> list[str]:
    """The report as people read it."""
    size = report["model"]["bytes"] / 2**20
    model = {**report["model"], "bytes": f"{report['model']['bytes']:,} ({size:.1f} MiB)"}
    model["parameters"] = f"{model['parameters']:,}"
    return [
        *_section("versions", report["versions"]),
        *_section("machine", report["machine"]),
        *_section("model", model),
        *_pair(report["pair"]),
        *_golden(report["golden"]),
    ]


def _section(title: str, facts: dict[str, Any]) -> list[str]:
    rows = [title]
    for name, value in facts.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        rows.append(f"  {name.replace('_', ' '):<16}{'not installed' if shown is None else shown}")
    return [*rows, ""]


def _pair(pair: dict[str, Any]) -> list[str]:
    cut = ", cut to fit" if pair["truncated"] else ""
    return [
        "pair",
        *(f"  | {printable(line)}" for line in pair["prompt"].split("\n")),
        f"  {pair['tokens']} tokens{cut}; {pair['image_tokens']} of images;"
        f" the last one, {pair['score_token']}, is the score token",
        f"  ids   {' '.join(_runs(pair['ids']))}",
        f"  logit {pair['logit']:.6f}, score {pair['score']:.6f}",
        "",
    ]


def _runs(ids: Iterable[int]) -> list[str]:
    """Ids as text, four or more equal ones in a row as `ID x COUNT`."""
    shown: list[str] = []
    for token, run in groupby(ids):
        count = len(list(run))
        shown += [f"{token}x{count}"] if count > 3 else [str(token)] * count
    return shown


def _golden(golden: dict[str, Any] | None) -> list[str]:
    rows = ["published scores"]
    if golden is None:
        return [*rows, "  not checked: they belong to the weights of jinaai/jina-reranker-m0"]
    verdict = "agree" if golden["passed"] else "DIFFER: other weights, or something is wrong here"
    rows.append("  published    here  tokens  query, document")
    for row in golden["scores"]:
        pair = printable(f"{row['query']}, {row['document']}")[:48]
        rows.append(f"  {row['published']:9.4f}{row['score']:8.4f}{row['tokens']:8}  {pair}")
    rows.append(
        f"  {verdict}: largest difference {golden['largest_difference']:.4f},"
        f" allowed {golden['tolerance']}"
    )
    return rows
