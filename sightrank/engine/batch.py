"""Requests of several callers, read one by one and scored together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sightrank.engine.engine import Engine, Known, Pair
from sightrank.engine.index import Facts, Index
from sightrank.engine.indexing import Failures, known
from sightrank.engine.memory import cost
from sightrank.engine.prefix_store import PrefixStore
from sightrank.errors import EmptyInputError
from sightrank.inputs.files import naming
from sightrank.inputs.load import describe
from sightrank.inputs.segments import Encoder, Segment
from sightrank.types import Document, Query


@dataclass(frozen=True, eq=False)
class Prepared:
    """A query and its documents, read and split into tokens: only the model is still to run."""

    query: Segment
    documents: tuple[Segment | Known, ...]
    suffixes: tuple[Segment, ...]
    """The query's tokens behind each document."""
    names: tuple[str | None, ...]
    truncated: tuple[int, ...]
    """Places of documents, or of the query behind them, of which something was cut off."""
    store: PrefixStore | None = None
    """Where the documents lie, if they come out of an index."""

    @property
    def num_tokens(self) -> int:
        """Prompt tokens of all pairs without the score tokens."""
        return sum(
            len(document) - suffix.rewind + len(suffix) - 1
            for document, suffix in zip(self.documents, self.suffixes, strict=True)
        )

    @property
    def num_bytes(self) -> int:
        """Memory that it takes, mostly the images' pixels."""
        whole = [each for each in (self.query, *self.documents) if isinstance(each, Segment)]
        return sum(each.num_bytes for each in (*whole, *self.suffixes))

    @property
    def costs(self) -> list[int]:
        """Work of each document in tokens, the query's behind it among them."""
        return [
            cost(document) + len(suffix)
            for document, suffix in zip(self.documents, self.suffixes, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Slice:
    """Neighbouring documents of a request: `start` to before `stop`."""

    request: Prepared
    start: int
    stop: int


def prepare(
    encoder: Encoder,
    query: Query,
    documents: Sequence[Document],
    max_doc_length: int | None = None,
    max_pixels: int | None = None,
) -> Prepared:
    """Read a request. `max_doc_length`: cut texts shorter than the model's limit does.

    `max_pixels`: show the model smaller images than its limit allows. A document's digest is that
    of what the model sees, so that one memory serves all limits.
    Raises InputError or a child for the first one that cannot be read.
    """
    if not documents:
        raise EmptyInputError("There are no documents.", "Give at least one.")
    if max_doc_length is not None or max_pixels is not None:
        encoder = encoder.under(encoder.config.lowered(max_doc_length, max_pixels))
    asked = encoder.query(query)
    segments: list[Segment | Known] = []
    suffixes = []
    truncated = []
    for place, document in enumerate(documents):
        segment = encoder.document(document)
        with naming(describe(document)):
            suffix = encoder.suffix(segment, asked)
        segments.append(segment)
        suffixes.append(suffix)
        if segment.truncated or suffix.truncated:
            truncated.append(place)
    names = tuple(document.name for document in documents)
    return Prepared(asked, tuple(segments), tuple(suffixes), names, tuple(truncated))


def prepare_indexed(
    encoder: Encoder,
    query: Query,
    index: Index,
    settings: str,
    facts: Facts,
    names: Collection[str] | None = None,
) -> Prepared:
    """As `prepare`, of documents that an index holds: all, or those with one of `names`.

    Raises OtherModelError, IndexFolderError, and EmptyInputError where no name is known.
    """
    asked = encoder.query(query)
    records = [
        record for record in index.records(settings, facts) if names is None or record.name in names
    ]
    if not records:
        raise EmptyInputError("None of the documents asked for is in the index.", "List them.")
    # What cannot be recovered keeps NaN for its score, which is how the caller learns of it.
    segments = known(index, records, encoder, Failures("skip"))
    documents = tuple(segments[place] for place in range(len(records)))
    suffixes = tuple(encoder.suffix(segment, asked) for segment in documents)
    cut = tuple(place for place, record in enumerate(records) if record.truncated)
    return Prepared(
        asked, documents, suffixes, tuple(record.name for record in records), cut, index.store
    )


def score_slices(engine: Engine, slices: Sequence[Slice]) -> list[list[float]]:
    """Logits of each slice's documents; those of one store, or of none, in one pass.

    NaN stands for a document whose entry in the index is lost.
    """
    results: list[list[float]] = [[] for _ in slices]
    for store in dict.fromkeys(each.request.store for each in slices):
        members = [place for place, each in enumerate(slices) if each.request.store is store]
        documents: list[Segment | Known] = []
        pairs = []
        for query, place in enumerate(members):
            request, span = slices[place].request, slice(slices[place].start, slices[place].stop)
            for document, suffix in zip(
                request.documents[span], request.suffixes[span], strict=True
            ):
                pairs.append(Pair(len(documents), query, suffix))
                documents.append(document)
        asked = engine.look([slices[place].request.query for place in members])
        logits = iter(engine.score(documents, asked, pairs, store=store).tolist())
        for place in members:
            results[place] = [next(logits) for _ in range(slices[place].start, slices[place].stop)]
    return results
