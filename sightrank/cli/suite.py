"""`sightrank evaluate --suite NAME`: the named suites, with the published figure beside ours."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightrank.cli import options
from sightrank.cli.output import print_json, printable
from sightrank.errors import OptionError

if TYPE_CHECKING:
    from sightrank.evaluate.run import Scorer


@dataclass(frozen=True)
class SuiteRequest:
    """One suite as the command line asks for it."""

    name: str
    data: Path | None = None
    run: Path | None = None
    tasks: tuple[str, ...] | None = None
    subsets: tuple[str, ...] | None = None
    depth: int | None = None
    show: str = "image"
    out: Path | None = None
    json: bool = False


def run_suite_command(request: SuiteRequest, load: Callable[[], Scorer]) -> None:
    """Evaluate and print. Raises SightrankError, before `load` is called where it can."""
    from sightrank.evaluate.mteb import require_mteb
    from sightrank.evaluate.suite_data import get_tasks
    from sightrank.evaluate.suite_run import Choice, run_suite, total
    from sightrank.evaluate.suites import suite_named

    suite = suite_named(request.name)
    require_mteb()
    choice = Choice(
        suite, request.data, request.run, request.tasks, request.subsets, request.depth,
        _shown(request.show),
    )  # fmt: skip
    if unknown := [name for name in choice.names if name not in suite.tasks]:
        raise OptionError(
            f"{suite.name} has no task {unknown[0]!r}.", f"It has {', '.join(suite.tasks)}."
        )
    if request.run is not None and not request.run.is_dir():
        raise OptionError(
            f"{request.run} is not a folder.",
            "With --suite, --run is a folder of TASK_predictions.json or TASK.SUBSET.trec.",
        )
    for name in choice.names:
        get_tasks(name, request.data, request.subsets)  # what is missing is named before the work
    _quiet()
    scorer, reports = load(), []
    with options.progress_bar(suite.name) as progress:
        for report in run_suite(scorer, choice, progress):
            reports.append(report)
            if request.out is not None:
                lines = (json.dumps(each, ensure_ascii=False) + "\n" for each in reports)
                request.out.write_text("".join(lines), encoding="utf-8")
    whole = total(choice, scorer.name, reports)
    if request.json:
        print_json(whole)
    else:
        _print(whole)


def _quiet() -> None:
    """Let other packages draw their bars at a terminal alone, and not report each retry."""
    import logging

    import datasets

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()


def _shown(name: str) -> Any:
    if name not in ("image", "text", "both"):
        raise OptionError(f"--show is {name!r}.", "Allowed: image, text, both.")
    return name


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(f"{report['suite']}, {report['metric']} in percent", overflow="fold")
    for title in ("candidates", "first stage", Path(report["model"]).name):
        table.add_column(Text(printable(title)), justify="right", no_wrap=True)
    for task in report["tasks"]:
        sources = {subset["candidates"] for subset in task["subsets"]}
        row = (", ".join(sorted(sources)), _percent(task["first_stage"]), _percent(task["score"]))
        table.add_row(task["task"], *row)
        if task["task"] == "Winoground":
            for name in ("text", "image"):
                table.add_row(f"  {name}", "", "", _percent(task["metrics"][name]))
    label = "mean" if report["complete"] else "mean of these, not of the whole suite"
    table.add_row(label, "", _percent(report["first_stage"]), _percent(report["score"]))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 120)
    console.print(table)
    for figure in report["published"]:
        protocol = ", ".join(
            f"{what}: {figure[key] if figure[key] is not None else 'not known'}"
            for key, what in (
                ("metric", "metric"),
                ("first_stage", "candidates"),
                ("depth", "depth"),
            )
        )
        said = (
            f"jina-reranker-m0, as published: {figure['value']} ({protocol}). {figure['source']}."
        )
        console.print(said, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Not known: {report['unknown']}", style="dim", highlight=False, markup=False)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"
