"""The application: routes around one service."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from sightrank._version import VERSION
from sightrank.errors import SightrankError
from sightrank.serve import documents, explain, probes, rank, rerank, score
from sightrank.serve.access import Access
from sightrank.serve.fetch import Fetcher
from sightrank.serve.guard import Guard
from sightrank.serve.metrics import Metrics
from sightrank.serve.playground.page import playground
from sightrank.serve.routing import failed
from sightrank.serve.service import Service
from sightrank.serve.settings import Settings

if TYPE_CHECKING:
    from sightrank.reranker import Reranker


def create_app(
    reranker: Reranker,
    access: Access,
    settings: Settings | None = None,
    *,
    also: Sequence[Reranker] = (),
    fetcher: Fetcher | None = None,
    routers: Sequence[APIRouter] = (),
) -> ASGIApp:
    """A server of a model, and of others beside it which requests choose by name.

    `routers` are more routes, such as a marketplace's. Its lifespan starts the workers, and on the
    way out finishes what was accepted. Raises OptionError for two models of one name.
    """
    settings = settings or Settings()
    metrics = Metrics()
    fetcher = fetcher or Fetcher(settings.fetch)
    service = Service([reranker, *also], access, settings, fetcher, metrics)
    app = FastAPI(
        title="Sightrank",
        version=VERSION,
        description="Ranks passages, images and PDF pages by relevance to a query.",
        lifespan=_lifespan,
        redoc_url=None,
        docs_url=None,
        redirect_slashes=False,
    )
    app.state.service, app.state.started = service, int(time.time())
    for router in (
        probes.router,
        probes.models_router,
        rerank.router,
        score.router,
        documents.router,
        rank.router,
        explain.router,
        *([playground()] if settings.playground else []),
        *routers,
    ):
        app.include_router(router)
    for kind in (SightrankError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, failed)
    return Guard(app, settings, metrics)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.models.start()
    try:
        yield
    finally:
        await service.close()
