"""From a query and documents to a ranking: the whole request."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Collection, Iterable, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sightrank import weights
from sightrank.analysis.calibrate import Calibration
from sightrank.analysis.select import Selection
from sightrank.analysis.states import hit_vectors
from sightrank.config import EngineConfig, InputConfig, ModelConfig
from sightrank.engine.batch import Prepared, Slice, prepare, prepare_indexed, score_slices
from sightrank.engine.engine import Engine, Progress
from sightrank.engine.index import Index
from sightrank.engine.indexing import Failures, OnError, Report, add_documents, estimate, sample
from sightrank.engine.memory import Expected, expect
from sightrank.engine.precision import Precision, Shape
from sightrank.engine.reading import Reader, score_all
from sightrank.engine.runner import Runner
from sightrank.engine.threads import Threads
from sightrank.errors import OptionError
from sightrank.inputs.load import FileLimits
from sightrank.inputs.pairs import released_pairs
from sightrank.inputs.segments import Encoder
from sightrank.model.multimodal import RerankerModel
from sightrank.model.quantize import is_int8
from sightrank.types import Document, Query, RankedDocument, Ranking

if TYPE_CHECKING:
    from sightrank.analysis.explanation import Explanation

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


class Reranker:
    """A loaded model that scores and ranks. Build it with `from_pretrained`."""

    def __init__(
        self,
        checkpoint: weights.Checkpoint,
        device: torch.device,
        inputs: InputConfig | None = None,
        engine: EngineConfig | None = None,
        limits: FileLimits | None = None,
    ) -> None:
        self.name, self.fingerprint = checkpoint.name, checkpoint.fingerprint
        self.folder = checkpoint.folder
        self.config: ModelConfig = checkpoint.config
        self.device, self.dtype = device, checkpoint.model.dtype
        self.numbers = _numbers(checkpoint.model)
        self.encoder = Encoder.from_folder(checkpoint.folder, self.config, inputs, limits)
        self.runner, self.threads = Runner(checkpoint.model, device), Threads(device)
        self.engine = Engine(self.runner, engine or EngineConfig(), self._settings())

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        inputs: InputConfig | None = None,
        engine: EngineConfig | None = None,
        limits: FileLimits | None = None,
    ) -> Reranker:
        """Load nano (None), a folder, or a hub id such as "jinaai/jina-reranker-m0".

        `device`: "cpu", "cuda", "mps" (None: cuda or mps where present). `dtype`: "float32",
        "bfloat16", or on a CPU "int8": weights and activations of the linear maps in a byte a
        number (None: as the checkpoint names it). Raises CheckpointError, OptionError.
        """
        target = choose_device(device)
        if dtype is not None and dtype not in DTYPES:
            raise OptionError(f"dtype is {dtype!r}.", f"Allowed: {', '.join(DTYPES)}.")
        checkpoint = weights.load(model, target, DTYPES[dtype] if dtype else None)
        return cls(checkpoint, target, inputs, engine, limits)

    def rank(
        self,
        query: Query | Any,
        documents: Sequence[Document | Any] | None = None,
        top_k: int | None = None,
        *,
        index: Index | str | Path | None = None,
        threshold: float | None = None,
        calibration: Calibration | str | Path | None = None,
        diverse: float | None = None,
        diverse_by: str = "marginal",
        on_error: OnError = "raise",
        progress: Progress | None = None,
    ) -> Ranking:
        """Order `documents`, or all that `index` holds, by relevance to `query`, best first.

        Query and documents may be anything `Query.of` and `Document.of` take; ties keep the order
        given, in an index the order of indexing. With on_error="skip" documents that cannot be read
        are left out and listed in `Ranking.failures`. Of an index no file is read; one opened as
        `Index(path)` serves many rankings best. Raises OtherModelError for another model's index.

        `threshold` leaves only documents of that probability or more: the calibrated one if a
        `calibration` is given, else `score`. No hit means that nothing here is relevant;
        `Ranking.rejected` has the rest. `diverse` from 1 (nothing changes) to 0 puts the best 200
        in an order in which each next one differs from those before it, or with diverse_by="facility"
        one in which those shown stand for all.
        """
        wanted = Selection.of(top_k, threshold, calibration, diverse, self.facts(), diverse_by)
        if on_error not in ("raise", "skip"):
            raise OptionError(f"on_error is {on_error!r}.", "Allowed: 'raise', 'skip'.")
        if (documents is None) == (index is None):
            raise OptionError("rank takes documents or an index.", "Give one of the two.")
        asked, failures = Query.of(query), Failures(on_error)
        reader = Reader(self.encoder, [self.encoder.query(asked)], lambda _: [0], failures)
        if index is None:
            given = _listed(documents)
            windows = reader.windows(enumerate(given), self.engine.limits.waiting_bytes)
            scored = score_all(self.engine, reader, windows, len(given), progress)
        else:
            opened = Index.of(index)
            windows = reader.indexed(opened, self.engine.settings, self.facts())
            scored = score_all(self.engine, reader, windows, len(opened), progress, opened.store)
        for place, _ in failures.all:
            scored.pop(place, None)
        best = sorted(scored, key=lambda place: (-scored[place].logits[0], place))
        ranked = [
            RankedDocument(rank, place, self.probability(logit), logit, scored[place].document)
            for rank, place in enumerate(best, start=1)
            for logit in scored[place].logits
        ]
        hits, rejected = wanted.choose(ranked, partial(hit_vectors, self, index))
        tokens = sum(each.num_tokens for each in scored.values())
        return Ranking(asked, hits, tokens, tuple(failures.all), rejected)

    def index(
        self,
        documents: Sequence[Document | Any],
        path: str | Path,
        precision: Precision | None = None,
        *,
        on_error: OnError = "raise",
        progress: Progress | None = None,
    ) -> Report:
        """Run `documents` once and keep them in the folder `path`, for `rank(query, index=path)`.

        `precision`: "exact" gives the scores of `rank`; "int8" takes half the space of bfloat16
        for scores a little off; "features" a tenth, and the decoder runs again on ranking. None:
        what the index has, "exact" for a new one. What the index holds already is not run again.
        `progress` counts documents that are safe on disk. Raises DiskFullError, IndexFolderError.
        """
        index, failures = Index.create(path, precision), Failures(on_error)
        return add_documents(
            self.engine, self.encoder, index, self.facts(), documents, failures, progress
        )

    def open_index(self, path: str | Path) -> Index:
        """The index at `path`, empty if there was none. Raises IndexFolderError."""
        return Index.create(path)

    def prepare(
        self,
        query: Query,
        documents: Sequence[Document],
        *,
        max_doc_length: int | None = None,
        max_pixels: int | None = None,
    ) -> Prepared:
        """Read a request for `score_prepared`; any thread may. Raises InputError or a child."""
        return prepare(self.encoder, query, documents, max_doc_length, max_pixels)

    def prepare_indexed(
        self, query: Query, index: Index, names: Collection[str] | None = None
    ) -> Prepared:
        """The same for documents of an index: all, or those with one of `names`."""
        settings, facts = self.engine.settings, self.facts()
        return prepare_indexed(self.encoder, query, index, settings, facts, names)

    def score_prepared(self, requests: Sequence[tuple[Prepared, int, int]]) -> list[list[float]]:
        """Logits of documents `start` to before `stop` of each (request, start, stop), run together.

        They are those of `rank`; several threads may ask for some at once. NaN stands for a
        document whose entry in an index is lost.
        """
        return score_slices(self.engine, [Slice(*request) for request in requests])

    def estimate(self, documents: Sequence[Document | Any], precision: Precision) -> int | None:
        """Bytes that an index of `documents` will take, judged by a few; None if none is readable."""
        return estimate(self.encoder, Shape.of(self.config, self.dtype), documents, precision)

    def expect(self, documents: Sequence[Document | Any]) -> Expected | None:
        """Tokens and memory that ranking or indexing will take, judged by a few; None as above."""
        shape = Shape.of(self.config, self.dtype)
        return expect(sample(self.encoder, documents), len(documents), self.engine.limits, shape)

    def facts(self) -> dict[str, Any]:
        """Model and settings by name: what has to agree for an index to be of use."""
        weights = {"model": self.name, "weights": self.fingerprint, "dtype": self.numbers}
        return weights | self.encoder.facts()

    def score(
        self,
        pairs: Sequence[tuple[Query | Any, Document | Any]],
        *,
        probabilities: bool = True,
        progress: Progress | None = None,
    ) -> list[float]:
        """Scores of (query, document) pairs in the order given: probabilities, or logits."""
        for pair in pairs:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise OptionError(f"A pair is {pair!r:.80}.", "Give (query, document) pairs.")
        queries, query_of = _distinct([query for query, _ in pairs])
        documents, document_of = _distinct([document for _, document in pairs])
        places = list(zip(query_of, document_of, strict=True))
        logits = self.score_matrix(queries, documents, places, progress=progress)
        return [self.probability(x) if probabilities else x for x in logits.tolist()]

    def score_matrix(
        self,
        queries: Sequence[Query | Any],
        documents: Sequence[Document | Any],
        pairs: Sequence[tuple[int, int]],
        *,
        progress: Progress | None = None,
    ) -> NDArray[np.float64]:
        """Logits (pairs,) for (query index, document index) pairs; each document is run once."""
        asked = [self.encoder.query(Query.of(query)) for query in queries]
        order: dict[int, list[int]] = {}
        for index, (_, document) in enumerate(pairs):
            order.setdefault(document, []).append(index)
        reader = Reader(
            self.encoder,
            asked,
            lambda document: [pairs[index][0] for index in order[document]],
            Failures("raise"),
        )
        given = ((document, documents[document]) for document in sorted(order))
        windows = reader.windows(given, self.engine.limits.waiting_bytes)
        scored = score_all(self.engine, reader, windows, len(pairs), progress)
        logits = np.empty(len(pairs))
        for document, each in scored.items():
            logits[order[document]] = each.logits
        return logits

    def compute_score(
        self,
        pairs: Sequence[Any],
        batch_size: int = 8,
        max_length: int = 10_240,
        max_query_length: int = 512,
        max_doc_length: int | None = None,
        query_type: Literal["text", "image"] = "text",
        doc_type: Literal["text", "image"] = "text",
        normalize_scores: bool = True,
        show_progress: bool = False,
    ) -> float | list[float]:
        """The released model's own call: probabilities in input order, a bare float for one pair.

        `pairs` is one (query, document) pair or a list of them. Images are paths, base64, data URIs
        or PIL images. As in the released code `normalize_scores` changes nothing; `batch_size` is
        accepted, and the engine decides for itself what runs together.
        """
        made = released_pairs(pairs, query_type, doc_type)
        inputs = replace(
            self.encoder.config,
            max_length=max_length,
            max_query_length=max_query_length,
            max_doc_length=max_doc_length,
        )
        if inputs.document_tokens < max_query_length:
            warnings.warn(
                f"max_doc_length {inputs.document_tokens} is below max_query_length"
                f" {max_query_length}: documents are cut shorter than queries.",
                stacklevel=2,
            )
        limited = self.with_inputs(inputs)
        scores = limited.score(made, progress=_print_progress if show_progress else None)
        return scores[0] if len(scores) == 1 else scores

    def explain(
        self,
        query: Query | Any,
        document: Document | Any,
        method: str = "attention",
        *,
        index: Index | str | Path | None = None,
    ) -> Explanation:
        """Which words or patches of `document` made its score, and which query words saw them.

        `method`: "attention", "gradient" (both run only the query again where the document was met
        before, or is in `index`) or "occlusion" (runs the document up to 64 times a part). Raises
        OptionError, InputError.
        """
        from sightrank.analysis.explain import explain

        opened = None if index is None else Index.of(index)
        return explain(self, Query.of(query), Document.of(document), method, opened)

    def score_one(self, query: Query | Any, document: Document | Any) -> float:
        """The logit of one pair by the plain path: whole prompt, no cache, no packing. Slow."""
        return self.runner.score_one(self.encoder.pair(Query.of(query), Document.of(document)))

    def probability(self, logit: float) -> float:
        """sigmoid(logit - bias), the score that the released model reports."""
        odds = logit - self.config.logit_bias
        return 1 / (1 + math.exp(-odds)) if odds > 0 else 1 - 1 / (1 + math.exp(odds))

    def with_inputs(self, inputs: InputConfig) -> Reranker:
        """The same model and cache under other limits."""
        other = copy(self)
        other.encoder = self.encoder.under(inputs)
        other.engine = copy(self.engine)
        other.engine.settings = other._settings()
        return other

    def forget(self) -> None:
        """Drop what memory holds of documents: the next request is as slow as a first one."""
        self.engine.cache.clear()

    def _settings(self) -> str:
        return f"{self.fingerprint}/torch.{self.numbers}/{self.encoder.settings()}"


def _numbers(model: RerankerModel) -> str:
    """What the model computes in: one of DTYPES. In int8 activations take float32 in between."""
    return "int8" if is_int8(model) else str(model.dtype).removeprefix("torch.")


def choose_device(name: str | None) -> torch.device:
    """The device asked for, or the best one present. Raises OptionError."""
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name is None:
        return torch.device(next(kind for kind, there in present.items() if there))
    kind, _, number = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not present.get(kind, False) or (number and number not in map(str, range(count))):
        there = ", ".join(kind for kind, is_there in present.items() if is_there)
        raise OptionError(f"device is {name!r}.", f"Present on this machine: {there}.")
    return torch.device(name)


def _listed(documents: Any) -> list[Any]:
    """`documents`, unless they are one document where a list is meant. Raises OptionError."""
    single = isinstance(documents, (str, bytes, bytearray, memoryview, Path, Document))
    if single or not isinstance(documents, Iterable):
        raise OptionError(
            f"documents is of type {type(documents).__name__}, expected is a list.",
            "Write [document] for a single one.",
        )
    return list(documents)


def _distinct(values: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """Each value once, and where in that list each of `values` stands: strings by content."""
    place: dict[object, int] = {}
    distinct: list[Any] = []
    for value in values:
        key = value if isinstance(value, str) else id(value)
        if key not in place:
            place[key] = len(distinct)
            distinct.append(value)
    return distinct, [place[value if isinstance(value, str) else id(value)] for value in values]


def _print_progress(done: int, total: int) -> None:
    print(f"\r{done}/{total} pairs", end="" if done < total else "\n", file=sys.stderr)
