"""`sightrank serve`: the reranker over HTTP."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightrank.cli import options
from sightrank.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from sightrank.serve.access import Access


@dataclass(frozen=True)
class Request:
    """A server as the command line asks for it."""

    host: str
    port: int
    no_auth: bool
    open_to_all: bool
    database: str | None
    max_body: str
    queue: int
    deadline: float
    fetch: bool
    allow: tuple[str, ...]
    data: Path | None
    playground: bool = True
    passes: int | None = None
    also: tuple[str, ...] = ()


@options.model_options
def serve(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="0: any that is free.")
    ] = 8080,
    model: options.ModelOptions = options.NANO,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A model beside the first, which requests choose by name; may be given several"
            " times. All share the memory evenly, and the other options hold for each.",
        ),
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Answer without keys: for your own machine.")
    ] = False,
    open_to_all: Annotated[
        bool,
        typer.Option(
            "--open-to-all", help="With --no-auth: listen beyond this machine all the same."
        ),
    ] = False,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where keys and charges are kept, as for `keys`. Default: SIGHTRANK_DATABASE, or a"
            " file in the user's data folder.",
        ),
    ] = None,
    max_body: Annotated[
        str, typer.Option(metavar="SIZE", help="A request's size at most.")
    ] = "32MiB",
    queue: Annotated[
        int, typer.Option(metavar="N", min=1, help="Requests that may be under way or wait.")
    ] = 256,
    deadline: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="A request is answered within.")
    ] = 60.0,
    passes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Passes of the model at once, each with its part of the processor's threads."
            " Default: one a thread on a CPU, 4 at most; 1 on a GPU.",
        ),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch/--no-fetch", help="Fetch images and PDFs by web address.")
    ] = True,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Fetch from HOST only, which may be a private one; may be given several times.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Keep indexed documents there. Default: none are kept."
        ),
    ] = None,
    playground: Annotated[
        bool, typer.Option("--playground/--no-playground", help="Answer / with a page to try it.")
    ] = True,
) -> None:
    """Serve Jina's, Cohere's and vLLM's rerank routes, and a page to try them.

    \b
    sightrank serve --no-auth
    sightrank serve --host 0.0.0.0 --database postgresql://db.internal/sightrank
    sightrank serve --no-auth --port 9000 --no-fetch
    sightrank serve --no-auth --model jinaai/jina-reranker-m0 --data indexes/
    sightrank serve --no-auth --also runs/tuned

    Ctrl-C or SIGTERM: what was accepted is finished, then the server ends. The
    log goes to stderr, a line of JSON a request.
    """
    request = Request(
        host,
        port,
        no_auth,
        open_to_all,
        database,
        max_body,
        queue,
        deadline,
        fetch,
        tuple(allow or ()),
        data,
        playground,
        passes,
        tuple(also or ()),
    )
    run(request, model)


def run(request: Request, model: options.ModelOptions) -> None:
    """Serve until told to stop. Raises SightrankError where it cannot start."""
    check_open(request)
    try:
        import uvicorn

        from sightrank.serve.app import create_app
        from sightrank.serve.fetch import FetchLimits
        from sightrank.serve.listen import config
        from sightrank.serve.logs import log_to_stderr
        from sightrank.serve.marketplaces import platform_of
        from sightrank.serve.mounting import mounted
        from sightrank.serve.settings import Settings
    except ImportError as error:
        raise MissingExtraError(
            f"Serving needs the package {error.name}, which is not installed.",
            "pip install 'sightrank[serve]'",
        ) from None
    from sightrank.inputs.files import MIB, FileLimits

    settings = Settings(
        max_body=options.parse_bytes(request.max_body),
        queue=request.queue,
        deadline=request.deadline,
        passes=request.passes,
        data=request.data,
        playground=request.playground,
        fetch=FetchLimits(
            request.fetch, frozenset(host.lower().rstrip(".") for host in request.allow)
        ),
    )
    limits = FileLimits(
        max_file_bytes=settings.max_body,
        max_image_pixels=64_000_000,
        max_text_bytes=10 * MIB,
        max_pdf_pages=500,
        max_pdf_memory_bytes=1024 * MIB,
    )
    platform = platform_of(os.environ)
    if platform is not None and platform.model is not None and model.model is None:
        model = replace(model, model=str(platform.model))
    access = make_access(request)
    routers = [] if platform is None else [mounted(platform)]
    chosen = [model, *(replace(model, model=name) for name in request.also)]
    first, *others = (each.load(limits, len(chosen)) for each in chosen)
    app = create_app(first, access, settings, also=others, routers=routers)
    log_to_stderr()
    listening = config(app, settings, host=request.host, port=request.port)
    uvicorn.Server(listening).run()


def check_open(request: Request) -> None:
    """Raise OptionError for a server that would answer strangers without keys."""
    if request.no_auth and request.database is not None:
        raise OptionError("--no-auth and --database exclude each other.", "Give one of the two.")
    if request.no_auth and not _is_own_machine(request.host) and not request.open_to_all:
        raise OptionError(
            f"--host {request.host} lets others in, and with --no-auth anybody may ask.",
            "Leave out --no-auth and make keys, or add --open-to-all.",
        )


def make_access(request: Request) -> Access:
    """Who is let in: holders of a key, or with --no-auth anybody.

    Raises OptionError, MissingExtraError, AccountsUnavailableError.
    """
    if request.no_auth:
        from sightrank.serve.access import NoAccess

        return NoAccess()
    from sightrank.serve.database import require_accounts

    require_accounts()
    from sightrank.serve.accounts import Accounts
    from sightrank.serve.limits import Policy

    # A reservation must outlive its request, also where that is read or charged slowly.
    return Accounts.open(request.database, Policy(hold_seconds=2 * request.deadline))


def _is_own_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
