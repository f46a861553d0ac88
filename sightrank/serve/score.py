"""vLLM's score routes: pairs in, a score for each out, in order."""

from __future__ import annotations

import time

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from sightrank.serve.asks import Ask
from sightrank.serve.dialects import Ascii, request_id
from sightrank.serve.errors import RequestError
from sightrank.serve.items import pieces, query_pieces
from sightrank.serve.replies import FAILURES, VllmScoreReply
from sightrank.serve.routing import AdmittedRoute, gone, service_of, ticket_of
from sightrank.serve.schemas import Content, Side, VllmScoreRequest

router = APIRouter(route_class=AdmittedRoute, responses=FAILURES, tags=["score"])


class PairsError(RequestError):
    """Two sides that do not make pairs."""


@router.post("/score", response_model=VllmScoreReply)
@router.post("/v1/score", response_model=VllmScoreReply)
async def score(request: Request, body: VllmScoreRequest) -> Response:
    """Score one query with each document, or as many queries with theirs."""
    queries = _listed("queries", body.queries, body.text_1, body.data_1)
    documents = _listed("documents", body.documents, body.text_2, body.data_2)
    if len(queries) not in (1, len(documents)):
        raise PairsError(
            f"There are {len(queries)} queries and {len(documents)} documents.",
            "Give one query, or as many as documents.",
        )
    length = body.max_tokens_per_doc if (body.max_tokens_per_doc or 0) > 0 else None
    asks = [
        Ask(query_pieces(query), [pieces(each) for each in own], body.model, True, length)
        for query, own in (
            [(queries[0], documents)]
            if len(queries) == 1
            else [(query, [document]) for query, document in zip(queries, documents, strict=True)]
        )
    ]
    found = await service_of(request).rank_all(ticket_of(request), asks, gone(request))
    held = found[0].held
    logits = [logit for each in found for logit in each.logits]
    shown = logits if body.use_activation is False else map(held.reranker.probability, logits)
    tokens = sum(each.num_tokens for each in found)
    reply = {
        "id": f"score-{request_id(request)}",
        "object": "list",
        "created": int(time.time()),
        "model": body.model or held.name,
        "data": [
            {"index": place, "object": "score", "score": round(value, 8)}
            for place, value in enumerate(shown)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Ascii(reply)


def _listed(name: str, *given: Side | None) -> list[str | Content]:
    there = [side for side in given if side is not None]
    if len(there) != 1:
        raise PairsError(f"{name} is given {len(there)} times.", "Give it once.")
    return there[0] if isinstance(there[0], list) else [there[0]]
