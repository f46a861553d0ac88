"""What a request asks, whatever its shape, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sightrank.serve.access import Caller
from sightrank.serve.errors import StaleIndexError, TokenLimitError
from sightrank.serve.held import Held
from sightrank.serve.items import Pieces

if TYPE_CHECKING:
    from sightrank.engine.batch import Prepared


@dataclass(frozen=True)
class Ask:
    """A ranking as every dialect means it."""

    query: Pieces
    documents: list[Pieces]
    model: str | None = None
    truncation: bool = True
    max_doc_length: int | None = None


@dataclass
class Ticket:
    """A request under way: who asks, and what the log will say of it."""

    id: str
    caller: Caller
    num_documents: int = 0
    num_tokens: int = 0
    due: int | None = None
    """Tokens of what was computed."""
    reserved: bool = False
    settled: bool = False


@dataclass(frozen=True)
class Scored:
    """What came of a request."""

    held: Held
    logits: list[float]
    """One a document, in the order given."""
    num_tokens: int
    names: tuple[str | None, ...]

    def best(self, top_n: int | None) -> list[int]:
        """Places of the best documents; ties keep the order given."""
        order = sorted(range(len(self.logits)), key=lambda place: (-self.logits[place], place))
        return order[:top_n]

    def score(self, place: int) -> float:
        """A document's probability, as answers have it."""
        return round(self.held.reranker.probability(self.logits[place]), 8)


def check_whole(requests: Sequence[Prepared]) -> None:
    """Raise TokenLimitError where something was cut."""
    for request in requests:
        if request.truncated:
            raise TokenLimitError(
                f"documents[{request.truncated[0]}] and the query are longer than the model"
                " reads, and truncation is false.",
                "Shorten it, or allow truncation.",
            )


def check_found(request: Prepared, logits: Sequence[float]) -> None:
    """Raise StaleIndexError where an index has lost a document."""
    lost = [place for place, logit in enumerate(logits) if math.isnan(logit)]
    if lost:
        raise StaleIndexError(
            f"{request.names[lost[0]]} is damaged in its index.", "Index it again."
        )
