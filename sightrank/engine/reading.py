"""A request's documents, read and scored in windows: as many as memory holds with their pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sightrank.engine.engine import Engine, Known, Pair, Progress
from sightrank.engine.index import Facts, Index
from sightrank.engine.indexing import Failures, known
from sightrank.engine.plans import Seen
from sightrank.engine.prefix_store import PrefixStore
from sightrank.errors import SightrankError
from sightrank.inputs.files import naming
from sightrank.inputs.load import describe
from sightrank.inputs.segments import Encoder, Segment
from sightrank.types import Document


@dataclass(frozen=True)
class Read:
    """A document, what the engine runs of it, and the queries behind it."""

    document: Document
    segment: Segment | Known
    suffixes: tuple[tuple[int, Segment], ...]
    """(number of the query, its tokens moved behind this document)."""

    @property
    def num_tokens(self) -> int:
        """Prompt tokens of all its pairs without the score tokens."""
        return sum(
            len(self.segment) - suffix.rewind + len(suffix) - 1 for _, suffix in self.suffixes
        )


@dataclass(frozen=True)
class Scored:
    """A document that has been scored: what is left of a `Read` when its pixels are gone."""

    document: Document
    num_tokens: int
    logits: list[float]
    """One a query behind it, in the order of its suffixes."""


Window = dict[int, Read]
"""By their place in the request, documents that are scored together."""


class Reader:
    """Reads documents for one request."""

    def __init__(
        self,
        encoder: Encoder,
        queries: Sequence[Segment],
        asking: Callable[[int], Sequence[int]],
        failures: Failures,
    ) -> None:
        """`asking`: the numbers of the queries to the document at a place."""
        self.encoder, self.queries = encoder, queries
        self.asking, self.failures = asking, failures

    def windows(self, documents: Iterable[tuple[int, object]], most_bytes: int) -> Iterator[Window]:
        """(place, document) in order; a window ends before its segments take more than allowed."""
        window: Window = {}
        used = 0
        for place, value in documents:
            try:
                document = Document.of(value)
                segment = self.encoder.document(document)
                read = self._read(place, document, segment)
            except SightrankError as error:
                self.failures(place, error)
                continue
            if window and used + segment.num_bytes > most_bytes:
                yield window
                window, used = {}, 0
            window[place] = read
            used += segment.num_bytes
        if window:
            yield window

    def indexed(self, index: Index, settings: str, facts: Facts) -> Iterator[Window]:
        """All documents of an index in one window: of these no pixels are held."""
        records = index.records(settings, facts)
        window: Window = {}
        for place, segment in known(index, records, self.encoder, self.failures).items():
            try:
                window[place] = self._read(place, records[place].document, segment)
            except SightrankError as error:
                self.failures(place, error)
        yield window

    def _read(self, place: int, document: Document, segment: Segment | Known) -> Read:
        with naming(describe(document)):
            suffixes = tuple(
                (number, self.encoder.suffix(segment, self.queries[number]))
                for number in self.asking(place)
            )
        return Read(document, segment, suffixes)


def score_all(
    engine: Engine,
    reader: Reader,
    windows: Iterable[Window],
    num_pairs: int,
    progress: Progress | None = None,
    store: PrefixStore | None = None,
) -> dict[int, Scored]:
    """Logits of all pairs by the place of their document. For `progress` what failed is done."""
    asked = engine.look(reader.queries)
    scored: dict[int, Scored] = {}
    for window in windows:
        before = sum(len(each.logits) for each in scored.values()) + len(reader.failures.all)

        def show(done: int, _: int, before: int = before) -> None:
            if progress:
                progress(min(before + done, num_pairs), num_pairs)

        scored |= _score(engine, window, asked, show, store)
        del window  # and its pixels, before the next one is read
    return scored


def _score(
    engine: Engine,
    window: Window,
    asked: Sequence[Seen],
    progress: Progress,
    store: PrefixStore | None,
) -> dict[int, Scored]:
    documents = [read.segment for read in window.values()]
    pairs = [
        Pair(at, number, suffix)
        for at, read in enumerate(window.values())
        for number, suffix in read.suffixes
    ]
    logits = iter(engine.score(documents, asked, pairs, progress, store).tolist())
    return {
        place: Scored(read.document, read.num_tokens, [next(logits) for _ in read.suffixes])
        for place, read in window.items()
    }
