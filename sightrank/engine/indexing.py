"""Between documents and an index: run what it lacks, and know again what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from sightrank.engine.catalog import Record, from_part
from sightrank.engine.engine import Engine, Known
from sightrank.engine.index import Facts, Index, Progress
from sightrank.engine.memory import cost
from sightrank.engine.precision import Precision, Shape, packed_bytes
from sightrank.errors import IndexFolderError, InputError, OptionError, SightrankError
from sightrank.inputs.load import describe
from sightrank.inputs.segments import Encoder, Segment
from sightrank.types import Document

MOST_WAITING = 256
"""Documents acknowledged together at most; few enough that a kill costs little."""

SAMPLE = 8
"""Documents that an estimate looks at."""

OnError = Literal["raise", "skip"]


@dataclass(frozen=True)
class Report:
    """What `add_documents` did."""

    computed: int
    """Documents that were run."""
    found: int
    """Documents whose entry was there, or was made for another of the same content."""
    failures: tuple[tuple[int, Exception], ...]
    """(index, error) of documents that could not be read."""


class Indexing:
    """One run of `add_documents`: what waits to be run and written, and how much was."""

    def __init__(self, engine: Engine, encoder: Encoder, index: Index, facts: Facts) -> None:
        self.engine, self.encoder, self.index, self.facts = engine, encoder, index, facts
        self.waiting: dict[int, tuple[Document, Record]] = {}
        """Documents by their place in the request, not acknowledged yet."""
        self.segments: dict[str, Segment] = {}
        """By digest, those that the index lacks."""
        self.labels: dict[str, str] = {}
        """Of all documents taken, with their digests."""
        self.computed = 0

    def take(self, place: int, document: Document, segment: Segment) -> None:
        """Let one wait; what would not fit beside it is written first.

        Raises OptionError for a second document of the same name: the first would be replaced.
        """
        record = to_record(document, segment)
        if self.labels.setdefault(record.label, segment.digest) != segment.digest:
            raise OptionError(
                f"Two documents are named {describe(document)}.", "Give each a name of its own."
            )
        missing = not self.index.store.has(self.engine.key(segment))
        used = sum(map(cost, self.segments.values()))
        if missing and used and used + cost(segment) > self.engine.limits.batch_tokens:
            self.flush()
        self.waiting[place] = document, record
        if missing:
            self.segments[segment.digest] = segment
        if len(self.waiting) >= MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Run and write all that waits: when this returns it is acknowledged."""
        waiting, segments = self.waiting, self.segments
        self.waiting, self.segments = {}, {}
        packed = self.engine.pack(list(segments.values()), self.index.precision)
        entries = dict(zip(segments, packed, strict=True))
        records = [record for _, record in waiting.values()]
        lacking = self.index.add(self.engine.settings, self.facts, records, entries)
        self.computed += len(entries)
        for place, (document, record) in waiting.items():
            if record in lacking:  # pruned by another process since it was looked for
                del self.labels[record.label]
                self.take(place, document, self.encoder.document(document))


class Failures:
    """What could not be read: (place, error) of each, or the first one raised."""

    def __init__(self, on_error: OnError) -> None:
        self.on_error = on_error
        self.all: list[tuple[int, Exception]] = []

    def __call__(self, place: int, error: SightrankError) -> None:
        """Note it, or raise it."""
        if self.on_error == "raise":
            raise error
        self.all.append((place, error))


def add_documents(
    engine: Engine,
    encoder: Encoder,
    index: Index,
    facts: Facts,
    documents: Sequence[Document | Any],
    failures: Failures,
    progress: Progress | None,
) -> Report:
    """Make `documents` part of `index`, batch by batch; those it holds already cost no model run.

    `progress` is called with the number of documents that are acknowledged or failed; they are the
    first so many. Stopped at any point, the same call goes on from there.
    """
    run = Indexing(engine, encoder, index, facts)
    for place, value in enumerate(documents):
        try:
            document = Document.of(value)
            run.take(place, document, encoder.document(document))
        except (InputError, OptionError) as error:
            failures(place, error)
        if progress:
            progress(place + 1 - len(run.waiting), len(documents))
    while run.waiting:
        run.flush()
    if progress:
        progress(len(documents), len(documents))
    found = len(documents) - len(failures.all) - run.computed
    return Report(run.computed, found, tuple(failures.all))


def to_record(document: Document, segment: Segment) -> Record:
    """What the catalog says of a document."""
    return Record(
        document.name,
        tuple(map(from_part, document.parts)),
        segment.digest,
        len(segment),
        segment.next_position,
        segment.truncated,
    )


def known(
    index: Index, records: Sequence[Record], encoder: Encoder, failures: Failures
) -> dict[int, Known]:
    """Documents of an index by place, ready to be scored without their files.

    `failures` gets those whose entry is bad and whose content cannot be read again.
    """

    def recover(place: int) -> Segment | None:
        try:
            return reread(index, records[place], encoder)
        except SightrankError as error:
            failures(place, error)
            return None

    return {
        place: Known(
            record.digest, record.num_tokens, record.next_position, partial(recover, place)
        )
        for place, record in enumerate(records)
    }


def reread(index: Index, record: Record, encoder: Encoder) -> Segment:
    """The document's segment, encoded anew. Raises IndexFolderError if it is not the same any more."""
    name = describe(record.document)
    lost = f"{name}: its entry in {index.path} is missing or damaged, and"
    hint = f"Index it again: sightrank index DOCUMENT --to {index.path}"
    try:
        segment = encoder.document(record.document)
    except SightrankError as error:
        raise IndexFolderError(f"{lost} it cannot be read again: {error.message}", hint) from error
    if segment.digest != record.digest:
        raise IndexFolderError(f"{lost} it has changed since.", hint)
    return segment


def estimate(
    encoder: Encoder, shape: Shape, documents: Sequence[Document | Any], precision: Precision
) -> int | None:
    """Bytes that `documents` will take, judged by a few of them; None if none can be read."""
    sizes = [packed_bytes(each, shape, precision) for each in sample(encoder, documents)]
    return round(sum(sizes) / len(sizes) * len(documents)) if sizes else None


def sample(encoder: Encoder, documents: Sequence[Document | Any]) -> list[Segment]:
    """A few of `documents`, evenly spread; those that cannot be read are left out."""
    step = max(1, len(documents) // SAMPLE)
    found = []
    for document in documents[::step][:SAMPLE]:
        with suppress(SightrankError):
            found.append(encoder.document(Document.of(document)))
    return found
