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
_NAME = "signatures 1"  # another number when the same document starts to give another signature


def key_of(record: Record) -> bytes:
    """What its signature is kept under: 32 bytes, changed by its name, files and content."""
    return hashlib.sha256(f"{record.label}/{record.digest}".encode()).digest()


def read(folder: Path) -> dict[bytes, Signature]:
    """What is kept in an index's folder; nothing, with a warning, if it is damaged."""
    path = folder / SIGNATURES_FILE
    if not path.exists():
        return {}
    try:
        tensors = read_sealed(mapped(path), _NAME, check=True)
    except (OSError, ValueError) as error:
        warnings.warn(f"{path} is damaged ({error}): it is made anew.", DamageWarning, stacklevel=2)
        return {}
    arrays = {name: tensor.numpy().copy() for name, tensor in tensors.items()}
    rows = zip(
        arrays["keys"],
        arrays["digests"],
        arrays["words"],
        arrays["looks"],
        arrays["sizes"],
        strict=True,
    )
    return {
        key.tobytes(): Signature(digest.tobytes(), words, look, int(sizes[0]), int(sizes[1]))
        for key, digest, words, look, sizes in rows
    }


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
        "sizes": np.array(
            [[min(one.num_pixels, MOST), min(one.num_characters, MOST)] for one in each], np.int32
        ),
    }
    content = sealed({name: torch.tensor(array) for name, array in arrays.items()}, _NAME)
    part = folder / f"{SIGNATURES_FILE}.part"
    with translated(folder):
        part.write_bytes(content)
        part.replace(folder / SIGNATURES_FILE)
