"""Our own routes: leave documents here once, to be ranked by the name of their index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, File, Form, Query, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from sightrank.errors import OptionError, UnsupportedInputError
from sightrank.inputs.decode import decode_base64
from sightrank.inputs.files import naming
from sightrank.serve.dialects import Ascii
from sightrank.serve.held import Held
from sightrank.serve.items import items, pieces
from sightrank.serve.replies import FAILURES, Usage
from sightrank.serve.routing import AdmittedRoute, gone, service_of, ticket_of
from sightrank.serve.schemas import Item
from sightrank.serve.shelf import Given, Kept, NoShelvesError, Shelf, content_id, shelves
from sightrank.types import Image, Pdf, Text

RESPONSES = {**FAILURES, 404: {"description": "No such index or document."}}
router = APIRouter(route_class=AdmittedRoute, responses=RESPONSES, tags=["documents"])
_Result = TypeVar("_Result")
IndexName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", examples=["handbook"])
]
Id = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f]+$")]


class NewDocument(Item):
    """A text, an image, an image with its text, or a PDF, whose pages become documents."""

    id: Id | None = Field(None, description="Without it, one made of the content.")


class DocumentsRequest(BaseModel):
    """Documents to keep."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "index": "handbook",
                    "documents": [{"id": "hours", "text": "The shop opens at nine."}],
                }
            ]
        }
    )

    index: IndexName
    documents: list[NewDocument] = Field(min_length=1, max_length=1000)


class KeptDocument(BaseModel):
    """A document that is there; pages of a PDF are ID#page=1 and so on."""

    id: str
    tokens: int
    truncated: bool


class DocumentsReply(BaseModel):
    """Documents of an index."""

    object: str
    index: str
    data: list[KeptDocument]
    usage: Usage


@router.post("/v1/documents", response_model=DocumentsReply)
async def put(request: Request, body: DocumentsRequest) -> Response:
    """Keep documents under an index's name, replacing those of the same id.

    The model runs over each once, for which its tokens are charged; queries then cost only theirs
    in time, and are charged as any.
    """
    service = service_of(request)
    limits = service.models.first.reranker.encoder.limits
    _, made = await items(
        pieces("-"), [pieces(each) for each in body.documents], service.fetcher, limits
    )
    given = []
    for place, (document, each) in enumerate(zip(made, body.documents, strict=True)):
        with naming(f"documents[{place}]"):
            if each.pages is not None or (each.pdf is not None and (each.text or each.image)):
                raise UnsupportedInputError(
                    "A PDF is kept as a whole and alone.", "Leave out pages, text and image."
                )
            held: dict[str, Any] = {"text": None, "image": None, "pdf": None}
            for part in document.parts:
                if isinstance(part, Text):
                    held["text"] = part.text
                elif isinstance(part, Pdf):
                    held["pdf"] = part.source
                elif isinstance(part, Image):
                    source = part.source
                    held["image"] = (
                        decode_base64(source, limits) if isinstance(source, str) else source
                    )
            given.append(Given(each.id or content_id(**held), **held))
    return await _put(request, body.index, given)


@router.post("/v1/documents/upload", response_model=DocumentsReply)
async def upload(
    request: Request,
    index: Annotated[str, Form()],
    files: Annotated[list[UploadFile], File(description="Images, PDFs, UTF-8 texts.")],
) -> Response:
    """The same from a form with files; a file's name is its document's id."""
    given = []
    for file in files:
        content = await file.read()
        given.append(_from_file((file.filename or "")[:256], content))
    return await _put(request, index, given)


@router.get("/v1/documents")
async def list_documents(
    request: Request, index: Annotated[str | None, Query()] = None
) -> Response:
    """Documents of an index, or without one the names of all indexes."""
    if index is None:
        owner = ticket_of(request).caller.key_id
        names = [{"index": name} for name in shelves(_data(request), owner)]
        return Ascii({"object": "list", "data": names})
    shelf, reranker = shelf_of(request, index), service_of(request).models.first.reranker

    def look() -> list[Kept]:
        shelf.open(reranker)
        return shelf.kept(reranker)

    return _documents(index, await _run(request, look), 0)


@router.delete("/v1/documents/{index}")
async def delete_index(request: Request, index: str) -> Response:
    """Forget an index."""
    shelf = shelf_of(request, index)
    reranker = service_of(request).models.first.reranker
    await _run(request, lambda: shelf.delete_all(reranker))
    return Ascii({"object": "index.deleted", "index": index})


@router.delete("/v1/documents/{index}/{id:path}")
async def delete_document(request: Request, index: str, id: str) -> Response:
    """Forget a document; a PDF with all its pages."""
    shelf = shelf_of(request, index)
    reranker = service_of(request).models.first.reranker
    await _run(request, lambda: shelf.delete(reranker, id))
    return Ascii({"object": "document.deleted", "index": index, "id": id})


async def _put(request: Request, name: str, given: Sequence[Given]) -> Response:
    service, ticket = service_of(request), ticket_of(request)
    shelf, held = shelf_of(request, name), service.models.first
    ticket.num_documents = len(given)

    async def work() -> Any:
        kept, tokens = await service.computed(
            ticket, held, lambda: shelf.put(held.reranker, given), lambda result: result[1]
        )
        return kept, tokens

    kept, tokens = await service.within(ticket, work, gone(request))
    return _documents(name, kept, tokens)


async def _run(request: Request, call: Callable[[], _Result]) -> _Result:
    service, ticket = service_of(request), ticket_of(request)

    async def work() -> _Result:
        return await service.computed(ticket, service.models.first, call, lambda _: 0)

    return await service.within(ticket, work, gone(request))


def _from_file(name: str, content: bytes) -> Given:
    """By what the bytes are, not by what the name says."""
    if content[:1024].lstrip().startswith(b"%PDF-"):
        return Given(name or content_id(None, None, content), pdf=content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return Given(name or content_id(None, content, None), image=content)
    return Given(name or content_id(text, None, None), text=text)


def _documents(index: str, kept: Sequence[Kept], tokens: int) -> Response:
    data = [
        {"id": each.id, "tokens": each.num_tokens, "truncated": each.truncated} for each in kept
    ]
    usage = {"total_tokens": tokens}
    return Ascii({"object": "list", "index": index, "data": data, "usage": usage})


def shelf_of(request: Request, name: str) -> Shelf:
    """The caller's own of that name. Raises NoShelvesError, OptionError."""
    owner = ticket_of(request).caller.key_id
    return Shelf.of(_data(request), owner, name, service_of(request).opened)


def chosen(request: Request, model: str | None, index: str | None) -> Held:
    """The model that is asked for. Raises UnknownModelError, OptionError."""
    models = service_of(request).models
    held = models.named(model)
    if index is not None and held is not models.first:
        raise OptionError(
            f"Indexes of this server belong to {models.first.name}, and model is {held.name}.",
            "Leave model out, or send the documents along.",
        )
    return held


def _data(request: Request) -> Path:
    data = service_of(request).settings.data
    if data is None:
        raise NoShelvesError(
            "This server keeps no documents.", "Start it with --data FOLDER to keep some."
        )
    return data
