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
from collections.abc import Iterator, Sequence
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
from recipe.ragged import Ragged, as_arrays, read_fields
from recipe.teacher import Teacher
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
NAMES = 0.15
"""Share of texts that are names of things; the rest are passages. Lists of words are no texts here: what
the teacher says of a word in one is blurred by the others, and `Words.meant` is what it says alone."""
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
        return F.normalize((self.units(states) - self.centre) @ self.turn, dim=-1)

    def in_bytes(self, states: Tensor) -> NDArray[np.int8]:
        """The same times GRAIN."""
        return (self(states) * GRAIN).round().clamp(-127, 127).to(torch.int8).numpy()

    def units(self, states: Tensor) -> Tensor:
        """(n, 384), of unit length about the mean."""
        return F.normalize(states - self.mean, dim=-1)

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
        parts = [read_fields(path) for path in sorted(folder.glob("context-*.npz"))]
        if not parts:
            raise SystemExit(f"{folder} holds no context-*.npz: run python -m recipe.context")
        texts, ends = (Ragged.joined([part[name] for part in parts]) for name in ("texts", "ends"))
        return cls(texts, ends, np.concatenate([part["targets"] for part in parts]))

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
    """Draws what to learn from: passages and names in all languages."""

    def __init__(self, folder: Path) -> None:
        self.passages = _by_language(folder / "documents.jsonl")
        self.names = _by_language(folder / "names.jsonl")

    def draw(self, rng: random.Random) -> str:
        """One text of 200 characters or so."""
        if rng.random() < NAMES:
            return " · ".join(_any_of(self.names, rng) for _ in range(3))[:120]
        return _window(_any_of(self.passages, rng), rng)


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
                targets.append(basis.in_bytes(rows))
    found = ContextPack(Ragged.of(tokens), Ragged.of(ends), np.concatenate(targets))
    unfinished = path.with_suffix(".tmp")  # a kill leaves no half that would count as done
    with unfinished.open("wb") as file:
        np.savez(file, **as_arrays(found))
    unfinished.replace(path)
    return len(found.texts.flat)


@cache
def _sources(data: Path) -> tuple[Teacher, Texts, Tokenizer]:
    """Read once; forked processes have what their parent has read."""
    teacher = Teacher.load()
    tokenizer = Tokenizer.from_file(str(data / "tokenizer" / "tokenizer.json"))
    return teacher, Texts(data / "text"), tokenizer


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
