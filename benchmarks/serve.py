"""Load on a live server, with accounts: one client, 32 and 200; beside it two other servers.

python benchmarks/serve.py
python benchmarks/serve.py --seconds 10 --long 20 --peers
python benchmarks/serve.py --infinity VENV/bin/infinity_emb
python benchmarks/serve.py --threads 2 --long 0 --infinity VENV/bin/infinity_emb
python benchmarks/serve.py --threads 2 --passes 1 --long 0 --peers

Every server runs in a process of its own and gets the same requests: a query and four passages, of
which no other request has the same. First each server in turn with one client and with many, then
ours with 200 clients for three minutes (`--long 0`: not at all). `--threads 2` gives every server's
model two cores, so that `share_of_machine` can say how full a machine of two is; `--passes 1` is
ours without passes beside each other. Prints one JSON object as its last line: times, processor
time, the share of time in which our model ran, memory, and the tokens that answers reported beside
those in the accounts' database.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import machine
import serve_peers
from serve_load import Phase, load
from serve_process import Process, run

from sightrank import __version__
from sightrank.serve.database import open_database
from sightrank.serve.keys import Keys
from sightrank.serve.limits import Limits
from sightrank.serve.tables import SETTLED, ledger

KEYS = 16
"""Clients share so many keys, none of which has a limit of its own."""


def main() -> None:
    """Serve, ask, report."""
    options = parse()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report: dict[str, Any] = {
            "benchmark": "serve",
            "machine": machine.describe(),
            "threads_of_each_server": options.threads,
            "passes_at_once": options.passes or "as `sightrank serve` chooses",
            "load_average_at_the_start": list(os.getloadavg()),
            "documents_a_request": options.documents,
            "servers": {},
        }
        with ours(folder, options) as (server, secrets):
            both, answers = short(server, secrets, options)
            report["servers"]["sightrank"] = {"what": described(options), **both}
        for peer in serve_peers.chosen(folder, options):
            report["servers"][peer.name] = {"what": peer.what, **beside(peer, options)}
        if options.long > 0:
            with ours(folder, options) as (server, secrets):
                warm = Phase(options.clients, 2.0, options.documents)
                answers |= load(server, secrets, warm)[1]
                phase = Phase(options.many, options.long, options.documents)
                report[f"{options.many}_clients"], more = load(server, secrets, phase)
                answers |= more
        report["accounts"] = accounts(folder / "accounts.sqlite", answers)
        report["load_average_at_the_end"] = list(os.getloadavg())
    print(json.dumps(report))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--model", help="Default: nano.")
    parser.add_argument("--documents", type=int, default=4, help="Passages of a request.")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20.0, help="Of each short part.")
    parser.add_argument("--threads", type=int, default=1, help="Of each server's model.")
    parser.add_argument(
        "--passes", type=int, help="Of our model at once. Default: as `sightrank serve` chooses."
    )
    parser.add_argument("--many", type=int, default=200, help="Clients of the long part.")
    parser.add_argument(
        "--long", type=float, default=180.0, help="Seconds of the long part, 0: none."
    )
    parser.add_argument(
        "--memory",
        default="640MiB",
        help="As for `sightrank serve`: little, so that what is remembered soon fills it.",
    )
    parser.add_argument(
        "--peers", nargs="*", default=list(serve_peers.NAMES), choices=serve_peers.NAMES
    )
    parser.add_argument("--infinity", help="infinity_emb's program, in an environment of its own.")
    return parser.parse_args()


def described(options: argparse.Namespace) -> str:
    """Our own server in words."""
    return (
        f"sightrank {__version__}, {options.model or 'nano'}, float32; accounts in SQLite, a"
        f" transaction before and one after each request; --memory {options.memory}"
    )


@contextmanager
def ours(folder: Path, options: argparse.Namespace) -> Iterator[tuple[Process, list[str]]]:
    """`sightrank serve` with keys in a database that both of its runs share."""
    database = open_database(folder / "accounts.sqlite")
    secrets = [
        Keys(database).create(f"client {number}", 10**12, Limits(0, 0, 0))[1]
        for number in range(KEYS)
    ]
    database.close()
    arguments = ["-m", "sightrank", "serve", "--database", str(folder / "accounts.sqlite")]
    arguments += ["--memory", options.memory, "--device", "cpu", "--port", "{port}"]
    if options.model:
        arguments += ["--model", options.model]
    if options.passes:
        arguments += ["--passes", str(options.passes)]
    threads = {"OMP_NUM_THREADS": str(options.threads)}
    with run(arguments, threads, ready="/ready", rank="/v1/rerank", model="sightrank") as server:
        yield server, secrets


def short(
    server: Process, secrets: list[str], options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, int]]:
    """One client, then many; and what each answered request reported."""
    _, answers = load(server, secrets, Phase(1, 2.0, options.documents))  # warm
    found: dict[str, Any] = {}
    for clients in (1, options.clients):
        phase = Phase(clients, options.seconds, options.documents)
        found[f"{clients}_clients"], more = load(server, secrets, phase)
        answers |= more
    one, many = (found[f"{clients}_clients"] for clients in (1, options.clients))
    ratio = many["requests_per_second"] / one["requests_per_second"]
    found["throughput_of_many_over_one"] = round(ratio, 2)
    return found, answers


def beside(peer: serve_peers.Peer, options: argparse.Namespace) -> dict[str, Any]:
    """The same of another server; why not, where it does not run."""
    try:
        with peer.run() as server:
            return short(server, [""], options)[0]
    except serve_peers.CannotRunError as error:
        return {"not_run": str(error)}


def accounts(file: Path, answers: dict[str, int]) -> dict[str, Any]:
    """What answers reported beside what the database holds; ids are those of the requests."""
    database = open_database(file)
    lines = database.read(
        lambda connection: [tuple(row) for row in connection.execute(ledger.select())]
    )
    keys = Keys(database).listed()
    database.close()
    charged = {line[1]: line[4] for line in lines if line[3] == SETTLED}
    return {
        "requests_answered": len(answers),
        "requests_charged": len(charged),
        "tokens_reported": sum(answers.values()),
        "tokens_in_ledger": sum(charged.values()),
        "tokens_used_by_keys": sum(key.used for key in keys),
        "charged_and_not_answered": len(charged.keys() - answers.keys()),
        "answered_and_not_charged": len(answers.keys() - charged.keys()),
        "lines_neither_charged_nor_given_back": sum(line[3] == "reserved" for line in lines),
        "equal": charged == answers and sum(key.used for key in keys) == sum(answers.values()),
    }


if __name__ == "__main__":
    main()
