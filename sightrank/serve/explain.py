"""Why a document has its score: hot words of texts, heat maps of pictures and pages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from sightrank.errors import OptionError
from sightrank.serve.dialects import Ascii
from sightrank.serve.documents import RESPONSES, Id, IndexName, chosen, shelf_of
from sightrank.serve.items import items, pieces, query_pieces
from sightrank.serve.pictures import Longest, data_uri
from sightrank.serve.rank import MaxPixels, MaxTokens
from sightrank.serve.replies import Usage
from sightrank.serve.routing import AdmittedRoute, gone, service_of, ticket_of
from sightrank.serve.schemas import Model, OneItem

if TYPE_CHECKING:
    from sightrank.analysis.explanation import Explanation
    from sightrank.reranker import Reranker
    from sightrank.types import Document, Query

router = APIRouter(route_class=AdmittedRoute, responses=RESPONSES, tags=["documents"])


class ExplainRequest(BaseModel):
    """A query and one document: itself, or an index and the id it has there."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "when does it open", "document": "The shop opens at nine."}]
        }
    )

    model: Model | None = Field(None, description="One of /v1/models; without it the first.")
    query: OneItem
    document: OneItem | None = Field(None, description="Pages of a PDF are read as one document.")
    index: IndexName | None = None
    id: Id | None = None
    method: Literal["attention", "gradient"] = "attention"
    top: Annotated[int, Field(ge=1, le=100, description="Spans or boxes a part at most.")] = 5
    heat_map: Longest = Field(
        None, description="Draw each page's heat, of so many pixels on its longer side."
    )
    max_pixels: MaxPixels = None
    max_tokens_per_doc: MaxTokens = None


class ExplainReply(BaseModel):
    """As `sightrank explain --json`; texts with what the model saw, pages with their heat map."""

    model_config = ConfigDict(extra="allow")

    object: Literal["explanation"]
    model: str
    method: str
    score: float
    logit: float
    truncated: bool
    parts: list[dict[str, Any]]
    query_tokens: list[dict[str, Any]]
    usage: Usage


@router.post("/v1/explain", response_model=ExplainReply)
async def explain(request: Request, body: ExplainRequest) -> Response:
    """Say which words or patches of a document made its score. The pair's tokens are charged."""
    _check(body)
    held = chosen(request, body.model, body.index)
    service, ticket, reranker = service_of(request), ticket_of(request), held.reranker
    ticket.num_documents = 1

    async def work() -> tuple[Explanation, dict[str, Any]]:
        sent = [] if body.document is None else [pieces(body.document)]
        asked, made = await items(
            query_pieces(body.query), sent, service.fetcher, reranker.encoder.limits
        )

        def run() -> Explanation:
            if body.index is not None:
                return _kept(request, body, asked)
            return _lowered(reranker, body).explain(asked, made[0], body.method)

        found = await service.computed(ticket, held, run, lambda result: result.num_tokens)
        async with service.drawing:
            return found, await asyncio.to_thread(_shown, found, body)

    found, shown = await service.within(ticket, work, gone(request))
    own = {"object": "explanation", "model": held.name}
    return Ascii({**own, **shown, "usage": {"total_tokens": found.num_tokens}})


def _check(body: ExplainRequest) -> None:
    kept = body.index is not None and body.id is not None
    if kept == (body.document is not None) or (body.index is None) != (body.id is None):
        raise OptionError(
            "What is explained is a document, or an index and an id.", "Give one of the two."
        )
    if kept and (body.max_pixels or body.max_tokens_per_doc):
        raise OptionError(
            "max_pixels and max_tokens_per_doc are for a document that comes with the request.",
            "Leave them out.",
        )


def _kept(request: Request, body: ExplainRequest, asked: Query) -> Explanation:
    """Of a document that is here: what the index keeps of it is not run again."""
    reranker = service_of(request).models.first.reranker
    shelf, id = shelf_of(request, body.index or ""), body.id or ""
    with shelf.untold([id]):
        document: Document = shelf.document(reranker, id)
        return reranker.explain(asked, document, body.method, index=shelf.open(reranker))


def _lowered(reranker: Reranker, body: ExplainRequest) -> Reranker:
    if body.max_pixels is None and body.max_tokens_per_doc is None:
        return reranker
    limits = reranker.encoder.config.lowered(body.max_tokens_per_doc, body.max_pixels)
    return reranker.with_inputs(limits)


def _shown(found: Explanation, body: ExplainRequest) -> dict[str, Any]:
    """For JSON, with the texts in which the spans lie and the pages' pictures."""
    shown = found.to_dict(body.top)
    pages = iter(range(len(found.pages)))
    for part, told in zip(found.parts, shown["parts"], strict=True):
        text = getattr(part, "text", None)
        if text is not None:
            told["text"] = text
        elif body.heat_map is not None:
            told["heat_map"] = data_uri(found.heat_map(next(pages), body.heat_map))
    return shown
