"""One query and one document, ready to be explained: all that every method is given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sightrank.engine.engine import Engine
from sightrank.engine.plans import CachedPrefix
from sightrank.errors import CheckpointError
from sightrank.inputs.load import Piece, iter_pieces
from sightrank.inputs.prompt import JOINT, Places
from sightrank.inputs.segments import Content, Encoder, Segment
from sightrank.types import Document, Image, Query, Text

if TYPE_CHECKING:
    from sightrank.engine.index import Index
    from sightrank.reranker import Reranker

CONTENT_FREE = "N/A"
"""What In-Context Reranking (arXiv 2410.02642) asks to see where attention goes for no reason."""
CHOICE_FILE = "explain.json"


Chosen = tuple[tuple[int, int], ...] | None
"""(layer, head) pairs, both counted from 0; None: all of them."""


@dataclass(frozen=True)
class Heads:
    """Which attention heads tell where a model looks: in text, and on a picture."""

    text: Chosen = None
    image: Chosen = None

    def to_dict(self) -> dict[str, list[list[int]] | None]:
        """For JSON."""
        return {
            kind: None if chosen is None else [list(head) for head in chosen]
            for kind, chosen in self
        }

    def __iter__(self) -> Iterator[tuple[str, Chosen]]:
        """(kind of content, its heads) pairs."""
        return iter((("text", self.text), ("image", self.image)))


@dataclass(frozen=True)
class Located:
    """A text or a page of the document with its place among the tokens."""

    piece: Piece
    content: int
    """Its part of the content that the model saw."""
    start: int
    """Where in that part its text begins; 0 for an image."""
    end: int
    """Where it ends; for an image the number of its visual tokens."""


@dataclass(frozen=True)
class Case:
    """A pair as the engine scores it."""

    engine: Engine
    encoder: Encoder
    heads: Heads
    content: Content
    """Texts and patches, cut to the model's limits."""
    truncated: bool
    located: tuple[Located, ...]
    segment: Segment
    """The document's tokens, all before the query."""
    places: Places
    """What each of them stands for."""
    prefix: CachedPrefix
    """Their keys and values: read, not run, where the document was met before."""
    query: Segment
    query_content: Content
    query_places: Places

    @property
    def is_image(self) -> NDArray[np.bool_]:
        """(document tokens,): which are a picture's."""
        images = [part for part, each in enumerate(self.content) if not isinstance(each, str)]
        return np.isin(self.places.part, images)

    @classmethod
    def of(
        cls, ranker: Reranker, query: Query, document: Document, index: Index | None = None
    ) -> Case:
        """Read both. Keys and values come from memory, `index` or the model, in this order."""
        encoder = ranker.encoder
        pieces = list(iter_pieces(document, encoder.limits, max_pixels=encoder.config.max_pixels))
        read = Document(tuple(map(_as_part, pieces)), document.name)
        content, truncated = encoder.content(read)
        segment = encoder.prefix(content, truncated)
        query_content, query_places = encoder.query_places(query)
        return cls(
            ranker.engine,
            encoder,
            read_heads(ranker.folder, ranker.fingerprint),
            content,
            truncated,
            tuple(locate(pieces, content)),
            segment,
            encoder.document_places(content),
            ranker.engine.prefix(segment, index.store if index else None),
            encoder.query(query),
            query_content,
            query_places,
        )


@dataclass(frozen=True)
class Attribution:
    """What a method says of each of a document's tokens; larger is more in favour of the score."""

    values: NDArray[np.float64]
    """(document tokens,) in the method's own unit."""
    by_query: NDArray[np.float64] | None = None
    """(query tokens and the score token, document tokens), where the method tells them apart."""


def read_heads(folder: Path, fingerprint: str) -> Heads:
    """What `explain.json` in a checkpoint's folder names, if it was chosen for these very weights.

    Without it all heads count alike. Raises CheckpointError for a file of another form.
    """
    path = folder / CHOICE_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["fingerprint"] != fingerprint:
            return Heads()
        return Heads(*(_chosen(found["heads"][kind]) for kind, _ in Heads()))
    except FileNotFoundError:
        return Heads()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not name layers and heads: {error}.",
            "Remove it, or make it with benchmarks/explain.py.",
        ) from error


def _chosen(pairs: list[list[int]] | None) -> Chosen:
    return None if pairs is None else tuple((int(layer), int(head)) for layer, head in pairs)


def locate(pieces: list[Piece], content: Content) -> list[Located]:
    """Where each piece of a document stands in what was left of it after cutting.

    Neighbouring texts are one part of the content; images are never cut, so they tell which texts
    were dropped.
    """
    found: list[Located] = []
    part, used, in_text = -1, 0, False
    for piece in pieces:
        if isinstance(piece.content, str):
            if not in_text and not (part + 1 < len(content) and _is_text(content[part + 1])):
                continue  # all of it was cut off
            if not in_text:
                part, used, in_text = part + 1, 0, True
            left = len(str(content[part]))
            if used < left:
                end = min(used + len(piece.content), left)
                found.append(Located(piece, part, used, end))
            used += len(piece.content) + len(JOINT)
        else:
            part, in_text = part + 1, False
            patches = content[part]
            found.append(
                Located(piece, part, 0, 0 if isinstance(patches, str) else patches.num_tokens)
            )
    return found


def _is_text(part: object) -> bool:
    return isinstance(part, str)


def _as_part(piece: Piece) -> Text | Image:
    content: str | PIL.Image.Image = piece.content
    return Text(content) if isinstance(content, str) else Image(content)
