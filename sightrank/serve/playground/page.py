"""Routes of the page and its files, for anybody: what the page then asks needs a key as ever."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sightrank.serve.access import NoAccess
from sightrank.serve.dialects import Ascii
from sightrank.serve.held import Held
from sightrank.serve.routing import service_of

HERE = Path(__file__).parent
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".pdf": "application/pdf",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class File:
    """A file of the page, read when the server starts."""

    content: bytes
    kind: str
    tag: str
    """Changes with the content; browsers ask by it whether theirs is still good."""

    @classmethod
    def of(cls, path: Path) -> File:
        """Raises OSError."""
        content = path.read_bytes()
        return cls(content, KINDS[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:20]}"')

    def reply(self, request: Request) -> Response:
        """The file, or nothing where the browser has it already."""
        headers = {**HEADERS, "ETag": self.tag}
        if request.headers.get("if-none-match") == self.tag:
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.kind, headers=headers)


def files() -> dict[str, File]:
    """Name -> file: the page's own and its examples'. A request chooses among these names alone."""
    found = [*HERE.iterdir(), *(HERE / "examples").iterdir()]
    return {path.name: File.of(path) for path in sorted(found) if path.suffix in KINDS}


def playground() -> APIRouter:
    """`/` and what the page loads, none of it in the API's description."""
    router = APIRouter(include_in_schema=False)
    there = files()

    @router.get("/")
    async def page(request: Request) -> Response:
        return there["index.html"].reply(request)

    @router.get("/playground/facts")
    async def facts(request: Request) -> Response:
        return Ascii(_facts(request), headers={"Cache-Control": "no-store"})

    @router.get("/playground/{name}")
    async def file(request: Request, name: str) -> Response:
        if name not in there:
            raise HTTPException(404, "The playground has no such file.")
        return there[name].reply(request)

    return router


def _facts(request: Request) -> dict[str, object]:
    """What the page has to know before it asks: the models' names and limits, and whether of a key."""
    service = service_of(request)
    return {
        "models": [_told(held) for held in service.models],
        "max_body": service.settings.max_body,
        "key": not isinstance(service.access, NoAccess),
    }


def _told(held: Held) -> dict[str, object]:
    limits = held.reranker.encoder.config
    return {
        "name": held.name,
        "device": str(held.reranker.device),
        "numbers": held.reranker.numbers,
        "max_pixels": limits.max_pixels,
        "min_pixels": limits.min_pixels,
        "max_tokens_per_doc": limits.document_tokens,
    }
