"""What each token means where it stands: states from inside the teacher, to be learned by a decoder.

The rows of the embedding matrix know single words in isolation. A few layers up the teacher's states
are the best of all it has for finding translations of words in a text: `python -m recipe.context`
writes `.data/pack/context-*.npz`, texts in nano's tokens with such a state wherever a token of nano's
and a piece of the teacher's end at the same character.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from torch import Tensor
from torch.nn import functional as F

from recipe.fetch import DATA
from recipe.layout import Ints
from recipe.lexicon import UNSPACED, is_word, script_of
from recipe.pack import Ragged
from recipe.teacher import WORD_START, Teacher
from recipe.trainer import is_bf16_faster
from recipe.wiring import MEANING_SIZE

DEPTH = 5
"""Layers of the teacher: words of one meaning in different languages are nearest to each other there."""
EVEN = 0.75
"""How far the directions are brought to one spread: 0 leaves them, 1 evens them out."""
PREFIX = "passage: "
GRAIN = 254.0
"""Steps of a byte in 1; no component of a unit vector in 96 directions is above a half."""
FIT_TEXTS = 1_600
TEXT, NAMES = 0.25, 0.07
"""Shares of texts that are passages and names of things; the rest are words drawn from the teacher's
vocabulary, which are of the web and of a hundred languages, where passages are of manuals."""
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
OTHERS = 0.1
"""How often words of another script are drawn, where as many of those are drawn once: they have six tokens
and more, and took half of a step."""
JOINED = UNSPACED.keys() - {"HANGUL"} | {"KATAKANA"}
"""Scripts whose words stand one after another, so that pieces within a text are words too."""
BASIS = Path(__file__).with_name("context.npz")
"""The directions that nano's layers speak in: fitted once, as layers that go on learning need the same."""


@dataclass(frozen=True)
class Basis:
    """The directions that are kept of a state, those along which states differ most: `turn` (384,
    MEANING_SIZE) of what lies about `mean`, at unit length, less `centre`, both (384,)."""

    mean: Tensor
    centre: Tensor
    turn: Tensor

    @classmethod
    def fit(cls, states: Tensor) -> Basis:
        """Principal directions of (n, 384) states, each taken to unit length about the mean first."""
        mean = states.mean(dim=0)
        units = F.normalize(states - mean, dim=-1)
        centre = units.mean(dim=0)
        spread, directions = torch.linalg.eigh(torch.cov((units - centre).T))
        spread, directions = spread.flip(0)[:MEANING_SIZE], directions.flip(1)[:, :MEANING_SIZE]
        return cls(mean, centre, directions / spread ** (EVEN / 2))

    def __call__(self, states: Tensor) -> Tensor:
        """(n, 384) -> (n, MEANING_SIZE), of unit length."""
        units = F.normalize(states - self.mean, dim=-1) - self.centre
        return F.normalize(units @ self.turn, dim=-1)

    @classmethod
    def load(cls, path: Path = BASIS) -> Basis:
        """As `save` wrote it."""
        with np.load(path) as file:
            return cls(*(torch.from_numpy(file[name]) for name in ("mean", "centre", "turn")))

    def save(self, path: Path = BASIS) -> None:
        """As an .npz file."""
        np.savez(path, mean=self.mean.numpy(), centre=self.centre.numpy(), turn=self.turn.numpy())


@dataclass(frozen=True)
class ContextPack:
    """Texts in tokens, and what some of their tokens mean."""

    texts: Ragged
    ends: Ragged
    """Of each text, the places of the tokens that have a target."""
    targets: NDArray[np.int8]
    """(all ends, MEANING_SIZE), unit vectors times GRAIN."""

    @classmethod
    def load(cls, folder: Path) -> ContextPack:
        """Read every file of a folder."""
        parts = [dict(np.load(path)) for path in sorted(folder.glob("context-*.npz"))]
        if not parts:
            raise SystemExit(f"{folder} holds no context-*.npz: run python -m recipe.context")
        joined = {}
        for name in ("texts", "ends"):
            flat = np.concatenate([part[f"{name}_flat"] for part in parts])
            lengths = np.concatenate([np.diff(part[f"{name}_offsets"]) for part in parts])
            joined[name] = Ragged(flat, np.concatenate(([0], lengths.cumsum())))
        return cls(**joined, targets=np.concatenate([part["targets"] for part in parts]))

    def target(self, text: int) -> NDArray[np.float32]:
        """(ends of the text, MEANING_SIZE)"""
        start, stop = self.ends.offsets[text : text + 2]
        return self.targets[start:stop].astype(np.float32) / GRAIN

    def taught(self, text: int) -> tuple[Ints, NDArray[np.float32]]:
        """Tokens of the text from the first to the last that has a target, and the target of each,
        (tokens, MEANING_SIZE): that of the next end, as what is not yet whole is to be guessed."""
        ends = self.ends[text]
        tokens = np.arange(ends[-1] + 1)
        return tokens, self.target(text)[np.searchsorted(ends, tokens)]


def aligned(mine: Encoding, theirs: Encoding, before: int) -> tuple[Ints, Ints]:
    """Tokens of ours that end where a piece of theirs does, n of them, and n + 1 bounds: the pieces
    that end there begin where those of the token before ended.

    `before` is the length of what stands before the text in `theirs`.
    """
    ends = np.array([stop - before for _, stop in theirs.offsets])
    ends[-1] = -1  # the closing token is at no character
    last: dict[int, int] = {}
    for token, (_, stop) in enumerate(mine.offsets):
        last.setdefault(stop, token)
    tokens: list[int] = []
    bounds = [int(np.argmax(ends > 0))]
    for piece in range(bounds[0], len(ends) - 1):
        whole = piece + 2 >= len(ends) or ends[piece + 1] > ends[piece]
        if whole and (stop := int(ends[piece])) in last:
            tokens.append(last[stop])
            bounds.append(piece + 1)
    return np.array(tokens, np.int64), np.array(bounds)


