"""Our models as cross-encoders of mteb: `mteb.evaluate(MtebReranker(ranker), task)`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import InputError, OptionError
from sightrank.evaluate.run import Progress, Scorer, is_blank
from sightrank.extras import require
from sightrank.types import Document, Image, Part, Query, Text

if TYPE_CHECKING:
    from mteb.models import ModelMeta

Shown = Literal["image", "text", "both"]
WINDOW_BYTES = 1 << 30
"""Decoded images that are held before they are scored."""
UNSCORED = -1e30
"""For a document without content: below every score, and finite, as metrics want it."""


def require_mteb() -> Any:
    """The package mteb. Raises MissingExtraError."""
    require("suites", "Suites", "mteb")
    import mteb

    return mteb


class MtebReranker:
    """What mteb calls a cross-encoder, around anything that scores pairs.

    A document that recurs, as each does under many queries, is encoded once for each window of
    `window_bytes` of decoded images; texts count by their length. Beyond a window it is found in
    the model's own memory of documents while that holds it.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        show: Shown = "image",
        window_bytes: int = WINDOW_BYTES,
        progress: Progress | None = None,
    ) -> None:
        """`show`: what is ranked of a document that has an image and a text beside it.

        "image" is what the released model was made for: one kind at a time. `progress` counts
        pairs; how many there are is not known before the end, so both of its numbers grow.
        """
        if show not in ("image", "text", "both"):
            raise OptionError(f"show is {show!r}.", "Allowed: 'image', 'text', 'both'.")
        self.scorer, self.show = scorer, show
        self.window_bytes, self.progress = window_bytes, progress

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """Name, revision and kind, for mteb's results."""
        require_mteb()
        from mteb.models import ModelMeta

        name = self.scorer.name
        fingerprint = getattr(self.scorer, "fingerprint", "")
        return ModelMeta.create_empty(
            overwrites={
                # mteb wants owner/name; a folder has no owner.
                "name": name if name.count("/") == 1 else f"sightrank/{Path(name).name}",
                "revision": fingerprint[:40] or "no_revision_available",
                "modalities": ["text", "image"],
                "model_type": ["cross-encoder"],
                "framework": ["PyTorch"],
            }
        )

    def predict(
        self,
        inputs1: Iterable[Mapping[str, Any]],
        inputs2: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> NDArray[np.float64]:
        """A logit a pair, (pairs,), in the order of the pairs.

        `inputs1`: batches of queries, `inputs2`: batches of documents, each with "text", "image"
        or both, as mteb's loaders give them. Raises InputError for a pair without content.
        """
        scores: list[NDArray[np.float64]] = []
        window = _Window(self)
        done = 0
        for query, document in zip(_rows(inputs1, "text"), _rows(inputs2, self.show), strict=True):
            if window.num_bytes > self.window_bytes:
                scores.append(window.score(done))
                done += len(scores[-1])
                window = _Window(self)
            window.add(query, document)
        scores.append(window.score(done))
        return np.concatenate(scores)


class _Window:
    """Pairs that are scored together: each query and document once, whatever pairs name it."""

    def __init__(self, model: MtebReranker) -> None:
        self.model = model
        self.num_bytes = 0
        self._queries: dict[bytes, tuple[int, Query]] = {}
        self._documents: dict[bytes, tuple[int, Document]] = {}
        self._pairs: list[tuple[int, int]] = []

    def add(self, query: tuple[Part, ...], document: tuple[Part, ...]) -> None:
        if not query:
            raise InputError("A query has neither text nor image.", "See the task's data.")
        asked = self._queries.setdefault(_digest(query), (len(self._queries), Query(query)))
        parts = document or (Text(""),)
        key = _digest(parts)
        if key not in self._documents:
            self._documents[key] = (len(self._documents), Document(parts))
            self.num_bytes += sum(map(_size, parts))
        self._pairs.append((asked[0], self._documents[key][0]))

    def score(self, done: int) -> NDArray[np.float64]:
        documents = [document for _, document in self._documents.values()]
        scored = [at for at, (_, d) in enumerate(self._pairs) if not is_blank(documents[d])]
        values = np.full(len(self._pairs), UNSCORED)
        progress = self.model.progress
        values[scored] = self.model.scorer.score_matrix(
            [query for _, query in self._queries.values()],
            documents,
            [self._pairs[at] for at in scored],
            progress=(lambda part, of: progress(done + part, done + of)) if progress else None,
        )
        return values


def _rows(batches: Iterable[Mapping[str, Any]], show: Shown) -> Iterator[tuple[Part, ...]]:
    """The parts of each row of mteb's batches; of a query, and with "both", all there are."""
    for batch in batches:
        count = len(next(iter(batch.values())))
        for at in range(count):
            texts: tuple[Part, ...] = tuple(
                Text(text) for text in (batch["text"][at],) if isinstance(text, str) and text.strip()
            ) if "text" in batch else ()  # fmt: skip
            image = batch["image"][at] if "image" in batch else None
            images: tuple[Part, ...] = () if image is None else (Image(image),)
            if show == "both":
                yield images + texts
            elif show == "text":
                yield texts or images
            else:
                yield images or texts


def _digest(parts: tuple[Part, ...]) -> bytes:
    """Equal for equal content: mteb decodes an image anew for every pair it is in."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, Text):
            digest.update(b"text" + part.text.encode("utf-8", "surrogatepass") + b"\0")
        elif isinstance(part, Image):
            picture: Any = part.source
            digest.update(f"image {picture.mode} {picture.size}".encode() + picture.tobytes())
    return digest.digest()


def _size(part: Part) -> int:
    if isinstance(part, Text):
        return 4 * len(part.text)
    width, height = part.source.size  # type: ignore[union-attr]
    return 3 * int(width) * int(height)
