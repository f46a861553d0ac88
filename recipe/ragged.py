"""Rows of different lengths, and how they lie in the .npz files of a pack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths in one flat array: row i is flat[offsets[i]:offsets[i + 1]]."""

    flat: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int64]:
        ids: NDArray[np.int64] = self.flat[self.offsets[row] : self.offsets[row + 1]].astype(
            np.int64
        )
        return ids

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """From lists of token ids."""
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        flat = np.fromiter((i for row in rows for i in row), np.uint32, int(lengths.sum()))
        return cls(flat, np.concatenate(([0], lengths.cumsum())))

    @classmethod
    def joined(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of several, one after another."""
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        flat = np.concatenate([part.flat for part in parts])
        return cls(flat, np.concatenate(([0], lengths.cumsum())))


def as_arrays(pack: Any) -> dict[str, Any]:
    """Fields of a dataclass as arrays: of a `Ragged` two, NAME_flat and NAME_offsets, of a tuple of
    texts one."""
    arrays: dict[str, Any] = {}
    for name in (field.name for field in fields(pack)):
        value = getattr(pack, name)
        if isinstance(value, Ragged):
            arrays[f"{name}_flat"], arrays[f"{name}_offsets"] = value.flat, value.offsets
        else:
            arrays[name] = np.array(value) if isinstance(value, tuple) else value
    return arrays


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of an .npz that `as_arrays` prepared."""
    with np.load(path) as data:
        found: dict[str, Any] = {name: data[name] for name in data.files}
    for name, value in list(found.items()):
        if value.dtype.kind == "U":
            found[name] = tuple(map(str, value))
        elif name.endswith("_flat"):
            whole = name.removesuffix("_flat")
            found[whole] = Ragged(found.pop(name), found.pop(f"{whole}_offsets"))
    return found
