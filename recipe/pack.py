"""The data pack: tokenised documents and queries, and the teacher's word vectors, in one .npz.

Everything a training run reads travels in this file and the tokenizer; no text parsing happens there.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from recipe.questions import BEGINNINGS
from recipe.ragged import Ragged, as_arrays, read_fields
from sightrank.weights import NANO, read_tensors

if TYPE_CHECKING:
    from recipe.teacher import Teacher

HEAD, TAIL = "**Document**:\n", "\n**Query**:\n"
MAX_DOCUMENT_TOKENS = 320
MAX_QUERY_TOKENS = 48


@dataclass(frozen=True)
class TextPack:
    """Documents and queries that share groups: same group, same meaning, any language."""

    documents: Ragged
    document_group: NDArray[np.int32]
    document_lang: NDArray[np.int16]
    document_source: NDArray[np.int16]
    document_valid: NDArray[np.bool_]
    queries: Ragged
    query_group: NDArray[np.int32]
    query_lang: NDArray[np.int16]
    questions: Ragged
    """Beginnings of questions."""
    question_lang: NDArray[np.int16]
    question_mark: NDArray[np.int64]
    places: Ragged
    """Names of places as they stand inside a text: same group, same place."""
    place_group: NDArray[np.int32]
    place_lang: NDArray[np.int16]
    place_valid: NDArray[np.bool_]
    langs: tuple[str, ...]
    sources: tuple[str, ...]
    head: NDArray[np.int64]
    """Ids of the prompt before the document."""
    tail: NDArray[np.int64]
    """Ids of the prompt between document and query."""
    widths: NDArray[np.uint8]
    """Characters of each token's surface, wide scripts counted twice; 255 is a line break."""
    vectors: NDArray[np.float32]
    """(vocabulary, 384) input embeddings, each of root mean square 1."""

    @cached_property
    def is_name(self) -> NDArray[np.bool_]:
        """Of each document: names and keywords of a thing rather than a passage."""
        named: NDArray[np.bool_] = self.document_source == self.sources.index("cldr")
        return named

    @classmethod
    def load(cls, path: Path) -> TextPack:
        """Read what `save` wrote."""
        fields = read_fields(path)
        fields["vectors"] = fields["vectors"].astype(np.float32) * fields.pop("scales")[:, None]
        return cls(**fields)

    def save(self, path: Path) -> None:
        """Write one compressed .npz; vectors in int8 with one scale a row, as checkpoints ship."""
        fields = as_arrays(self)
        fields["vectors"], fields["scales"] = in_bytes(self.vectors)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **fields)


