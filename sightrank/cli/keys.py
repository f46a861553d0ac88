"""`sightrank keys`: who may call the server, how much, and what they have used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightrank.cli.options import Json
from sightrank.cli.output import print_json, printable

if TYPE_CHECKING:
    from sightrank.serve.keys import Key, Keys

keys = typer.Typer(no_args_is_help=True)

Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A file, or postgresql://USER@HOST/NAME. Default: SIGHTRANK_DATABASE, or a file in the"
        " user's data folder.",
    ),
]
Reference = Annotated[str, typer.Argument(metavar="KEY", help="A key's id, or the key itself.")]
Requests = Annotated[
    int | None,
    typer.Option(
        "--requests-per-minute",
        metavar="N",
        min=0,
        help="0: no limit. Default: what `serve` is told.",
    ),
]
Tokens = Annotated[
    int | None, typer.Option("--tokens-per-minute", metavar="N", min=0, help="Likewise.")
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", metavar="N", min=0, help="Requests at the same time; likewise."),
]


@keys.callback()
def _keys() -> None:
    """Make, list, revoke and grant API keys.

    \b
    sightrank keys create search-team
    sightrank keys list
    sightrank keys revoke key_5f0c6d1e9a42
    """


@keys.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")],
    tokens: Annotated[
        int, typer.Option(metavar="N", min=0, help="Tokens it may use before more are granted.")
    ] = 1_000_000,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    concurrency: Concurrency = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it: this once, for only its hash is kept.

    \b
    sightrank keys create search-team
    sightrank keys create batch --tokens 50000000 --concurrency 4
    KEY=$(sightrank keys create ci --database postgresql://db.internal/sightrank)
    """
    from sightrank.serve.limits import Limits

    limits = Limits(requests_per_minute, tokens_per_minute, concurrency)
    with opened(database) as accounts:
        key, secret = accounts.create(name, tokens, limits)
    if as_json:
        print_json({"key": secret, **key_json(key)})
        return
    name = printable(key.name)
    print(f"{key.id} ({name}), {key.balance:,} tokens. The key, shown this once:", file=sys.stderr)
    print(secret)


@keys.command("list")
def list_keys(database: Database = None, as_json: Json = False) -> None:
    """List keys with their usage, the oldest first.

    \b
    sightrank keys list
    sightrank keys list --json
    """
    with opened(database) as accounts:
        found = accounts.listed()
    if as_json:
        print_json([key_json(key) for key in found])
    elif found:
        _print_table(found)
    else:
        print("There are no keys. `sightrank keys create NAME` makes one.", file=sys.stderr)


@keys.command()
def revoke(reference: Reference, database: Database = None, as_json: Json = False) -> None:
    """Refuse a key from now on; what it has used stays on record.

    \b
    sightrank keys revoke key_5f0c6d1e9a42
    """
    with opened(database) as accounts:
        key = accounts.revoke(reference)
    _report(key, f"{key.id} ({printable(key.name)}) is revoked.", as_json)


@keys.command()
def grant(
    reference: Reference,
    tokens: Annotated[int, typer.Argument(metavar="TOKENS", min=1, help="How many to add.")],
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Add tokens to what a key may use.

    \b
    sightrank keys grant key_5f0c6d1e9a42 10000000
    """
    with opened(database) as accounts:
        key = accounts.grant(reference, tokens)
    _report(key, f"{key.id} ({printable(key.name)}) has {key.balance:,} tokens left.", as_json)


@keys.command()
def limit(
    reference: Reference,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    concurrency: Concurrency = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Change a key's own limits; those that are not named stay.

    \b
    sightrank keys limit key_5f0c6d1e9a42 --requests-per-minute 2000
    sightrank keys limit key_5f0c6d1e9a42 --concurrency 0
    """
    from sightrank.serve.limits import Limits

    limits = Limits(requests_per_minute, tokens_per_minute, concurrency)
    with opened(database) as accounts:
        key = accounts.limit(reference, limits)
    _report(key, f"{key.id} ({printable(key.name)}): {_limits(key)}.", as_json)


@keys.command()
def prune(
    days: Annotated[
        int, typer.Option(metavar="N", min=1, help="Remove lines that are older than this.")
    ] = 90,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Remove old lines of the ledger; what keys have used in all stays.

    \b
    sightrank keys prune --days 30
    """
    with opened(database) as accounts:
        removed = accounts.prune(days)
    if as_json:
        print_json({"removed": removed})
    else:
        print(f"{removed:,} lines older than {days} days are removed.")


@contextmanager
def opened(address: str | None) -> Iterator[Keys]:
    """The keys in the database at `address`, which is made where it does not exist."""
    from sightrank.serve.database import open_database

    database = open_database(address)
    try:
        from sightrank.serve.keys import Keys

        yield Keys(database)
    finally:
        database.close()


def key_json(key: Key) -> dict[str, Any]:
    """A key as `--json` prints it; times in ISO 8601, UTC."""
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "created": _time(key.created_at),
        "revoked": _time(key.revoked_at),
        "last_used": _time(key.last_used_at),
        "granted_tokens": key.granted,
        "used_tokens": key.used,
        "balance": key.balance,
        "requests": key.requests,
        "limits": {
            "requests_per_minute": key.limits.requests_per_minute,
            "tokens_per_minute": key.limits.tokens_per_minute,
            "concurrency": key.limits.concurrency,
        },
    }


def _report(key: Key, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(key_json(key))
    else:
        print(sentence)


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _limits(key: Key) -> str:
    named = {
        "requests a minute": key.limits.requests_per_minute,
        "tokens a minute": key.limits.tokens_per_minute,
        "requests at the same time": key.limits.concurrency,
    }
    how_many = {None: "the server's limit of", 0: "any number of"}
    return ", ".join(f"{how_many.get(value, str(value))} {what}" for what, value in named.items())


def _print_table(found: list[Key]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("id", "name", "ends in"):
        table.add_column(title, overflow="fold")
    for title in ("used", "left", "requests"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("last used")
    for key in found:
        last = (_time(key.last_used_at) or "never")[:16].replace("T", " ")
        state = "revoked" if key.revoked_at is not None else last
        name = Text(printable(key.name))
        numbers = (f"{key.used:,}", f"{key.balance:,}", f"{key.requests:,}")
        table.add_row(key.id, name, f"...{key.hint}", *numbers, state)
    console = Console()
    if not console.is_terminal:  # a file or another program: one key, one line
        console.width = max(console.width, 200)
    console.print(table)
