"""`sightrank calibrate`: probabilities that mean what they say, and thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightrank.cli import options
from sightrank.cli.output import print_json, printable
from sightrank.errors import OptionError

if TYPE_CHECKING:
    from sightrank.analysis.calibrate import Calibrated
    from sightrank.analysis.thresholds import Goal, Threshold
    from sightrank.reranker import Reranker


@dataclass(frozen=True)
class Request:
    """One calibration as the command line asks for it."""

    labels: Path
    to: Path
    diagram: Path | None = None
    files: Path | None = None
    wanted: tuple[tuple[Goal, float], ...] = ()
    method: str | None = None
    least: float = 1
    json: bool = False


@options.model_options
def calibrate(
    labels: Annotated[
        Path,
        typer.Argument(metavar="LABELS.jsonl", help="Labelled pairs, one JSON object a line."),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where to write it. Default: calibration.json beside the model."
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write it into this index, for `rank --index`."),
    ] = None,
    files: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where images and PDFs are. Default: beside LABELS."),
    ] = None,
    precision: Annotated[
        list[float] | None,
        typer.Option(metavar="P", help="A precision to find the threshold for; may be repeated."),
    ] = None,
    recall: Annotated[
        list[float] | None, typer.Option(metavar="R", help="The same for a recall.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="temperature or isotonic. Default: the better one in cross-validation.",
        ),
    ] = None,
    least: Annotated[
        float, typer.Option("--relevant-from", metavar="GRADE", help="The lowest relevant grade.")
    ] = 1,
    diagram: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", help="Write the reliability diagram as SVG or HTML."),
    ] = None,
    model: options.ModelOptions = options.NANO,
    as_json: options.Json = False,
) -> None:
    """Fit probabilities to labelled pairs, and find thresholds for a precision or recall.

    \b
    sightrank calibrate labels.jsonl --to calibration.json
    sightrank calibrate labels.jsonl --index pages.index --precision 0.9
    sightrank calibrate labels.jsonl --model my-model/ --diagram reliability.svg
    sightrank rank "who signed?" scans/ --threshold 0.5 --calibration calibration.json

    A line is {"query", "document", "relevant"}: the document a string, {"text"},
    {"image"} or {"pdf", "page"}, relevant 0, 1 or a grade. A line that has been
    scored is {"logit", "relevant"}, with "query" where lines share one.

    Half of the queries are fitted to; every figure is of the other half. A
    threshold is one that reaches what is wanted with 95 % confidence.
    """
    wanted: list[tuple[Goal, float]] = [("precision", value) for value in precision or ()]
    wanted += [("recall", value) for value in recall or ()]
    place = destination(to, index, model.model)
    request = Request(labels, place, diagram, files, tuple(wanted), method, least, as_json)
    run(request, model.load)


def destination(to: Path | None, index: Path | None, model: str | None) -> Path:
    """The file to write: as told, in the index, or beside the model. Raises OptionError."""
    from sightrank.config import CALIBRATION_FILE

    if to is not None and index is not None:
        raise OptionError("--to and --index both say where to write.", "Give one of them.")
    if to is not None:
        return to
    if index is not None:
        from sightrank.engine.index import Index

        return Index(index).path / CALIBRATION_FILE
    if model is not None and Path(model).is_dir():
        return Path(model) / CALIBRATION_FILE
    raise OptionError(
        f"{model or 'nano'} is no folder of yours to write to.",
        "Say with --to FILE or --index FOLDER where to keep the calibration.",
    )


def run(request: Request, load: Callable[[], Reranker]) -> None:
    """Calibrate, write and print. Raises SightrankError. All is read before the model is loaded."""
    from sightrank.analysis.calibrate import WANTED
    from sightrank.analysis.calibrate import calibrate as fit
    from sightrank.analysis.thresholds import check_share
    from sightrank.evaluate.labels import read_labels, score

    for goal, value in request.wanted:
        check_share(f"--{goal}", value)
    labels = read_labels(request.labels, request.files)
    ranker = load()
    with options.progress_bar("scoring") as progress:
        pairs, keys = score(ranker, labels, request.least, progress)
    result = fit(
        ranker.facts(),
        pairs,
        logit_bias=ranker.config.logit_bias,
        method=request.method,
        wanted=request.wanted or WANTED,
        keys=keys,
    )
    result.calibration.save(request.to)
    if request.diagram is not None:
        _draw(request.diagram, result, ranker.name)
    if request.json:
        print_json({"calibration": str(request.to), "model": ranker.name, **result.to_dict()})
    else:
        typer.echo("\n".join(lines(str(request.to), result)))


def _draw(path: Path, result: Calibrated, model: str) -> None:
    from sightrank.analysis.reliability import diagram

    method = result.calibration.method
    shown = {"before": result.reliabilities["before"], method: result.reliabilities[method]}
    drawn = diagram(shown, f"{Path(model).name}, {len(result.held_out)} held-out pairs")
    if path.suffix.lower() in (".html", ".htm"):
        drawn = f'<!doctype html>\n<meta charset="utf-8">\n<title>Reliability</title>\n{drawn}'
    try:
        path.write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise OptionError(
            f"{path} cannot be written: {error.strerror}.", "Name a file in a folder that exists."
        ) from None


def lines(place: str, result: Calibrated) -> list[str]:
    """The report as people read it."""
    report = result.to_dict()
    sizes = [
        f"{size['queries']:,} queries, {size['pairs']:,} pairs, {size['relevant']:,} relevant"
        for size in (report["fitted"], report["held_out"])
    ]
    rows = [
        f"{printable(place)}: {report['method']} fit",
        f"  fitted to  {sizes[0]}",
        f"  held out   {sizes[1]}",
        "",
        "held-out queries   calibration error  Brier   log loss",
    ]
    for name, found in result.reliabilities.items():
        chosen = " (used)" if name == report["method"] else ""
        rows.append(
            f"  {name + chosen:<19}{found.ece:14.4f}{found.brier:9.4f}{found.log_loss:9.4f}"
        )
    rows += ["", "wanted            --threshold  precision [95%]          recall [95%]"]
    return [*rows, *_thresholds(result.thresholds)]


def _thresholds(thresholds: Sequence[Threshold]) -> list[str]:
    rows = []
    for each in thresholds:
        wanted = f"  {each.goal} {each.wanted:g}"
        if each.probability is None:
            rows.append(f"{wanted:<18}no threshold is sure to reach it")
            continue
        shares = [
            f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
            for share in (each.precision, each.recall)
        ]
        missed = "" if each.kept else "  MISSED"
        rows.append(f"{wanted:<18}{each.probability:11.4f}  {shares[0]:<24} {shares[1]}{missed}")
    return rows