def in_bytes(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rows in int8, and the scale of each that brings it back."""
    scales = np.abs(rows).max(axis=1) / 127
    return np.round(rows / scales[:, None]).astype(np.int8), scales


def by_group(groups: NDArray[np.int32]) -> dict[int, NDArray[np.int64]]:
    """Group -> rows of it."""
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    return {int(groups[rows[0]]): rows for rows in np.split(order, cuts) if len(rows)}


def build(folder: Path, tokenizer: Tokenizer, vectors: NDArray[np.float32]) -> TextPack:
    """Tokenise documents.jsonl, queries.jsonl and the plainer half of names.jsonl of `folder`."""
    every = list(_read(folder / "names.jsonl"))
    names = [row for row in every if _is_plain(row["group"])]
    documents = [*_read(folder / "documents.jsonl"), *(row for row in names if "source" in row)]
    queries = [*_read(folder / "queries.jsonl"), *(row for row in names if "kind" in row)]
    groups: dict[str, int] = {}
    for row in (*documents, *queries):
        groups.setdefault(row["group"], len(groups))
    langs = sorted({row["lang"] for row in (*documents, *queries)})
    places = [row for row in every if _PLACES.match(row["group"]) and row["lang"] in langs]
    of_place = {group: i for i, group in enumerate(dict.fromkeys(row["group"] for row in places))}
    sources = sorted({row["source"] for row in documents})
    asked = [(lang, text) for lang in langs for text in BEGINNINGS.get(lang, ())]
    return TextPack(
        documents=Ragged.of(
            _encode(tokenizer, [r["text"] for r in documents], MAX_DOCUMENT_TOKENS)
        ),
        document_group=np.array([groups[row["group"]] for row in documents], np.int32),
        document_lang=np.array([langs.index(row["lang"]) for row in documents], np.int16),
        document_source=np.array([sources.index(row["source"]) for row in documents], np.int16),
        document_valid=np.array([row["split"] == "valid" for row in documents]),
        queries=Ragged.of(_encode(tokenizer, [r["text"] for r in queries], MAX_QUERY_TOKENS)),
        query_group=np.array([groups[row["group"]] for row in queries], np.int32),
        query_lang=np.array([langs.index(row["lang"]) for row in queries], np.int16),
        questions=Ragged.of(_encode(tokenizer, [text for _, text in asked], MAX_QUERY_TOKENS)),
        question_lang=np.array([langs.index(lang) for lang, _ in asked], np.int16),
        question_mark=np.array(tokenizer.encode("?").ids),
        places=Ragged.of(_encode(tokenizer, [row["text"] for row in places], 24, before=" ")),
        place_group=np.array([of_place[row["group"]] for row in places], np.int32),
        place_lang=np.array([langs.index(row["lang"]) for row in places], np.int16),
        place_valid=np.array([row["split"] == "valid" for row in places], bool),
        langs=tuple(langs),
        sources=tuple(sources),
        head=np.array(tokenizer.encode(HEAD).ids),
        tail=np.array(tokenizer.encode(TAIL).ids),
        widths=token_widths(tokenizer),
        vectors=vectors,
    )


_PLACES = re.compile("cldr/(subdivision|city|territory)/")
_MODIFIERS = re.compile("[\U0001f3fb-\U0001f3ff\u200d]")


def _is_plain(group: str) -> bool:
    """Not one of the many combinations of a character with skin tones or other characters, nor a
    district, of which there are more than of everything else."""
    return not _MODIFIERS.search(group) and not group.startswith("cldr/subdivision/")


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _encode(
    tokenizer: Tokenizer, texts: Sequence[str], limit: int, before: str = ""
) -> list[list[int]]:
    rows: list[list[int]] = []
    for start in range(0, len(texts), 4096):
        chosen = texts[start : start + 4096]
        batch = tokenizer.encode_batch([before + text.strip() for text in chosen])
        rows.extend(encoding.ids[:limit] for encoding in batch)
    return rows


LINE_BREAK = 255


def token_widths(tokenizer: Tokenizer) -> NDArray[np.uint8]:
    """How far each token advances a line of print, in half-width characters."""
    size = tokenizer.get_vocab_size()
    widths = np.ones(size, np.uint8)
    for token in range(size):
        surface = tokenizer.decode([token], skip_special_tokens=False)
        if "\n" in surface:
            widths[token] = LINE_BREAK
        else:
            wide = sum(2 if ord(char) >= 0x2E80 else 1 for char in surface)
            widths[token] = min(wide, 254)
    return widths


MEANING_SHARE = 0.6
"""Part of a row's square length that says what the token means; the rest says which it is."""


def word_rows(
    tokenizer: Tokenizer, basis: NDArray[np.bool_] | None = None, seed: int = 0
) -> NDArray[np.float32]:
    """Input embeddings for every token, made of two things the teacher knows about its surface.

    What it means: the teacher's output for the surface alone, which is close for translations and
    for inflected forms. Which it is: the teacher's word vectors, turned by a random rotation so
    that the two do not mix. Tokens without a surface of their own get random rows. Each row has
    root mean square 1. `basis` (vocabulary,) marks the tokens whose mean and principal components
    are taken away; all by default.
    """
    from recipe.teacher import Teacher

    surfaces, known = known_surfaces(tokenizer)
    generator = np.random.default_rng(seed)
    common = known if basis is None else known & basis
    rows = surface_rows(Teacher.load(), surfaces, common, generator)
    rows[~known] = generator.normal(size=(int((~known).sum()), rows.shape[1]))
    # Tokens made of the same pieces would be told apart by nothing: a little noise does it.
    noisy = unit_rows(rows) + 0.1 * generator.normal(size=rows.shape)
    return unit_rows(noisy).astype(np.float32)


def known_surfaces(tokenizer: Tokenizer) -> tuple[list[str], NDArray[np.bool_]]:
    """The surface of each token, and which of them are text."""
    size = tokenizer.get_vocab_size()
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    surfaces = [tokenizer.decode([i], skip_special_tokens=False) for i in range(size)]
    known = [bool(s.strip()) and s not in special and "\ufffd" not in s for s in surfaces]
    return surfaces, np.array(known)


def surface_rows(
    teacher: Teacher,
    surfaces: Sequence[str],
    common: NDArray[np.bool_],
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """What `word_rows` makes of surfaces, (surfaces, 384), less its noise. `common` marks those whose
    mean and principal components are taken away; of the generator it takes the rotation, first."""
    from recipe.teacher import surface_vectors

    meaning = teacher.encode([surface.strip() for surface in surfaces], "query: ").numpy()
    identity = surface_vectors(teacher, surfaces).numpy()
    width = identity.shape[1]
    turn = np.linalg.qr(generator.normal(size=(width, width)))[0]
    meant = MEANING_SHARE**0.5 * spread(meaning, common)
    named: NDArray[np.float64] = (1 - MEANING_SHARE) ** 0.5 * spread(identity, common) @ turn
    rows: NDArray[np.float64] = meant + named
    return rows


def shipped_rows(folder: Path = NANO) -> NDArray[np.float32]:
    """Input embeddings (vocabulary, 384) of the model in `folder`, which training leaves as they are."""
    rows: NDArray[np.float32] = dict(read_tensors(folder))["model.embed_tokens.weight"].numpy()
    return rows


def rows_for(path: Path) -> NDArray[np.float32]:
    """Nano's own rows for nano's own tokenizer, so that its weights fit; else the teacher's."""
    if path.read_bytes() == (NANO / "tokenizer.json").read_bytes():
        return shipped_rows()
    return word_rows(Tokenizer.from_file(str(path)))  # minutes of the teacher's work


def spread(rows: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Rows less the mean and the first two principal components of those that are known, which all
    rows share (Mu and Viswanath 2018, "all but the top"), each of root mean square 1."""
    centred = rows.astype(np.float64) - rows[known].mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred[known].T @ centred[known])
    top = axes[:, -2:]
    return unit_rows(centred - centred @ top @ top.T)


def unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows scaled to a root mean square of 1, in their own precision."""
    unit: NDArray[Any] = rows / (np.sqrt((rows**2).mean(axis=1, keepdims=True)) + 1e-9)
    return unit


def main() -> None:
    """Build the text pack."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, default=Path(".data"))
    arguments = parser.parse_args()
    path = arguments.data / "tokenizer" / "tokenizer.json"
    vectors = path.with_name("vectors.npy")
    if not vectors.exists():
        np.save(vectors, rows_for(path))
    rows = np.load(vectors).astype(np.float32)
    pack = build(arguments.data / "text", Tokenizer.from_file(str(path)), rows)
    path = arguments.data / "pack" / "text.npz"
    pack.save(path)
    print(
        json.dumps(
            {
                "documents": len(pack.documents),
                "queries": len(pack.queries),
                "tokens": len(pack.documents.flat) + len(pack.queries.flat),
                "bytes": path.stat().st_size,
                "langs": pack.langs,
            }
        )
    )


if __name__ == "__main__":
    main()
