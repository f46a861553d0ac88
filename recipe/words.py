"""Words of a hundred languages, of the web rather than of manuals: `python -m recipe.words`.

What nano learns to rank are manuals, and among words that are never in them it did worse than BM25. So in
some steps of training words of manuals give way to these, the same one in every document and query of a
step: what counts is then that a word stands there, not which. Those whose meaning is that of an English
one can be asked for by each other.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from recipe.context import JOINED, words_by_script
from recipe.fetch import DATA
from recipe.layout import Ints
from recipe.pack import Ragged, spread
from recipe.teacher import Teacher
from recipe.tokenizer import qwen_tokenizer, rank_counts
from recipe.trainer import is_bf16_faster

NEAR = 0.5
"""Cosine from which a word counts as a translation of an English one."""
MOST = 8
"""Translations that an English word has at most in each script."""
SCRIPTS = 3
"""Scripts in which it has some, at least: what is near it in fewer is often a name or a neighbour."""


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

    @classmethod
    def load(cls, path: Path) -> Words:
        """What `save` wrote."""
        if not path.exists():
            raise SystemExit(f"{path} is missing: run python -m recipe.words")
        with np.load(path) as data:
            fields: dict[str, Any] = {name: data[name] for name in data.files}
        for name in ("plain", "titled"):
            fields[name] = Ragged(fields.pop(f"{name}_flat"), fields.pop(f"{name}_offsets"))
        fields["scripts"] = tuple(map(str, fields["scripts"]))
        return cls(**fields)

    def save(self, path: Path) -> None:
        """One compressed .npz."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("plain", "titled"):
            ragged = fields.pop(name)
            fields[f"{name}_flat"], fields[f"{name}_offsets"] = ragged.flat, ragged.offsets
        np.savez_compressed(path, **fields | {"scripts": np.array(self.scripts)})

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
    return Words(
        plain=_tokens(tokenizer, spelt),
        titled=_tokens(tokenizer, [text.title() for text in spelt]),
        script=script.astype(np.int16),
        scripts=scripts,
        weight=np.concatenate(weights).astype(np.float32),
        english=links(meaning, is_english, script),
    )


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
