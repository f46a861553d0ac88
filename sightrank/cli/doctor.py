"""`sightrank doctor`: what runs here, on what, and exactly what the model is given."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightrank.cli import checkup, options
from sightrank.cli.output import print_json, printable
from sightrank.types import Document, Query

if TYPE_CHECKING:
    from sightrank.evaluate.modality import Gap

QUERY = "What was the revenue in 2023?"
DOCUMENT = "Revenue rose to 4.2 million euros in 2023."


@options.model_options
def doctor(
    query: Annotated[
        str, typer.Option(metavar="TEXT", help="Query of the pair that is shown.")
    ] = QUERY,
    document: Annotated[
        str, typer.Option(metavar="TEXT", help="Its document: a text, or the path of a file.")
    ] = DOCUMENT,
    modality_gap: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Measure instead how differently the same content scores as text and as picture:"
            " DIR holds NAME.txt beside NAME.png or NAME.pdf, and queries.jsonl.",
        ),
    ] = None,
    model: options.ModelOptions = options.NANO,
    as_json: options.Json = False,
) -> None:
    """Show versions, device, the model, the exact prompt of a pair, and check published scores.

    \b
    sightrank doctor
    sightrank doctor --query "total revenue" --document page.png
    sightrank doctor --model jinaai/jina-reranker-m0 --json
    sightrank doctor --modality-gap pairs/

    The exit status is 1 if the released weights do not give their published scores.
    """
    if modality_gap is not None:
        _modality_gap(modality_gap, model, as_json)
        raise typer.Exit
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


def _modality_gap(folder: Path, model: options.ModelOptions, as_json: bool) -> None:
    from sightrank.evaluate.modality import load, measure

    task = load(folder)
    ranker = model.load()
    with options.progress_bar("scoring") as progress:
        found = measure(ranker, task, progress)
    if as_json:
        print_json(found.to_dict())
    else:
        typer.echo("\n".join(gap_lines(found)))


def gap_lines(found: Gap) -> list[str]:
    """The modality gap as people read it."""
    asked = "their first words" if found.derived else "queries.jsonl"
    return [
        f"{printable(found.model)}: {found.num_pairs} contents as text and as picture,"
        f" {found.num_queries} queries ({asked})",
        "",
        "logit of the text less that of its picture",
        f"  relevant     {found.relevant:+.2f} (standard error {found.relevant_error:.2f})",
        f"  irrelevant   {found.irrelevant:+.2f}",
        "",
        "queries whose relevant  loses to an irrelevant",
        f"  picture      {found.picture_loses:6.1%}  text",
        f"  picture      {found.picture_loses_to_pictures:6.1%}  picture",
        f"  text         {found.text_loses:6.1%}  picture",
        f"  text         {found.text_loses_to_texts:6.1%}  text",
    ]


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
