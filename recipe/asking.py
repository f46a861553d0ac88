"""What is asked of a passage: its title, words out of it or of its translation, a place named in it."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np

from recipe.layout import Ints
from recipe.lexicon import Lexicon
from recipe.pack import TextPack, by_group
from recipe.places import Places
from recipe.renaming import Renaming

EMPTY = np.empty(0, np.int64)


@dataclass(frozen=True)
class AskingConfig:
    """How queries are made of passages."""

    query_tokens: int = 32
    cross_lingual: float = 0.4
    """How often a query is taken from another language's version of the document; of a name, twice
    that."""
    span_share: float = 0.6
    """How often the query is a span of the passage rather than its title or summary."""
    cloze: float = 0.3
    """How often a span in the passage's own language is taken out of it, so that no words of the query
    stand there as they do in it."""
    swapped: float = 0.0
    """How often some words of a query are swapped for translations, word by word."""
    question_share: float = 0.3
    """How often a query is dressed up in the words with which questions begin or end."""
    placed: float = 0.0
    """How often the name of a place is written into the passage and asked for in another language."""
    alone: float = 0.5
    """How often the place is all that is asked for then, rather than the end of another query."""


class Asking:
    """Makes queries of the documents of a pack."""

    def __init__(
        self, pack: TextPack, config: AskingConfig, lexicon: Lexicon | None = None
    ) -> None:
        self.pack, self.config, self.lexicon = pack, config, lexicon
        self.versions = by_group(pack.document_group)
        self.titles = by_group(pack.query_group)
        self.places = {valid: Places(pack, valid) for valid in (False, True)}

    def under(self, config: AskingConfig) -> Asking:
        """The same under another configuration."""
        other = copy(self)
        other.config = config
        return other

    def ask(
        self, index: int, body: Ints, rng: np.random.Generator, renaming: Renaming | None = None
    ) -> tuple[Ints, Ints]:
        """The body, perhaps less the words that the query takes from it, and the query. A body whose
        words have been renamed is asked for by those."""
        if renaming:
            other, (body, query) = None, self._renamed_words(index, body, rng, renaming)
        else:
            other = self._other_language(index, rng)
            body, query = self._words(index, other, body, rng)
        if self.lexicon and rng.random() < self.config.swapped:
            query = self.lexicon.swap(query, rng.uniform(0.3, 1.0), rng)
        if rng.random() < self.config.question_share:
            lang = int(self.pack.document_lang[index if other is None else other])
            query = self._question(query, lang, rng)
        return body, query[: self.config.query_tokens]

    def place(
        self, index: int, body: Ints, query: Ints, rng: np.random.Generator
    ) -> tuple[Ints, Ints]:
        """The body with a place named in it, and a query for that place, by another of its names."""
        lang, valid = int(self.pack.document_lang[index]), bool(self.pack.document_valid[index])
        there, asked = self.places[valid].draw(lang, rng)
        at = int(rng.integers(len(body) + 1))
        body = np.concatenate((body[:at], there, body[at:]))
        if rng.random() < self.config.alone:
            return body, asked[: self.config.query_tokens]
        room = max(1, self.config.query_tokens - len(asked))
        return body, np.concatenate((query[:room], asked))[: self.config.query_tokens]

    def heading(self, index: int, rng: np.random.Generator) -> Ints:
        """A title of the document in its own language, or nothing."""
        titles = self._titles(index)
        same = titles[self.pack.query_lang[titles] == self.pack.document_lang[index]]
        return self.pack.queries[int(rng.choice(same))] if len(same) else EMPTY

    def _titles(self, index: int) -> Ints:
        return self.titles.get(int(self.pack.document_group[index]), EMPTY)

    def _renamed_words(
        self, index: int, body: Ints, rng: np.random.Generator, renaming: Renaming
    ) -> tuple[Ints, Ints]:
        title = self.heading(index, rng)
        if len(title) and rng.random() > self.config.span_share:
            return body, renaming.asked(renaming(title, int(self.pack.document_lang[index])))
        start, stop = span(body, self.config.query_tokens, rng)
        query = renaming.asked(body[start:stop])
        if not renaming.abroad and rng.random() < self.config.cloze and len(body) > 3 * len(query):
            return np.concatenate((body[:start], body[stop:])), query
        return body, _thin(query, rng) if rng.random() < 0.7 else query

    def _words(
        self, index: int, other: int | None, body: Ints, rng: np.random.Generator
    ) -> tuple[Ints, Ints]:
        titles = self._titles(index)
        if len(titles) and rng.random() > self.config.span_share:
            lang = self.pack.document_lang[index if other is None else other]
            same = titles[self.pack.query_lang[titles] == lang]
            return body, self.pack.queries[int(rng.choice(same if len(same) else titles))]
        source = body if other is None else self.pack.documents[other]
        start, stop = span(source, self.config.query_tokens, rng)
        query = source[start:stop]
        if other is None and rng.random() < self.config.cloze and len(body) > 3 * len(query):
            body = np.concatenate((body[:start], body[stop:]))
        elif rng.random() < 0.7:
            query = _thin(query, rng)
        return body, query

    def _question(self, query: Ints, lang: int, rng: np.random.Generator) -> Ints:
        """The query between the words of a question, in its own language or English."""
        pack = self.pack
        own = np.flatnonzero(pack.question_lang == lang)
        english = np.flatnonzero(pack.question_lang == pack.langs.index("en"))
        before = pack.questions[int(rng.choice(own if len(own) else english))]
        room = self.config.query_tokens - len(before) - 1
        return np.concatenate((before, query[: max(room, 4)], pack.question_mark))

    def _other_language(self, index: int, rng: np.random.Generator) -> int | None:
        if rng.random() >= self.config.cross_lingual * (2 if self.pack.is_name[index] else 1):
            return None
        versions = self.versions[int(self.pack.document_group[index])]
        others = versions[self.pack.document_lang[versions] != self.pack.document_lang[index]]
        return int(rng.choice(others)) if len(others) else None


def span(source: Ints, limit: int, rng: np.random.Generator) -> tuple[int, int]:
    """Where a query of at most `limit` tokens out of `source` begins and ends."""
    size = int(rng.integers(4, min(limit, max(6, len(source) // 3)) + 1))
    start = int(rng.integers(max(1, len(source) - size + 1)))
    return start, start + size


def _thin(query: Ints, rng: np.random.Generator) -> Ints:
    """Some tokens dropped, and now and then two halves swapped, as people recall a passage."""
    kept = query[rng.random(len(query)) > rng.uniform(0, 0.5)]
    kept = kept if len(kept) >= 2 else query
    if len(kept) > 1 and rng.random() < 0.3:
        cut = int(rng.integers(1, len(kept)))
        kept = np.concatenate((kept[cut:], kept[:cut]))
    return kept
