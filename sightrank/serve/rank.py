"""Our own ranking: of documents that are kept here, or that come with the request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from sightrank.errors import OptionError, TooLargeError, UnsupportedInputError
from sightrank.inputs.files import FileLimits, naming
from sightrank.inputs.pdf import page_numbers
from sightrank.serve.asks import Scored
from sightrank.serve.dialects import Ascii
from sightrank.serve.documents import RESPONSES, Id, IndexName, chosen, shelf_of
from sightrank.serve.held import Held
from sightrank.serve.items import items, pieces, query_pieces
from sightrank.serve.pictures import Longest, thumbnail
from sightrank.serve.replies import Usage
from sightrank.serve.routing import AdmittedRoute, gone, service_of, ticket_of
from sightrank.serve.schemas import Item, Model, OneItem, TopN
from sightrank.types import Document, Pdf

MOST_PAGES = 100
"""Of PDFs in one request: all lie in memory until they are ranked."""

router = APIRouter(route_class=AdmittedRoute, responses=RESPONSES, tags=["documents"])
MaxPixels = Annotated[
    int | None, Field(ge=1, description="Show the model smaller images than the server allows.")
]
MaxTokens = Annotated[
    int | None, Field(ge=1, description="Cut documents shorter than the server does.")
]


class InlineDocument(Item):
    """A text, an image, an image with its text, or a PDF, whose pages are ranked one by one."""

    id: Id | None = Field(None, description="Without it, its place in the list.")


class RankRequest(BaseModel):
    """A query, and either the index or the documents to rank."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"index": "handbook", "query": "when does it open"},
                {"query": "sugar", "documents": [{"text": "Leaves make sugar."}, "Iron ore."]},
            ]
        }
    )

    model: Model | None = Field(None, description="One of /v1/models; without it the first.")
    query: OneItem
    index: IndexName | None = None
    documents: list[str | InlineDocument] | None = Field(None, min_length=1, max_length=1000)
    ids: list[str] | None = Field(
        None,
        min_length=1,
        max_length=10_000,
        description="Of the index only these; a PDF's id: all its pages.",
    )
    top_n: TopN = None
    max_pixels: MaxPixels = None
    max_tokens_per_doc: MaxTokens = None
    thumbnails: Longest = Field(
        None, description="Show results with a picture, of so many pixels on its longer side."
    )


class RankedId(BaseModel):
    """One line of a ranking. `index` and `page` are there for documents that came with the request."""

    id: str
    index: int | None = None
    page: int | None = None
    relevance_score: float
    logit: float
    thumbnail: str | None = Field(None, description="A data URI, of images and pages.")


class RankReply(BaseModel):
    """Best first. `index` is the one that was asked for."""

    object: str
    model: str
    index: str | None = None
    results: list[RankedId]
    usage: Usage


@dataclass(frozen=True)
class Candidate:
    """A document, and what the answer calls it."""

    document: Document
    called: dict[str, Any]


@router.post("/v1/rank", response_model=RankReply, response_model_exclude_unset=True)
async def rank(request: Request, body: RankRequest) -> Response:
    """Rank what an index holds, some of it by id, or documents that come with the request.

    Pages of a PDF are documents of their own: ID#page=1 and so on.
    """
    _check(body)
    held = chosen(request, body.model, body.index)
    service, ticket = service_of(request), ticket_of(request)

    async def work() -> tuple[Scored, list[dict[str, Any]]]:
        if body.documents is None:
            return await _indexed(request, body, held)
        return await _inline(request, body, held, body.documents)

    found, results = await service.within(ticket, work, gone(request))
    ticket.num_documents = len(found.logits)
    own = {"object": "list", "model": held.name}
    if body.index is not None:
        own["index"] = body.index
    return Ascii({**own, "results": results, "usage": {"total_tokens": found.num_tokens}})


