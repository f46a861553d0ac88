"""Renaming: in a step words give way to words of the web, each to the same in all documents and queries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tokenizers import Tokenizer

from recipe.layout import Ints
from recipe.lexicon import is_word, script_of
from recipe.pack import TextPack
from recipe.words import Words

COMMON = 300
"""Tokens of each language, the most frequent ones, that are left as they are where they are a word."""
KEPT = 0.3
"""Of a query's words that have no translation, those that stay when the others are translated."""


class Renamer:
    """What all steps share: which tokens make words, which are common, what they give way to."""

    def __init__(self, pack: TextPack, tokenizer: Tokenizer, words: Words) -> None:
        self.words, self._decode = words, tokenizer.decode
        surfaces = [tokenizer.decode([token]) for token in range(len(pack.vectors))]
        self._begins = np.array([text[:1] == " " and _is_part(text[1:]) for text in surfaces])
        self._goes_on = np.array([_is_part(text) for text in surfaces])
        self._common = self._frequent(pack)
        self._keys: dict[bytes, str] = {}
        weights = words.weight.astype(np.float64)
        self._drawn: dict[tuple[str, bool], tuple[Ints, Ints]] = {}
        for name, rows in words.spaced.items():
            linked = words.is_english if name == "LATIN" else words.english >= 0
            for abroad, chosen in ((False, rows), (True, rows[linked[rows]])):
                if len(chosen):
                    self._drawn[name, abroad] = chosen, weights[chosen].cumsum()

    @staticmethod
    def _frequent(pack: TextPack) -> dict[int, set[int]]:
        lengths = np.diff(pack.documents.offsets)
        of_token = np.repeat(pack.document_lang, lengths)
        frequent = {}
        for lang in range(len(pack.langs)):
            counts = np.bincount(pack.documents.flat[of_token == lang], minlength=1)
            frequent[lang] = set(np.argsort(-counts, kind="stable")[:COMMON].tolist())
        return frequent

    def begin(
        self, rng: np.random.Generator, abroad: bool = False, share: float | None = None
    ) -> Renaming:
        """Of one step: `share` of its words, by default that of chance, give way; `abroad` if its
        queries are to be translated."""
        return Renaming(self, rng, abroad, rng.uniform(0.4, 1.0) if share is None else share)

    def split(self, tokens: Ints) -> Iterator[tuple[Ints, bool]]:
        """The tokens in runs, and whether each is a word."""
        begins, goes_on = self._begins[tokens], self._goes_on[tokens]
        inside = begins | goes_on
        cut = begins | ~inside
        cut[1:] |= ~inside[:-1]
        starts = np.flatnonzero(cut[1:]) + 1
        for part in np.split(np.arange(len(tokens)), starts):
            if len(part):
                yield tokens[part], bool(inside[part[0]])

    def key(self, word: Ints) -> str:
        """The word as it is written."""
        told = word.tobytes()
        if told not in self._keys:
            self._keys[told] = self._decode(word.tolist()).strip()
        return self._keys[told]

    def is_common(self, word: Ints, lang: int) -> bool:
        """Whether it is one of the frequent tokens of a language."""
        return len(word) == 1 and int(word[0]) in self._common[lang]

    def draw(self, script: str, abroad: bool, rng: np.random.Generator) -> int | None:
        """A word in that script, as often as it is used; None where there are none."""
        if (script, abroad) not in self._drawn:
            return None
        rows, edges = self._drawn[script, abroad]
        return int(rows[np.searchsorted(edges, rng.random() * edges[-1], side="right")])


class Renaming:
    """Of one step: what each word gives way to is settled when it is first met."""

    def __init__(
        self, renamer: Renamer, rng: np.random.Generator, abroad: bool, share: float
    ) -> None:
        self.renamer, self.rng, self.abroad, self.share = renamer, rng, abroad, share
        self._new: dict[str, int | None] = {}
        self._placed: dict[bytes, int] = {}

    def __call__(self, tokens: Ints, lang: int) -> Ints:
        """A text of that language with its words renamed."""
        parts = []
        for part, is_a_word in self.renamer.split(tokens):
            parts.append(self._renamed(part, lang) if is_a_word else part)
        return np.concatenate(parts) if parts else tokens

    def _renamed(self, word: Ints, lang: int) -> Ints:
        if self.renamer.is_common(word, lang):
            return word
        written = self.renamer.key(word)
        key = written.casefold()
        if key not in self._new:
            chosen = self.rng.random() < self.share and len(written) > 1
            script = script_of(written[0]) if chosen else ""
            self._new[key] = self.renamer.draw(script, self.abroad, self.rng) if chosen else None
        number = self._new[key]
        if number is None:
            return word
        words = self.renamer.words
        new = (words.titled if written[0].isupper() else words.plain)[number]
        self._placed[new.tobytes()] = number
        return new

    def asked(self, query: Ints) -> Ints:
        """What is asked with words of a renamed text: the same, or abroad its words in another
        language, those of English in one script, those of others in English."""
        if not self.abroad:
            return query
        words = self.renamer.words
        split = [(part, self._placed.get(part.tobytes())) for part, _ in self.renamer.split(query)]
        found = [self._translations(number) for _, number in split if number is not None]
        scripts = sorted({script for each in found for script in each} & words.spoken)
        if not scripts:
            return query
        script = scripts[int(self.rng.integers(len(scripts)))]
        parts = []
        for part, number in split:
            if number is None:
                parts += [part] if self.rng.random() < KEPT else []
            elif known := self._translations(number).get(script):
                parts.append(words.plain[int(self.rng.choice(known))])
        return np.concatenate(parts) if parts else query

    def _translations(self, number: int) -> dict[int, list[int]]:
        words = self.renamer.words
        if words.is_english[number]:
            return words.translations[number]
        english = int(words.english[number])
        return {int(words.script[english]): [english]}


def _is_part(text: str) -> bool:
    """Whether a token's surface is letters alone; what is part of a character counts as one."""
    return is_word(text.replace("\ufffd", "a"))
