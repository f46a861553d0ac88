"""Words of a hundred languages, of the web rather than of manuals: `python -m recipe.words`.

What nano learns to rank are manuals, and among words that are never in them it did worse than BM25. So in
some steps of training words of manuals give way to these, the same one in every document and query of a
step: what counts is then that a word stands there, not which. Those whose meaning is that of an English
one can be asked for by each other.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from recipe.context import DEPTH, GRAIN, PREFIX, Basis
from recipe.fetch import DATA
from recipe.layout import Ints
from recipe.lexicon import UNSPACED, is_word, script_of
from recipe.pack import spread
from recipe.ragged import Ragged, as_arrays, read_fields
from recipe.teacher import WORD_START, Teacher
from recipe.tokenizer import qwen_tokenizer, rank_counts
from recipe.trainer import is_bf16_faster

Floats = NDArray[np.float32]
KNOWN = 0.15
"""How often a word that is one token is drawn, where one of several tokens is drawn once: its row says
already what it means."""
SPOKEN = {
    "ARABIC",
    "BENGALI",
    "CJK",
    "CYRILLIC",
    "DEVANAGARI",
    "GEORGIAN",
    "GREEK",
    "HANGUL",
    "KATAKANA",
    "LATIN",
    "THAI",
}
"""Scripts whose words come first: a choice, as two layers cannot hold those of all."""
JOINED = UNSPACED.keys() - {"HANGUL"} | {"KATAKANA"}
"""Scripts whose words stand one after another, so that pieces within a text are words too."""
NEAR = 0.5
"""Cosine from which a word counts as a translation of an English one."""
MOST = 8
"""Translations that an English word has at most in each script."""
SCRIPTS = 3
"""Scripts in which it has some, at least: what is near it in fewer is often a name or a neighbour."""
LISTED = 0.7
"""Power of the number of words of a script by which lists of its words come."""
TITLED = 0.2
"""Share of the words of a list that have a capital."""


@dataclass(frozen=True)
class Words:
    """Words as tokens of nano's, with the space before them where their script has one."""

    plain: Ragged
    titled: Ragged
    """The same with a capital, where there are capitals."""
    script: NDArray[np.int16]
    scripts: tuple[str, ...]
    weight: NDArray[np.float32]
    """How often to draw each."""
    english: NDArray[np.int32]
    """Of each word the English one that it translates: its own number for that itself, else -1."""
    meant: NDArray[np.int8]
    """(words, MEANING_SIZE), what each means where it stands alone: unit vectors times GRAIN. In lists
    the teacher's states of words are blurred by those around: of the mean of two lists, 766 of 1,000
    words in Latin script lie nearest to the right one of 1,000 English words, and of words alone 820."""

    @classmethod
    def load(cls, path: Path) -> Words:
        """What `save` wrote."""
        if not path.exists():
            raise SystemExit(f"{path} is missing: run python -m recipe.words")
        return cls(**read_fields(path))

    def save(self, path: Path) -> None:
        """One compressed .npz."""
        np.savez_compressed(path, **as_arrays(self))

    def __len__(self) -> int:
        return len(self.script)

    @cached_property
    def is_english(self) -> NDArray[np.bool_]:
        """Of each word whether it is an English one that has translations."""
        own: NDArray[np.bool_] = self.english == np.arange(len(self))
        return own

    @cached_property
    def translations(self) -> dict[int, dict[int, list[int]]]:
        """Of each English word the others that mean it, by script."""
        found: dict[int, dict[int, list[int]]] = {}
        for word in np.flatnonzero((self.english >= 0) & ~self.is_english).tolist():
            of_script = found.setdefault(int(self.english[word]), {})
            of_script.setdefault(int(self.script[word]), []).append(word)
        return found

    @cached_property
    def spaced(self) -> dict[str, Ints]:
        """By script with spaces between words, its words."""
        return {
            name: np.flatnonzero(self.script == number)
            for number, name in enumerate(self.scripts)
            if name not in JOINED
        }

    @cached_property
    def spoken(self) -> set[int]:
        """Numbers of the scripts whose words come first."""
        return {number for number, name in enumerate(self.scripts) if name in SPOKEN}

    @cached_property
    def _lists(self) -> tuple[list[tuple[Ints, Floats]], Floats]:
        """Of scripts whose words come first, their words with a running sum of how often to draw each;
        and that of how often to draw each script."""
        rows = [np.flatnonzero(self.script == number) for number in sorted(self.spoken)]
        edges = np.cumsum([len(each) ** LISTED for each in rows])
        return [(each, self.weight[each].cumsum()) for each in rows], edges

    def listed(self, rng: np.random.Generator, size: int) -> tuple[Ints, Ints, Floats]:
        """At most `size` tokens, but a word at least, of words of one script, as often as they are
        used: the tokens, which word each is of, and what that means (tokens, MEANING_SIZE)."""
        scripts, chances = self._lists
        rows, edges = scripts[int(np.searchsorted(chances, rng.random() * chances[-1]))]
        drawn = rows[np.searchsorted(edges, rng.random(size) * edges[-1]).clip(0, len(rows) - 1)]
        spelt = [(self.titled if rng.random() < TITLED else self.plain)[word] for word in drawn]
        lengths = np.array([len(each) for each in spelt])
        kept = max(1, int(np.searchsorted(lengths.cumsum(), size, side="right")))
        of_word = np.repeat(drawn[:kept], lengths[:kept])
        return np.concatenate(spelt[:kept]), of_word, self.meant[of_word] / np.float32(GRAIN)


