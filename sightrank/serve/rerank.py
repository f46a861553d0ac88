"""The rerank routes: Jina's, Cohere's two and vLLM's."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from sightrank.serve.asks import Ask, Scored, Ticket
from sightrank.serve.dialects import Ascii, request_id
from sightrank.serve.items import fields_text, pieces, query_pieces
from sightrank.serve.replies import FAILURES, CohereReply, JinaReply, VllmRerankReply
from sightrank.serve.routing import AdmittedRoute, gone, service_of, ticket_of
from sightrank.serve.schemas import (
    CohereV1Request,
    CohereV2Request,
    Content,
    Item,
    JinaRequest,
    V1Request,
    V2Request,
    VllmRerankRequest,
)

router = APIRouter(route_class=AdmittedRoute, responses=FAILURES, tags=["rerank"])


@router.post("/v1/rerank", response_model=JinaReply | CohereReply | VllmRerankReply)
async def rerank_v1(request: Request, body: Annotated[V1Request, Body()]) -> Response:
    """Jina's, and what else lives at this path.

    A body is Cohere's v1 if it has rank_fields or max_chunks_per_doc, a model named rerank-..., or
    comes from Cohere's own client; vLLM's if an item holds content parts; Jina's otherwise.
    """
    if isinstance(body, VllmRerankRequest):
        return await vllm(request, body)
    if isinstance(body, JinaRequest) and request.headers.get("x-fern-sdk-name") == "cohere":
        given = body.model_dump(exclude_unset=True)
        body = CohereV1Request.model_validate({**given, "query": _text(body.query)})
    if isinstance(body, CohereV1Request):
        return await cohere_v1(request, body)
    return await jina(request, body)


@router.post("/v2/rerank", response_model=CohereReply | VllmRerankReply)
async def rerank_v2(request: Request, body: Annotated[V2Request, Body()]) -> Response:
    """Cohere's v2; vLLM's if an item holds content parts."""
    if isinstance(body, VllmRerankRequest):
        return await vllm(request, body)
    return await cohere_v2(request, body)


@router.post("/cohere/v1/rerank", response_model=CohereReply)
async def rerank_cohere_v1(request: Request, body: CohereV1Request) -> Response:
    """Cohere's v1, whatever the body holds."""
    return await cohere_v1(request, body)


@router.post("/cohere/v2/rerank", response_model=CohereReply)
async def rerank_cohere_v2(request: Request, body: CohereV2Request) -> Response:
    """Cohere's v2, whatever the body holds."""
    return await cohere_v2(request, body)


@router.post("/rerank", response_model=VllmRerankReply)
async def rerank_vllm(request: Request, body: VllmRerankRequest) -> Response:
    """vLLM's."""
    return await vllm(request, body)


async def jina(request: Request, body: JinaRequest) -> Response:
    """Answer as Jina does."""
    return Ascii(await jina_answer(request, body, ticket_of(request)))


async def jina_answer(request: Request, body: JinaRequest, ticket: Ticket) -> dict[str, Any]:
    """What Jina answers with."""
    ask = Ask(
        query_pieces(body.query),
        [pieces(each) for each in body.documents],
        body.model,
        truncation=body.truncation is not False,
    )
    found = await service_of(request).rank(ticket, ask, gone(request))
    results = []
    for place in found.best(body.top_n):
        result: dict[str, Any] = {"index": place, "relevance_score": found.score(place)}
        if body.return_documents is not False:
            result["document"] = _as_sent(body.documents[place])
        results.append(result)
    usage = {"total_tokens": found.num_tokens}
    return {"model": body.model, "object": "list", "usage": usage, "results": results}


async def cohere_v1(request: Request, body: CohereV1Request) -> Response:
    """Answer as Cohere's v1 does."""
    texts = [fields_text(each, body.rank_fields) for each in body.documents]
    ask = Ask(pieces(body.query), [pieces(text) for text in texts], body.model)
    found = await service_of(request).rank(ticket_of(request), ask, gone(request))
    shown = None
    if body.return_documents:
        shown = [each if isinstance(each, dict) else {"text": each} for each in body.documents]
    return _cohere(request, found, body.top_n, "1", shown)


async def cohere_v2(request: Request, body: CohereV2Request) -> Response:
    """Answer as Cohere's v2 does."""
    ask = Ask(
        query_pieces(body.query),
        [pieces(each) for each in body.documents],
        body.model,
        max_doc_length=body.max_tokens_per_doc,
    )
    found = await service_of(request).rank(ticket_of(request), ask, gone(request))
    return _cohere(request, found, body.top_n, "2", None)


async def vllm(request: Request, body: VllmRerankRequest) -> Response:
    """Answer as vLLM does."""
    given = body.documents
    if isinstance(given, Content):  # each part is a document
        given = [Content(content=[part]) for part in given.content]
    length = body.max_tokens_per_doc if (body.max_tokens_per_doc or 0) > 0 else None
    ask = Ask(query_pieces(body.query), [pieces(each) for each in given], body.model, True, length)
    found = await service_of(request).rank(ticket_of(request), ask, gone(request))
    results = [
        {
            "index": place,
            "document": _vllm_document(given[place]),
            "relevance_score": found.score(place),
        }
        for place in found.best(body.top_n or None)
    ]
    usage = {"prompt_tokens": found.num_tokens, "total_tokens": found.num_tokens}
    own = {"id": f"rerank-{request_id(request)}", "model": body.model or found.held.name}
    return Ascii({**own, "usage": usage, "results": results})


def _cohere(
    request: Request,
    found: Scored,
    top_n: int | None,
    version: str,
    shown: list[dict[str, Any]] | None,
) -> Response:
    results = []
    for place in found.best(top_n):
        result: dict[str, Any] = {"index": place, "relevance_score": found.score(place)}
        if shown is not None:
            result["document"] = shown[place]
        results.append(result)
    meta = {
        "api_version": {"version": version},
        "billed_units": {"search_units": math.ceil(len(found.logits) / 100)},
        "tokens": {"input_tokens": found.num_tokens, "output_tokens": 0},
    }
    return Ascii({"id": request_id(request), "results": results, "meta": meta})


def _as_sent(document: str | Item) -> Any:
    return document if isinstance(document, str) else document.model_dump(exclude_unset=True)


def _vllm_document(document: str | Content) -> dict[str, Any]:
    if isinstance(document, str):
        return {"text": document, "multi_modal": None}
    texts = [part.text for part in document.content if part.text is not None]
    parts = [part.model_dump(exclude_none=True) for part in document.content]
    only_text = len(texts) == len(parts)
    return {"text": "\n".join(texts) or None, "multi_modal": None if only_text else parts}


def _text(query: str | Item) -> str:
    return query if isinstance(query, str) else query.text or ""
