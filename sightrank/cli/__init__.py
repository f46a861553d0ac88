"""The command `sightrank`: one file a command, heavy imports inside the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from sightrank._version import VERSION
from sightrank.cli.calibrate import calibrate
from sightrank.cli.compare import ManySets, compare
from sightrank.cli.dedup import dedup
from sightrank.cli.doctor import doctor
from sightrank.cli.evaluate import evaluate
from sightrank.cli.explain import explain
from sightrank.cli.index import index
from sightrank.cli.keys import keys
from sightrank.cli.mine import mine
from sightrank.cli.output import print_error
from sightrank.cli.rank import rank
from sightrank.cli.serve import serve
from sightrank.cli.train import train
from sightrank.errors import SightrankError

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells report it: 128 + SIGINT."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(rank)
app.command()(index)
app.command()(explain)
app.command()(doctor)
app.command()(evaluate)
app.command()(calibrate)
app.command()(dedup)
app.command(cls=ManySets)(compare)
app.command()(mine)
app.command()(train)
app.command()(serve)
app.add_typer(keys, name="keys")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sightrank {VERSION}")
        raise typer.Exit


@app.callback()
def _sightrank(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Rank passages, images and PDF pages by relevance to a query.

    \b
    sightrank rank "total revenue 2023" report.pdf notes/ photos/*.png
    sightrank explain "total revenue 2023" "report.pdf#page=3" --png heat.png
    sightrank serve --no-auth
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `sightrank` on `arguments` (None: the process's own) and exit.

    Status 0: done; 1: something could not be read or loaded; 2: wrong usage; 130: interrupted.
    """
    try:
        app(None if arguments is None else list(arguments), prog_name="sightrank")
    except SightrankError as error:
        print_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)
