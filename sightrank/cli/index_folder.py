"""`sightrank index --list`, `--verify` and `--prune`: what there is to see and do to an index."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sightrank.cli import options
from sightrank.cli.output import print_json, printable, readable_bytes, snippet, typed

if TYPE_CHECKING:
    from sightrank.engine.index import Index
    from sightrank.reranker import Reranker

SHOWN_LIMITS = ("dtype", "max_length", "max_pixels")


def show(folder: Path, as_json: bool) -> int:
    """Print the documents of an index, by the models that made them."""
    from sightrank.engine.index import Index

    opened = Index(folder)
    content = contents(opened)
    if as_json:
        print_json(content)
        return 0
    for made in content["models"]:
        facts = made["settings"]
        limits = ", ".join(f"{name} {facts.get(name)}" for name in SHOWN_LIMITS)
        typer.echo(f"{facts.get('model')} ({limits}), precision {content['precision']}")
        for held in made["documents"]:
            size = readable_bytes(held["bytes"]) if held["bytes"] else "missing"
            label = " ".join(printable(held["document"]).split())
            typer.echo(f"{size:>10} {held['tokens']:>6} tokens  {label}")
    return 0


def contents(opened: Index) -> dict[str, Any]:
    """All that an index holds, as plain values."""
    makers = opened.makers()
    held: dict[str, list[dict[str, Any]]] = {settings: [] for settings in makers}
    for each in opened.documents():
        document = each.record.document
        held.setdefault(each.settings, []).append(
            {
                "document": typed(document) or snippet(document),
                "tokens": each.record.num_tokens,
                "truncated": each.record.truncated,
                "bytes": each.num_bytes,
            }
        )
    return {
        "index": str(opened.path),
        "precision": opened.precision,
        "models": [
            {"settings": makers.get(settings, {}), "documents": documents}
            for settings, documents in held.items()
        ],
    }


def verify(folder: Path, as_json: bool) -> int:
    """Check all of an index; status 1 if something was damaged."""
    from sightrank.engine.index import Index

    opened = Index(folder)
    with options.progress_bar("verifying", rate=True) as progress:
        problems = opened.verify(progress)
    if as_json:
        print_json({"index": str(folder), "documents": len(opened), "damaged": problems})
    else:
        for name, problem in problems.items():
            typer.echo(f"{printable(name)}: {problem}")
        typer.echo(f"{len(opened):,} documents, {len(problems):,} damaged")
    if problems:
        print(
            "What was damaged is removed; index these documents again and they are made anew.",
            file=sys.stderr,
        )
    return 1 if problems else 0


def prune(folder: Path, load: Callable[[], Reranker] | None, as_json: bool) -> int:
    """Remove what is of no use any more; other models' documents only where `load` says which stays."""
    from sightrank.engine.index import Index

    opened = Index(folder)
    pruned = opened.prune(load().engine.settings if load else None)
    if as_json:
        print_json({"index": str(folder), **asdict(pruned)})
        return 0
    typer.echo(
        f"{pruned.gone:,} documents were gone, {pruned.other_models:,} of other models;"
        f" {pruned.entries:,} entries removed, {readable_bytes(pruned.num_bytes)} freed"
    )
    if load is None and len(opened.makers()) > 1:
        print(
            f"{folder} holds documents of {len(opened.makers())} models or settings; with --model"
            " NAME (and its limits) all but those of that one go.",
            file=sys.stderr,
        )
    return 0
