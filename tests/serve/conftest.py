"""A server's application around a tiny random model, called without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.types import ASGIApp

from sightrank import Reranker
from sightrank.config import EngineConfig, InputConfig
from sightrank.inputs.files import FileLimits
from sightrank.serve.access import NoAccess
from sightrank.serve.app import create_app
from sightrank.serve.settings import Settings
from tests.tiny import make_checkpoint

Client = httpx.AsyncClient


@pytest.fixture(scope="session")
def reranker(checkpoint: Path) -> Reranker:
    return small(checkpoint)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    """Of other weights."""
    return small(make_checkpoint(tmp_path_factory.mktemp("other"), seed=7))


def small(folder: Path) -> Reranker:
    return Reranker.from_pretrained(
        folder,
        device="cpu",
        inputs=InputConfig(max_length=1024, max_query_length=64, max_pixels=28 * 28 * 16),
        engine=EngineConfig(batch_tokens=512),
        limits=FileLimits(max_file_bytes=4_000_000, max_image_pixels=4_000_000),
    )


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[Client]:
    """A client of an application whose lifespan runs."""
    async with lifespan(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """Start-up before, shutdown after."""
    into, messages = anyio.create_memory_object_stream[Any](2)
    started, stopped = anyio.Event(), anyio.Event()

    async def send(message: Any) -> None:
        assert not message["type"].endswith("failed"), message
        (started if message["type"] == "lifespan.startup.complete" else stopped).set()

    async with anyio.create_task_group() as group, into, messages:

        async def live() -> None:
            await app({"type": "lifespan", "state": {}}, messages.receive, send)

        group.start_soon(live)
        await into.send({"type": "lifespan.startup"})
        await started.wait()
        try:
            yield
        finally:
            await into.send({"type": "lifespan.shutdown"})
            await stopped.wait()


@pytest.fixture
def ask(reranker: Reranker) -> Iterator[Callable[..., Any]]:
    """Run an async function with a client of a server without keys."""

    def run(test: Callable[[Client], Awaitable[Any]], **given: Any) -> Any:
        async def main() -> Any:
            settings = given.pop("settings", None) or Settings()
            model = given.pop("reranker", reranker)
            app = create_app(model, given.pop("access", NoAccess()), settings, **given)
            async with serving(app) as client:
                return await test(client)

        return anyio.run(main)

    yield run