def _check(body: RankRequest) -> None:
    if (body.index is None) == (body.documents is None):
        raise OptionError("A request names an index or has documents.", "Give one of the two.")
    if body.index is None and body.ids is not None:
        raise OptionError("ids choose from an index, and none is named.", "Leave them out.")
    if body.index is not None and (body.max_pixels or body.max_tokens_per_doc):
        raise OptionError(
            "max_pixels and max_tokens_per_doc are for documents that come with the request.",
            "Leave them out: an index keeps what the model saw when it was made.",
        )


async def _indexed(
    request: Request, body: RankRequest, held: Held
) -> tuple[Scored, list[dict[str, Any]]]:
    service, reranker = service_of(request), held.reranker
    shelf = shelf_of(request, body.index or "")
    asked, _ = await items(query_pieces(body.query), [], service.fetcher, reranker.encoder.limits)

    def read() -> list[Any]:
        return [shelf.prepare(reranker, asked, body.ids)]

    found = (await service.scored(ticket_of(request), held, read))[0]

    def candidate(place: int) -> Candidate:
        name = found.names[place] or ""
        with_file = body.thumbnails is not None
        document = shelf.document(reranker, name) if with_file else Document.text("-")
        return Candidate(document, {"id": name})

    best = found.best(body.top_n)
    with shelf.untold([found.names[place] or "" for place in best]):
        named = {place: candidate(place) for place in best}
        return found, await _results(request, body, found, named)


async def _inline(
    request: Request, body: RankRequest, held: Held, given: Sequence[str | InlineDocument]
) -> tuple[Scored, list[dict[str, Any]]]:
    service, reranker = service_of(request), held.reranker
    limits = reranker.encoder.limits
    asked, documents = await items(
        query_pieces(body.query), [pieces(each) for each in given], service.fetcher, limits
    )
    candidates: list[Candidate] = []

    def read() -> list[Any]:
        candidates.extend(_pages(given, documents, limits))
        prepared = reranker.prepare(
            asked,
            [each.document for each in candidates],
            max_doc_length=body.max_tokens_per_doc,
            max_pixels=body.max_pixels,
        )
        return [prepared]

    found = (await service.scored(ticket_of(request), held, read))[0]
    best = {place: candidates[place] for place in found.best(body.top_n)}
    return found, await _results(request, body, found, best)


def _pages(
    given: Sequence[str | InlineDocument], documents: Sequence[Document], limits: FileLimits
) -> list[Candidate]:
    """Each document, and each page of a PDF. Raises TooLargeError, InputError."""
    made: list[Candidate] = []
    pages = 0
    for place, (sent, document) in enumerate(zip(given, documents, strict=True)):
        id = (None if isinstance(sent, str) else sent.id) or str(place)
        part = document.parts[0]
        if not any(isinstance(each, Pdf) for each in document.parts):
            made.append(Candidate(document, {"id": id, "index": place}))
            continue
        with naming(f"documents[{place}]"):
            if len(document.parts) > 1 or not isinstance(part, Pdf):
                raise UnsupportedInputError(
                    "A PDF is ranked page by page and alone.", "Leave out text and image."
                )
            for page in page_numbers(part.source, part.pages, limits):
                pages += 1
                if pages > MOST_PAGES:
                    raise TooLargeError(
                        f"The request has more than the {MOST_PAGES} pages that are taken.",
                        "Choose some with pages, or leave the PDF here: POST /v1/documents.",
                    )
                own = Document((Pdf(part.source, (page,)),), f"{document.name}, page {page}")
                called = {"id": f"{id}#page={page}", "index": place, "page": page}
                made.append(Candidate(own, called))
    return made


async def _results(
    request: Request, body: RankRequest, found: Scored, best: Mapping[int, Candidate]
) -> list[dict[str, Any]]:
    """What is said of the best by their places in `found`, in this order."""
    service, limits = service_of(request), found.held.reranker.encoder.limits
    results = []
    for place, each in best.items():
        result = {
            **each.called,
            "relevance_score": found.score(place),
            "logit": round(found.logits[place], 8),
        }
        if body.thumbnails is not None:
            async with service.drawing:
                picture = await asyncio.to_thread(thumbnail, each.document, body.thumbnails, limits)
            if picture is not None:
                result["thumbnail"] = picture
        results.append(result)
    return results