def words_by_script(
    vocabulary: Mapping[str, int], pieces: Callable[[str], int] = lambda text: 2
) -> dict[str, tuple[list[str], list[float]]]:
    """Words that are one piece of the teacher's, and the running sum of how often to draw each;
    frequent pieces come first in its vocabulary. Scripts with fewer than a hundred are left out.
    `pieces` tells how many tokens of nano's a text has."""
    words: dict[str, tuple[list[str], list[float]]] = defaultdict(lambda: ([], []))
    for place, piece in enumerate(sorted(vocabulary, key=vocabulary.__getitem__)):
        word = piece.removeprefix(WORD_START)
        script = script_of(word[:1] or " ")
        whole = len(word) > 1 if script in JOINED else piece != word and len(word) > 2
        if whole and is_word(word):
            known, edges = words[script]
            known.append(word)
            before = "" if script in JOINED else " "
            share = KNOWN if pieces(before + word) == 1 else 1.0
            edges.append((edges[-1] if edges else 0.0) + share * (1000 + place) ** -0.75)
    return {script: found for script, found in words.items() if len(found[0]) >= 100}


def build(teacher: Teacher, tokenizer: Tokenizer, english: set[str]) -> Words:
    """All words that are one piece of the teacher's; `english` are those that count as English."""
    found = words_by_script(
        teacher.tokenizer.get_vocab(), lambda text: len(tokenizer.encode(text).ids)
    )
    scripts = tuple(found)
    words = [word for name in scripts for word in found[name][0]]
    script = np.repeat(np.arange(len(scripts)), [len(found[name][0]) for name in scripts])
    weights = [np.diff(found[name][1], prepend=0.0) for name in scripts]
    before = ["" if name in JOINED else " " for name in scripts]
    spelt = [before[number] + word for number, word in zip(script, words, strict=True)]
    with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16_faster()):
        meaning = teacher.encode(words, "query: ").numpy()
    is_english = np.array([word in english for word in words])
    weight = np.concatenate(weights).astype(np.float32)
    return Words(
        plain=_tokens(tokenizer, spelt),
        titled=_tokens(tokenizer, [text.title() for text in spelt]),
        script=script.astype(np.int16),
        scripts=scripts,
        weight=weight,
        english=links(meaning, is_english, script),
        meant=meanings(teacher, words, weight),
    )


def meanings(
    teacher: Teacher, words: Sequence[str], weight: NDArray[np.floating[Any]]
) -> NDArray[np.int8]:
    """`Words.meant`: from the mean of the states of a word's pieces, where the teacher's are best for
    words, less what all words alone have in common. Half of a vector's length was that: words then lay
    nearer to each other than to what they mean in a text."""
    found = []
    for start in range(0, len(words), 256):
        encodings = teacher.tokenizer.encode_batch(
            [PREFIX + word for word in words[start : start + 256]]
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16_faster()):
            states = teacher.states([encoding.ids for encoding in encodings], DEPTH)
        found += [
            each[[stop > len(PREFIX) for _, stop in encoding.offsets]].float().mean(dim=0)
            for encoding, each in zip(encodings, states, strict=True)
        ]
    basis, alone = Basis.load(), torch.stack(found)
    share = torch.from_numpy(weight / weight.sum()).float()
    return replace(basis, centre=share @ basis.units(alone)).in_bytes(alone)


def _tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> Ragged:
    return Ragged.of([encoding.ids for encoding in tokenizer.encode_batch(list(texts))])


def links(
    meaning: NDArray[np.float32], english: NDArray[np.bool_], script: NDArray[np.int64]
) -> NDArray[np.int32]:
    """`Words.english`, from vectors (words, size): the nearest English word, if it is near enough, of
    the MOST that are nearest to that in each script; none if they are of fewer than SCRIPTS."""
    rows = torch.nn.functional.normalize(
        torch.from_numpy(spread(meaning, np.ones(len(meaning), bool))).float(), dim=-1
    )
    theirs = np.flatnonzero(english)
    parts = range(0, len(rows), 2048)
    best = [(rows[start : start + 2048] @ rows[theirs].T).max(dim=1) for start in parts]
    cosine = torch.cat([each.values for each in best]).numpy()
    target = theirs[torch.cat([each.indices for each in best]).numpy()]
    target[english] = -1
    found = np.full(len(rows), -1, np.int32)
    taken: dict[tuple[int, int], int] = {}
    for word in np.argsort(-cosine, kind="stable").tolist():
        place = int(target[word]), int(script[word])
        if place[0] >= 0 and cosine[word] >= NEAR and taken.get(place, 0) < MOST:
            taken[place] = taken.get(place, 0) + 1
            found[word] = found[place[0]] = place[0]
    known = Counter(word for word, _ in taken)
    found[np.array([known[word] < SCRIPTS for word in found.tolist()])] = -1
    return found


def main() -> None:
    """Write `.data/pack/words.npz`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    data = parser.parse_args().data
    (ranks,) = (data / "packages").glob("dashscope-*.whl")
    qwen = qwen_tokenizer(ranks)
    english = {qwen.decode([number]).strip() for number in rank_counts(qwen)}
    tokenizer = Tokenizer.from_file(str(data / "tokenizer" / "tokenizer.json"))
    words = build(Teacher.load(data / "packages"), tokenizer, english)
    words.save(data / "pack" / "words.npz")
    linked = {
        name: int((words.english[words.script == number] >= 0).sum())
        for number, name in enumerate(words.scripts)
    }
    print(json.dumps({"words": len(words), "english": int(words.is_english.sum())} | linked))


if __name__ == "__main__":
    main()
