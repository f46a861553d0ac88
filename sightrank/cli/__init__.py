"""The command `sightrank`: one file a command, heavy imports inside the commands."""

from __future__ import annotations

import sys

import typer

from sightrank._version import VERSION
from sightrank.cli.doctor import doctor
from sightrank.cli.evaluate import evaluate
from sightrank.cli.rank import rank
from sightrank.errors import SightrankError

app = typer.Typer(
    help="Rank passages, images and PDF pages by relevance to a query.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command()(rank)
app.command()(doctor)
app.command()(evaluate)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sightrank {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True),
) -> None:
    """Rank passages, images and PDF pages by relevance to a query."""


def main() -> None:
    """Run; an error raised on purpose is printed with its next step, and the status is 1."""
    try:
        app()
    except SightrankError as error:
        report(error)
        sys.exit(1)


def report(error: Exception) -> None:
    """What went wrong, on stderr; the hint on a line of its own."""
    typer.secho(f"error: {getattr(error, 'message', error)}", fg="red", err=True)
    if hint := getattr(error, "hint", ""):
        typer.echo(f"  {hint}", err=True)
