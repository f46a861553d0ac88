"""SageMaker's bodies: the envelope of Jina's model packages, and the CSV of batch transform jobs.

The shapes are those of the examples in the repository jina-ai/jina-sagemaker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sightrank.errors import InputError

KINDS = ("text", "url", "bytes", "image")
"""How a document of the envelope says what it is; an answer names all four, the others null."""

_PLAIN = re.compile(r'"((?:[^"]++|"")*+)"(?:,|$)|([^,"]*+)(?:,|$)')
_ESCAPED = re.compile(r"((?:\\.|[^,\\])*+)(?:,|$)")
_ESCAPE = re.compile(r'\\([",\\])')


@dataclass(frozen=True)
class Line:
    """A line of a batch: the body to rank, or why it cannot be read."""

    number: int
    id: str
    body: dict[str, Any] | None
    error: InputError | None = None


def to_jina(request: Any) -> dict[str, Any]:
    """A request of the envelope's `data` as the body of /v1/rerank. Raises InputError."""
    if not isinstance(request, Mapping) or not isinstance(request.get("documents"), list):
        raise InputError(
            "A request is not an object with a query and a list of documents.",
            'Send {"query": ..., "documents": [{"text": ...}, {"image": URL}, {"bytes": BASE64}]}.',
        )
    body = {name: value for name, value in request.items() if value is not None}
    body["documents"] = [_to_jina(document) for document in request["documents"]]
    body["return_documents"] = False  # the answer repeats them in its own shape
    top_n = body.get("top_n")
    if isinstance(top_n, int) and not isinstance(top_n, bool):
        body["top_n"] = min(top_n, len(body["documents"])) or top_n
    return body


def from_jina(request: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer of /v1/rerank as an element of the envelope's `data`."""
    documents = request["documents"]
    return {
        "query_usage": {"total_tokens": 0},  # the query's tokens are counted with each document
        "docs_usage": {"total_tokens": answer["usage"]["total_tokens"]},
        "results": [
            {
                "index": result["index"],
                "document": _echo(documents[result["index"]]),
                "relevance_score": result["relevance_score"],
                **({"usage": result["usage"]} if "usage" in result else {}),
            }
            for result in answer["results"]
        ],
    }


def envelope(data: list[dict[str, Any]]) -> dict[str, Any]:
    """What surrounds the answers to one body, or to one line of a batch."""
    return {"data": data, "header": None, "parameters": None}


def read_lines(text: str) -> Iterator[Line]:
    """The lines of a batch: id, query, documents as JSON and, where wanted, top_n.

    Fields are quoted as in RFC 4180, or, as in Jina's examples, escaped: `\\,` and `\\"`.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.strip():
            yield _read_line(number, line)


def _read_line(number: int, line: str) -> Line:
    fields: list[str] = []
    for split in (_split_plain, _split_escaped):
        fields = split(line)
        if len(fields) in (3, 4):
            try:
                documents = json.loads(fields[2])
            except ValueError:
                continue
            return _as_line(number, fields, documents)
    error = InputError(
        f"Line {number} has not the fields id, query, documents and top_n.",
        'Quote the documents, a JSON list, and double its quotes: "[{""text"": ""...""}]".',
    )
    return Line(number, fields[0] if fields else "", None, error)


def _as_line(number: int, fields: list[str], documents: Any) -> Line:
    request: dict[str, Any] = {"query": fields[1], "documents": documents}
    top_n = fields[3].strip() if len(fields) == 4 else ""
    try:
        if top_n:
            request["top_n"] = int(top_n)
        to_jina(request)
    except ValueError:
        error = InputError(f"Line {number}: top_n is {top_n[:20]!r}.", "Give a number from 1.")
    except InputError as problem:
        error = InputError(f"Line {number}: {problem.message}", problem.hint)
    else:
        return Line(number, fields[0], request)
    return Line(number, fields[0], None, error)


def _split_plain(line: str) -> list[str]:
    """Fields as RFC 4180 has them; none if the line is not of that form."""
    fields, place = [], 0
    while True:
        match = _PLAIN.match(line, place)
        if not match:
            return []
        quoted, bare = match.groups()
        fields.append(bare if quoted is None else quoted.replace('""', '"'))
        if not match[0].endswith(","):
            return fields
        place = match.end()


def _split_escaped(line: str) -> list[str]:
    """Fields parted by commas without a backslash; `\\n` and other escapes are JSON's own."""
    fields, place = [], 0
    while True:
        match = _ESCAPED.match(line, place)
        if not match:  # a backslash at the very end
            return []
        fields.append(_ESCAPE.sub(r"\1", match[1]))
        if match.end() == len(line) and not match[0].endswith(","):
            return fields
        place = match.end()


def _to_jina(document: Any) -> Any:
    if not isinstance(document, Mapping):
        return document
    for kind in ("bytes", "url"):  # base64 without a data URI's head, or an address
        if document.get(kind) is not None:
            return {"image": document[kind]}
    return {name: value for name, value in document.items() if value is not None}


def _echo(document: Any) -> dict[str, Any]:
    given = document if isinstance(document, Mapping) else {"text": document}
    return {kind: given.get(kind) for kind in KINDS}
