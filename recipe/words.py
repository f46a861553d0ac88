"""Words that the tokenizer cuts into several tokens, and the row that each would have as one token.

`python -m recipe.words` writes `.data/pack/words.npz`: the words of the corpus, and those of the
teacher's vocabulary, which are of the web and of a hundred languages. A decoder that composes such a
word's row out of its pieces' rows knows far more words than it has embeddings.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from recipe.fetch import DATA
from recipe.pack import Ragged, in_bytes, surface_rows, unit_rows, vocabulary
from recipe.teacher import WORD_START, Teacher

MOST = 160_000
MOST_TOKENS = 8
LONGEST = 24
"""Characters."""
ONCE = 2
"""Uses in the corpus that make a word: what stands there once is often a slip."""
_WORD = re.compile(r"[^\W\d_]+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u2e80-\uabff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Scripts that do not part words, where a run of letters is a clause: Thai, Lao, Tibetan, Burmese,
Khmer, Han and kana. Hangul has spaces."""


@dataclass(frozen=True)
class WordPack:
    """Words of several tokens, most frequent first."""

    words: Ragged
    """Their tokens, the space before them included."""
    bare: Ragged
    """The same without it, as after a line break or a bracket: sometimes a single token."""
    weights: NDArray[np.float32]
    """How often to show each; they sum to 1."""
    rows: NDArray[np.int8]
    """(words, 384) what each would have in the embedding matrix, times 127 / its largest."""
    scales: NDArray[np.float32]

    @classmethod
    def load(cls, path: Path) -> WordPack:
        """Read what `save` wrote."""
        with np.load(path) as data:
            words, bare = (
                Ragged(data[f"{name}_flat"], data[f"{name}_offsets"]) for name in ("words", "bare")
            )
            return cls(words, bare, data["weights"], data["rows"], data["scales"])

    def save(self, path: Path) -> None:
        """Write one compressed .npz."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fields: dict[str, Any] = {
            name: getattr(self, name) for name in ("weights", "rows", "scales")
        }
        for name, ragged in (("words", self.words), ("bare", self.bare)):
            fields |= {f"{name}_flat": ragged.flat, f"{name}_offsets": ragged.offsets}
        np.savez_compressed(path, **fields)


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each run of letters stands in these texts; not those of scripts without spaces."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_WORD.findall(text))
    return Counter({word: n for word, n in counts.items() if n >= ONCE and is_word(word)})


def is_word(run: str) -> bool:
    """Whether a run of letters is one word, and not too long a one."""
    return 2 < len(run) <= LONGEST and not _UNSPACED.search(run) and bool(_WORD.fullmatch(run))


def known_words(teacher: Teacher) -> dict[str, float]:
    """Words that are one piece of the teacher's vocabulary, with a share of use guessed by their
    place in it: frequent pieces come first."""
    ordered = sorted(teacher.tokenizer.get_vocab().items(), key=lambda item: item[1])
    found = [piece[1:] for piece, _ in ordered if piece.startswith(WORD_START)]
    return {word: 1 / (1000 + place) for place, word in enumerate(found) if is_word(word)}


def choose(corpus: Mapping[str, float], known: Mapping[str, float], most: int) -> dict[str, float]:
    """Words and how often to show each, the `most` weightiest: half by either source, where a word
    counts by the square root of its use, so that the many rare ones have their turn."""
    weights: Counter[str] = Counter()
    for source in (corpus, known):
        roots = {word: use**0.5 for word, use in source.items()}
        total = sum(roots.values())
        weights.update({word: root / total for word, root in roots.items()})
    return dict(weights.most_common(most))


def build(tokenizer: Tokenizer, teacher: Teacher, counts: Mapping[str, float]) -> WordPack:
    """The words of `counts` and of the teacher's vocabulary that are two to `MOST_TOKENS` tokens."""
    uses = {word: float(use) for word, use in counts.items()}
    several = [_of_several(tokenizer, source) for source in (uses, known_words(teacher))]
    chosen = choose(several[0], several[1], MOST)
    words, bare = (
        Ragged.of(
            [
                encoding.ids
                for encoding in tokenizer.encode_batch([before + word for word in chosen])
            ]
        )
        for before in (" ", "")
    )
    rows, scales = in_bytes(word_rows(teacher, tokenizer, [" " + word for word in chosen]))
    weights = np.array(list(chosen.values()), np.float32)
    return WordPack(
        words,
        bare,
        weights / weights.sum(),
        rows,
        scales,
    )


def word_rows(
    teacher: Teacher, tokenizer: Tokenizer, surfaces: Sequence[str]
) -> NDArray[np.float32]:
    """Rows for surfaces beside the vocabulary's, made as those were made."""
    own, known = vocabulary(tokenizer)
    common = np.concatenate((known, np.zeros(len(surfaces), bool)))
    rows = surface_rows(teacher, [*own, *surfaces], common, np.random.default_rng(0))
    return unit_rows(rows[len(own) :]).astype(np.float32)


def _of_several(tokenizer: Tokenizer, uses: Mapping[str, float]) -> dict[str, float]:
    words = list(uses)
    lengths = [len(encoding) for encoding in tokenizer.encode_batch([" " + word for word in words])]
    return {
        word: uses[word]
        for word, length in zip(words, lengths, strict=True)
        if 2 <= length <= MOST_TOKENS
    }


def main() -> None:
    """Build the pack of words."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(arguments.data / "tokenizer" / "tokenizer.json"))
    with (arguments.data / "text" / "documents.jsonl").open(encoding="utf-8") as lines:
        counts = count_words(json.loads(line)["text"] for line in lines)
    pack = build(tokenizer, Teacher.load(), counts)
    path = arguments.data / "pack" / "words.npz"
    pack.save(path)
    print(json.dumps({"words": len(pack.words), "bytes": path.stat().st_size}))


if __name__ == "__main__":
    main()