class Texts:
    """Draws what to learn from: passages in all languages, names, words."""

    def __init__(self, folder: Path, teacher: Teacher, tokenizer: Tokenizer) -> None:
        self.passages = _by_language(folder / "documents.jsonl")
        self.names = _by_language(folder / "names.jsonl")
        self.words = words_by_script(
            teacher.tokenizer.get_vocab(), lambda text: len(tokenizer.encode(text))
        )

    def draw(self, rng: random.Random) -> str:
        """One text of 200 characters or so."""
        kind = rng.random()
        if kind < TEXT:
            return _window(_any_of(self.passages, rng), rng)
        if kind < TEXT + NAMES:
            return " · ".join(_any_of(self.names, rng) for _ in range(3))[:120]
        scripts = list(self.words)
        sizes = [
            len(self.words[script][0]) ** 0.6 * (1.0 if script in SPOKEN else OTHERS)
            for script in scripts
        ]
        script = rng.choices(scripts, sizes)[0]
        words, edges = self.words[script]
        drawn = rng.choices(words, cum_weights=edges, k=rng.randint(3, 12))
        return ("" if script in JOINED else " ").join(drawn)


def _any_of(texts: dict[str, list[str]], rng: random.Random) -> str:
    languages = list(texts)
    weights = [len(texts[lang]) ** 0.5 for lang in languages]
    return rng.choice(texts[rng.choices(languages, weights)[0]])


def _window(text: str, rng: random.Random) -> str:
    size = rng.randint(60, 320)
    if len(text) <= size:
        return text
    start = rng.randrange(len(text) - size)
    start = text.find(" ", start, start + 30) + 1 or start
    return text[start : start + size].strip()


def _by_language(path: Path) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = defaultdict(list)
    with path.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row.get("split") != "valid" and row["text"].strip():
                texts[row["lang"]].append(row["text"])
    return dict(texts)


def words_by_script(
    vocabulary: Mapping[str, int], pieces: Callable[[str], int]
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


def states(teacher: Teacher, tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[Any]:
    """(tokens, ends, (ends, 384) states) of each text, those with no end left out."""
    theirs = teacher.tokenizer.encode_batch([PREFIX + text for text in texts])
    with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16_faster()):
        hidden = teacher.states([encoding.ids for encoding in theirs], DEPTH)
    for mine, other, rows in zip(tokenizer.encode_batch(texts), theirs, hidden, strict=True):
        ends, bounds = aligned(mine, other, len(PREFIX))
        if len(ends):
            sums = np.add.reduceat(rows.float().numpy()[: bounds[-1]], bounds[:-1])
            yield mine.ids, ends, torch.from_numpy(sums / np.diff(bounds)[:, None]).float()


def write(data: Path, part: int, texts: int, basis: Basis) -> int:
    """One file of so many texts, if it is not there yet; the number of tokens."""
    path = data / "pack" / f"context-{part:03}.npz"
    if path.exists():
        return 0
    torch.set_num_threads(1)
    teacher, source, tokenizer = _sources(data)
    rng = random.Random(1 + part)
    tokens, ends, targets = [], [], []
    for _ in range(0, texts, 256):
        drawn = sorted((source.draw(rng) for _ in range(256)), key=len)
        for start in range(0, 256, 32):
            for ids, places, rows in states(teacher, tokenizer, drawn[start : start + 32]):
                tokens.append(ids)
                ends.append(places)
                targets.append((basis(rows) * GRAIN).round().clamp(-127, 127).to(torch.int8))
    fields: dict[str, Any] = {"targets": torch.cat(targets).numpy()}
    for name, rows in (("texts", tokens), ("ends", ends)):
        ragged = Ragged.of(rows)
        fields |= {f"{name}_flat": ragged.flat, f"{name}_offsets": ragged.offsets}
    unfinished = path.with_suffix(".tmp")  # a kill leaves no half that would count as done
    with unfinished.open("wb") as file:
        np.savez(file, **fields)
    unfinished.replace(path)
    return len(fields["texts_flat"])


@cache
def _sources(data: Path) -> tuple[Teacher, Texts, Tokenizer]:
    """Read once; forked processes have what their parent has read."""
    teacher = Teacher.load()
    tokenizer = Tokenizer.from_file(str(data / "tokenizer" / "tokenizer.json"))
    return teacher, Texts(data / "text", teacher, tokenizer), tokenizer


def main() -> None:
    """Write files in several processes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--texts", type=int, default=6_144, help="of one file")
    parser.add_argument("--files", type=int, default=32)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--fit", action="store_true", help="fit the directions first; layers must then begin anew"
    )
    arguments = parser.parse_args()
    teacher, source, tokenizer = _sources(arguments.data)
    if arguments.fit:
        rng = random.Random(0)
        drawn = [source.draw(rng) for _ in range(FIT_TEXTS)]
        Basis.fit(torch.cat([rows for *_, rows in states(teacher, tokenizer, drawn)])).save()
    basis = Basis.load()
    with ProcessPoolExecutor(arguments.processes) as pool:
        jobs = [
            pool.submit(write, arguments.data, part, arguments.texts, basis)
            for part in range(arguments.files)
        ]
        for job in jobs:
            print(json.dumps({"tokens": job.result()}), flush=True)


if __name__ == "__main__":
    main()
