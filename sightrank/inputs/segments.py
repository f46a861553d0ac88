"""Segments: halves of a prompt, and whole prompts, ready for the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sightrank.config import InputConfig, ModelConfig
from sightrank.errors import CheckpointError, TooLongError
from sightrank.inputs.files import naming
from sightrank.inputs.images import ImagePatches, patchify
from sightrank.inputs.load import FileLimits, describe, iter_load
from sightrank.inputs.positions import positions
from sightrank.inputs.prompt import (
    DOCUMENT,
    JOINT,
    QUERY,
    Places,
    SpecialIds,
    prefix_ids,
    prefix_places,
    prompt_ids,
    query_ids,
    query_places,
)
from sightrank.inputs.tokenizer import Tokenizer
from sightrank.types import Document, Query

__all__ = ["QUERY_ROOM", "Encoder", "Segment", "SpecialIds"]

QUERY_ROOM = 16
"""Tokens that no document may take from the query."""
_FORMAT = 1  # raise it when the same input starts to give other segments


@dataclass(frozen=True, eq=False)
class Segment:
    """A run of prompt tokens with what the model needs beside them."""

    ids: NDArray[np.int32]
    """Token ids, (n,)."""
    positions: NDArray[np.int32]
    """Rotary positions (time, height, width), (3, n)."""
    images: tuple[ImagePatches, ...]
    """In the order in which their tokens stand in `ids`."""
    next_position: int
    """Position of a token that would follow."""
    truncated: bool = False
    """Something of the user's text was cut off."""
    rewind: int = 0
    """In a suffix: how many tokens at the prefix's end it replaces."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_bytes(self) -> int:
        """Memory that it takes, mostly the images' pixels."""
        pixels = sum(image.pixels.nbytes for image in self.images)
        return self.ids.nbytes + self.positions.nbytes + pixels

    def recover(self) -> Segment:
        """Itself: it is whole. Documents out of an index have to be read again."""
        return self

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the ids and the images' pixels; these fix the positions too."""
        hasher = hashlib.sha256(np.ascontiguousarray(self.ids, dtype="<i4").tobytes())
        for image in self.images:
            hasher.update(image.digest.encode())
        return hasher.hexdigest()


class Prefix(Protocol):
    """What a suffix has to know of the document before it."""

    @property
    def next_position(self) -> int:
        """Position of the token that follows."""

    def __len__(self) -> int: ...


Content = list[str | ImagePatches]


