"""Signatures of an index's documents, kept in its folder, so that only new documents are read."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from sightrank.analysis.signatures import Signature
from sightrank.config import SIGNATURES_FILE
from sightrank.engine.catalog import Record
from sightrank.engine.prefix_store import mapped, read_sealed, sealed, translated
from sightrank.errors import DamageWarning

MOST = 2**31 - 1
_NAMES = "signatures 1", "signatures 2"
"""Another number when the same document starts to give another signature; the last is in use."""


def key_of(record: Record) -> bytes:
    """What its signature is kept under: 32 bytes, changed by its name, files and content."""
    return hashlib.sha256(f"{record.label}/{record.digest}".encode()).digest()


def read(folder: Path) -> dict[bytes, Signature]:
    """What is kept in an index's folder; nothing if it is of an earlier version, or, with a warning,
    damaged."""
    path = folder / SIGNATURES_FILE
    if not path.exists():
        return {}
    try:
        content = mapped(path)
        if any(_is(content, name) for name in _NAMES[:-1]):
            return {}
        tensors = read_sealed(content, _NAMES[-1], check=True)
    except (OSError, ValueError) as error:
        warnings.warn(f"{path} is damaged ({error}): it is made anew.", DamageWarning, stacklevel=2)
        return {}
    arrays = {name: tensor.numpy().copy() for name, tensor in tensors.items()}
    rows = zip(
        arrays["keys"],
        arrays["digests"],
        arrays["words"],
        arrays["looks"],
        arrays["widths"],
        arrays["sizes"],
        strict=True,
    )
    return {
        key.tobytes(): Signature(
            digest.tobytes(), words, look, widths, int(sizes[0]), int(sizes[1])
        )
        for key, digest, words, look, widths, sizes in rows
    }


def _is(content: torch.Tensor, name: str) -> bool:
    """Whether a file, damaged or not, was written under a name."""
    try:
        return bool(read_sealed(content, name, check=False))
    except ValueError:
        return False


def write(folder: Path, signatures: Mapping[bytes, Signature]) -> None:
    """Keep these and no others. The file appears whole or not at all.

    Of two processes that write at once the later one wins; what the other found is found again.
    Raises DiskFullError, IndexFolderError.
    """
    if not signatures:
        return
    each = list(signatures.values())
    arrays = {
        "keys": np.stack([np.frombuffer(key, np.int8) for key in signatures]),
        "digests": np.stack([np.frombuffer(one.digest, np.int8) for one in each]),
        "words": np.stack([one.words for one in each]),
        "looks": np.stack([one.look for one in each]),
        "widths": np.stack([one.widths for one in each]),
        "sizes": np.array(
            [[min(one.num_pixels, MOST), min(one.num_characters, MOST)] for one in each], np.int32
        ),
    }
    content = sealed({name: torch.tensor(array) for name, array in arrays.items()}, _NAMES[-1])
    part = folder / f"{SIGNATURES_FILE}.part"
    with translated(folder):
        part.write_bytes(content)
        part.replace(folder / SIGNATURES_FILE)
