"""A reranking service as a peer, in the shape of Jina's or of Cohere's HTTP interface."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import OptionError, PeerError, UnsupportedInputError
from sightrank.evaluate.http_post import post_json
from sightrank.evaluate.run import Progress, Task
from sightrank.inputs.load import FileLimits, describe, load
from sightrank.types import Document, Query

KEYS = {"jina": "JINA_API_KEY", "cohere": "CO_API_KEY"}
"""Shape -> the environment variable with the key, which is sent to the URL that was named."""
PAGE_PIXELS = 768 * 28 * 28
"""Pixels of a PDF page that is drawn to be sent: what jina-reranker-m0 looks at."""
NAME = re.compile(r"http\+(?P<shape>jina|cohere):(?P<url>https?://[^#\s]+)#(?P<model>\S+)")
EXPECTED = "Expected is http+jina:URL#MODEL or http+cohere:URL#MODEL."


@dataclass(frozen=True)
class HttpPeer:
    """Asks a service once a query, with all of the query's candidates."""

    name: str
    shape: str
    url: str
    model: str
    timeout: float = 60

    @classmethod
    def of(cls, name: str, timeout: float = 60) -> HttpPeer:
        """`http+jina:URL#MODEL` or `http+cohere:URL#MODEL`. Raises OptionError."""
        match = NAME.fullmatch(name)
        if match is None:
            raise OptionError(f"The peer is {name!r}.", EXPECTED)
        return cls(name, match["shape"], match["url"], match["model"], timeout)

    def check(self, task: Task) -> None:
        """Raise UnsupportedInputError if the set has what this shape has no field for."""
        items: list[Query | Document] = [task.dataset.queries[query] for query in task.candidates]
        for item in items + list(task.documents):
            is_text = all(hasattr(part, "text") for part in item.parts)
            if not is_text and (self.shape == "cohere" or isinstance(item, Query)):
                what = "Documents are texts" if self.shape == "cohere" else "Queries are texts"
                raise UnsupportedInputError(
                    f"{self.name}: {what} in this interface, and {task.dataset.name} has"
                    f" {describe(item)}.",
                    "Leave out this peer, or this set.",
                )

    def score_matrix(
        self,
        queries: Sequence[Query],
        documents: Sequence[Document],
        pairs: Sequence[tuple[int, int]],
        *,
        progress: Progress | None = None,
    ) -> NDArray[np.float64]:
        """The service's own scores (pairs,). Raises PeerError, InputError."""
        rows: dict[int, list[int]] = {}
        for at, (query, _) in enumerate(pairs):
            rows.setdefault(query, []).append(at)
        values, done = np.empty(len(pairs)), 0
        for query, places in rows.items():
            asked = self._content(queries[query])
            sent = [self._content(documents[pairs[at][1]]) for at in places]
            values[places] = self._ask(asked, sent)
            done += len(places)
            if progress:
                progress(done, len(pairs))
        return values

    def _content(self, item: Query | Document) -> str | dict[str, str]:
        """A text as it is, an image as base64 of a PNG: nothing is lost on the way."""
        loaded = load(item, FileLimits(), max_pixels=PAGE_PIXELS)
        texts = [part for part in loaded if isinstance(part, str)]
        if len(texts) == len(loaded):
            return "\n".join(texts)
        if self.shape == "cohere" or isinstance(item, Query) or len(loaded) > 1:
            raise UnsupportedInputError(
                f"{self.name} takes no {'query' if isinstance(item, Query) else 'document'} such as"
                f" {describe(item)}.",
                "Jina's interface takes a text, or one image as a document; Cohere's takes texts.",
            )
        (image,) = loaded
        assert not isinstance(image, str)
        file = io.BytesIO()
        image.save(file, "PNG")
        return {"image": base64.b64encode(file.getvalue()).decode()}

    def _ask(self, query: str | dict[str, str], documents: list[Any]) -> list[float]:
        body = {
            "model": self.model,
            "query": query,
            "documents": documents,
            "top_n": len(documents),
            **({"return_documents": False} if self.shape == "jina" else {}),
        }
        key = os.environ.get(KEYS[self.shape])
        answer = post_json(self.url, body, key, self.timeout, KEYS[self.shape])
        return self._scores(answer, len(documents))

    def _scores(self, answer: Any, count: int) -> list[float]:
        """Scores in the order that the documents were sent in; each document has exactly one."""
        try:
            found = {
                _index(result["index"]): float(result["relevance_score"])
                for result in answer["results"]
            }
            complete = len(answer["results"]) == count and found.keys() == set(range(count))
        except (KeyError, TypeError, ValueError):
            raise PeerError(
                f"{self.url} answered something else than results with index and relevance_score:"
                f" {str(answer)[:200]}",
                "Is it the rerank endpoint, and of this shape?",
            ) from None
        if not complete:
            raise PeerError(
                f"{self.url} gave {len(found)} scores for {count} documents.",
                "A shorter --depth may be within its limits.",
            )
        return [found[place] for place in range(count)]


def _index(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value