class Encoder:
    """Turns queries and documents into segments. Immutable, so threads may share it."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        special: SpecialIds,
        config: InputConfig | None = None,
        limits: FileLimits | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.special = special
        self.config = config or InputConfig()
        self.limits = limits or FileLimits()
        self._fixed = len(tokenizer.encode(DOCUMENT)) + len(tokenizer.encode(QUERY))

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        model: ModelConfig,
        config: InputConfig | None = None,
        limits: FileLimits | None = None,
    ) -> Encoder:
        """With the `tokenizer.json` of a model folder. Raises CheckpointError."""
        tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
        if len(tokenizer) > model.vocab_size:
            raise CheckpointError(
                f"{folder}: tokenizer.json has {len(tokenizer)} tokens, the model embeds"
                f" {model.vocab_size}.",
                "Fetch the checkpoint again.",
            )
        return cls(tokenizer, SpecialIds.of(model), config, limits)

    def under(self, config: InputConfig) -> Encoder:
        """The same tokenizer under other limits."""
        return Encoder(self.tokenizer, self.special, config, self.limits)

    def document(self, document: Document) -> Segment:
        """The prefix that all queries to this document share; ends with the fixed text.

        Long text is cut as the released model cuts it, and never by what the query is.
        Raises InputError or a child.
        """
        return self.prefix(*self.content(document))

    def prefix(self, content: Content, truncated: bool = False) -> Segment:
        """The segment of a document whose content has been read and cut."""
        ids = prefix_ids(_parts(content), self.tokenizer, self.special)
        return self._segment(ids, content, truncated=truncated)

    def document_places(self, content: Content) -> Places:
        """What each token of `prefix(content)` stands for; parts are numbered as in `content`."""
        return prefix_places(_parts(content), self.tokenizer, self.special)[1]

    def query_places(self, query: Query) -> tuple[Content, Places]:
        """A query's content, and what each token of `query(query)` but the last stands for."""
        content = self._query(query)
        return content, query_places(_parts(content), self.tokenizer, self.special)

    def query(self, query: Query) -> Segment:
        """The suffix with the score token at its end; positions count from 0.

        It is whole, save that text beyond max_length, which no document leaves room for, is cut
        here: a text of megabytes would otherwise be embedded before all but its start is dropped.
        """
        content = self._query(query)
        ids, rewind = query_ids(_parts(content), self.tokenizer, self.special)
        if all(isinstance(part, str) for part in content):
            ids = ids[: self.config.max_length]
        return self._segment([*ids, self.special.score], content, rewind=rewind)

    def suffix(self, prefix: Prefix, query: Segment) -> Segment:
        """`query` moved behind `prefix` and cut on the right to what max_length leaves for it.

        The last prefix tokens, `rewind` of them, give way to it. Only text is cut: raises
        TooLongError if that is not enough.
        """
        kept = self._room(len(prefix) - query.rewind, query)
        start = prefix.next_position - query.rewind
        if kept == len(query):
            moved = query.positions + np.int32(start)
            return replace(query, positions=moved, next_position=query.next_position + start)
        moved = query.positions[:, :kept] + np.int32(start)
        ids = np.append(query.ids[: kept - 1], np.int32(self.special.score))
        return Segment(
            ids, moved, query.images, int(moved[0, -1]) + 1, truncated=True, rewind=query.rewind
        )

    def pair(self, query: Query, document: Document) -> Segment:
        """The whole prompt, tokenised at once: what prefix and suffix must add up to."""
        content, truncated = self.content(document)
        asked = self._query(query)
        ids = prompt_ids(_parts(content), _parts(asked), self.tokenizer, self.special)
        whole = self._segment([*ids, self.special.score], [*content, *asked], truncated=truncated)
        kept = self._room(0, whole)
        if kept == len(whole):
            return whole
        return Segment(
            np.append(whole.ids[: kept - 1], np.int32(self.special.score)),
            whole.positions[:, :kept],
            whole.images,
            int(whole.positions[0, kept - 1]) + 1,
            truncated=True,
        )

    def settings(self) -> str:
        """Digest (hex) of all that decides what segments look like; goes into prefix keys."""
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """All that decides what segments look like, by name, ready for JSON."""
        return {
            "format": _FORMAT,
            "template": [DOCUMENT, QUERY, JOINT, QUERY_ROOM],
            "tokenizer": self.tokenizer.digest,
            **{f"{name}_id": token for name, token in asdict(self.special).items()},
            **asdict(self.config),
        }

    def _room(self, used: int, tail: Segment) -> int:
        """How many tokens of `tail`, the score token included, may follow `used` others."""
        kept = min(len(tail), self.config.max_length - used)
        cut = tail.ids[max(kept - 1, 0) : -1]
        fixed = (self.special.image, self.special.vision_start, self.special.vision_end)
        if kept < 2 or np.isin(cut, fixed).any():
            raise TooLongError(
                f"The prompt has {used + len(tail)} tokens, max_length is {self.config.max_length},"
                " and what would have to be cut is not text.",
                "Lower max_pixels, give fewer images, or raise max_length (up to 32768).",
            )
        return kept

    def content(self, document: Document) -> tuple[Content, bool]:
        """Texts and patches of a document, cut to the limits, and whether anything was cut off."""
        room = self.config.max_length - 1 - self._fixed - QUERY_ROOM
        with naming(describe(document)):
            content = self._read(document, room)
            return self._cut(content, min(self.config.document_tokens, room))

    def _query(self, query: Query) -> Content:
        with naming(describe(query)):
            return self._read(query, self.config.max_length - 1 - self._fixed)

    def _read(self, item: Query | Document, room: int) -> Content:
        """Texts and patches in order, neighbouring texts joined; images must fit into `room`."""
        content: Content = []
        for part in iter_load(item, self.limits, max_pixels=self.config.max_pixels):
            if not isinstance(part, str):
                content.append(patchify(part, self.config.min_pixels, self.config.max_pixels))
                self._check_images(content, room)
            elif content and isinstance(content[-1], str):
                content[-1] += JOINT + part
            else:
                content.append(part)
        return content

    def _check_images(self, content: Content, room: int) -> None:
        tokens = _image_tokens(content)
        if tokens > room:
            count = sum(isinstance(part, ImagePatches) for part in content)
            raise TooLongError(
                f"The first {count} images or pages take {tokens} tokens, max_length"
                f" {self.config.max_length} leaves {max(room, 0)} for them.",
                "Give fewer pages, lower max_pixels, or raise max_length (up to 32768).",
            )

    def _cut(self, content: Content, limit: int) -> tuple[Content, bool]:
        """Shorten texts, the last one first, until the document has at most `limit` tokens.

        As in the released model a text that reaches the limit is replaced by the text of the ids
        that are kept, and a single image is never held against it.
        """
        ids = [self.tokenizer.encode(part) if isinstance(part, str) else [] for part in content]
        total = _image_tokens(content) + sum(map(len, ids))
        if total < limit or not any(ids):
            return content, False
        excess = total - limit
        result: Content = []
        for part, tokens in zip(reversed(content), reversed(ids), strict=True):
            kept = max(0, len(tokens) - max(excess, 0))
            excess -= len(tokens) - kept
            if not isinstance(part, str):
                result.append(part)
            elif kept:
                result.append(self.tokenizer.decode(tokens[:kept]))
        if not result:
            raise TooLongError(
                f"max_length {self.config.max_length} leaves no room for a document.", "Raise it."
            )
        return result[::-1], total > limit

    def _segment(
        self, ids: Sequence[int], content: Content, *, truncated: bool = False, rewind: int = 0
    ) -> Segment:
        images = tuple(part for part in content if isinstance(part, ImagePatches))
        array = np.asarray(ids, dtype=np.int32)
        layout: list[int | tuple[int, int]] = []
        at = 0
        starts = np.flatnonzero(array == self.special.vision_start) + 1
        for start, image in zip(starts.tolist(), images, strict=True):
            layout += [start - at, image.merged_grid]
            at = start + image.num_tokens
        rows, next_position = positions([*layout, len(ids) - at])
        return Segment(array, rows, images, next_position, truncated, rewind)


def _parts(content: Content) -> list[str | int]:
    return [part if isinstance(part, str) else part.num_tokens for part in content]


def _image_tokens(content: Content) -> int:
    """Tokens of the images, their start and end marks and the newlines that join the parts."""
    images = sum(part.num_tokens + 2 for part in content if isinstance(part, ImagePatches))
    return images + len(content) - 1 if images else 0
