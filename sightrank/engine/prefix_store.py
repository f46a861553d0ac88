"""Prefixes on disk: one checksummed safetensors file a document, named by what it was made from.

A name is a digest of the engine's key (weights, dtype, template, limits, tokens, pixels) and of the
precision, so a file made by another model or setting cannot be taken for this one. A file is
written under another name in `unfinished`, synced and renamed: under its own name it is whole. It
never changes after that, which makes reading safe without locks. Whoever writes or removes holds
the catalog's lock (`Catalog.writing`), so any unfinished file it meets is a dead writer's.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from sightrank.engine.precision import Precision
from sightrank.errors import DamageWarning, DiskFullError, IndexFolderError

ENTRIES, UNFINISHED, SUFFIX = "entries", "unfinished", ".safetensors"
MAPPED_FROM = 1 << 20
"""Bytes. Smaller files are copied: every mapping costs one of the system's 65,530."""

_UNSET = "0" * 64
_CHECKSUM = re.compile(rb'"checksum":"([0-9a-f]{64})"')
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "I32": torch.int32, "I8": torch.int8}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class PrefixStore:
    """Engine key -> packed document, in a folder. Opened with one precision, and reads no other."""

    def __init__(self, folder: Path, precision: Precision) -> None:
        self.folder, self.precision = folder, precision
        self._whole: set[tuple[str, int, int]] = set()

    def name(self, key: str) -> str:
        """What the entry of `key` is called."""
        return hashlib.sha256(f"{key}/{self.precision}".encode()).hexdigest()

    def path(self, name: str) -> Path:
        """Where the entry lies: 256 folders, so that none holds too many files."""
        return self.folder / ENTRIES / name[:2] / f"{name}{SUFFIX}"

    def has(self, key: str) -> bool:
        """Whether there is an entry; its content is not looked at."""
        return self.path(self.name(key)).exists()

    def read(self, key: str) -> dict[str, Tensor] | None:
        """The entry's tensors, memory-mapped; None if there is none or, with a warning, it is bad.

        The checksum is computed the first time this object reads an entry: later on, a file of the
        same number and time of change is the same file.
        """
        name = self.name(key)
        try:
            return self._read(name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            warnings.warn(
                f"{self.path(name)} is damaged ({error}): it is not used. `sightrank index"
                f" --verify {self.folder}` removes it, indexing the document again mends it.",
                DamageWarning,
                stacklevel=2,
            )
            return None

    def write(self, key: str, tensors: Mapping[str, Tensor]) -> int:
        """Make an entry durable, unless it is there; returns its bytes. Holds the catalog's lock.

        Raises DiskFullError, IndexFolderError; then nothing is left behind.
        """
        name = self.name(key)
        path = self.path(name)
        with translated(self.folder):
            if not path.exists():
                self._write(path, sealed(tensors, name))
            return path.stat().st_size

    def entries(self) -> Iterator[tuple[str, int]]:
        """(name, bytes) of every entry."""
        for path in sorted((self.folder / ENTRIES).glob(f"??/*{SUFFIX}")):
            yield path.name.removesuffix(SUFFIX), path.stat().st_size

    def damage(self, name: str) -> str | None:
        """What is wrong with an entry, read as a whole; None if nothing is."""
        try:
            read_sealed(mapped(self.path(name)), name, check=True)
        except FileNotFoundError:
            return "it is missing"
        except (OSError, ValueError) as error:
            return str(error)
        return None

    def remove(self, name: str) -> int:
        """Remove an entry, if it is there; returns the bytes freed. Holds the catalog's lock."""
        with translated(self.folder):
            return _unlink(self.path(name))

    def clean(self) -> int:
        """Remove what dead writers left; returns the bytes freed. Holds the catalog's lock."""
        with translated(self.folder):
            return sum(_unlink(path) for path in (self.folder / UNFINISHED).glob("*"))

    def _read(self, name: str) -> dict[str, Tensor]:
        path = self.path(name)
        found = path.stat()
        content = mapped(path)
        mark = (name, found.st_ino, found.st_mtime_ns)
        loaded = read_sealed(content, name, check=mark not in self._whole)
        self._whole.add(mark)
        if len(content) < MAPPED_FROM:
            return {key: tensor.clone() for key, tensor in loaded.items()}
        return loaded

    def _write(self, path: Path, content: bytes) -> None:
        unfinished = self.folder / UNFINISHED / f"{path.stem}.{os.getpid()}"
        for folder in (unfinished.parent, path.parent.parent, path.parent):
            if not folder.exists():
                folder.mkdir()
                _sync(folder.parent)
        try:
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        _sync(path.parent)  # the name is as durable as the content before it is acknowledged


def sealed(tensors: Mapping[str, Tensor], name: str) -> bytes:
    """A safetensors file whose header carries the entry's name and the whole file's checksum.

    The checksum is the SHA-256 of the file with zeros in the checksum's place, so the header is
    covered as well: a changed shape is found like a changed number.
    """
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    content = save(plain, {"name": name, "checksum": _UNSET})
    checksum = hashlib.sha256(content).hexdigest()
    return content.replace(_UNSET.encode(), checksum.encode(), 1)


def mapped(path: Path) -> Tensor:
    """A file's bytes (n,), memory-mapped, without a file left open.

    Removing the file does no harm to that. Cutting it in place, which nothing here ever does, ends
    a process that reads the lost part, as with any mapping.
    """
    size = path.stat().st_size
    if size < 8:
        raise ValueError(f"it has {size} bytes")
    try:
        return torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    except RuntimeError as error:  # cut or removed since
        raise ValueError(str(error).splitlines()[0]) from None


def read_sealed(content: Tensor, name: str, *, check: bool) -> dict[str, Tensor]:
    """The tensors in a sealed file's bytes, as views. Raises ValueError for a damaged one.

    `check` computes the checksum.

    The layout is safetensors': the header's length in 8 bytes, the header in JSON, the numbers.
    """
    size = int.from_bytes(content[:8].numpy().tobytes(), "little")
    if size > len(content) - 8:
        raise ValueError(f"its header should have {size} bytes, the file has {len(content)}")
    header = content[8 : 8 + size].numpy().tobytes()
    if check:
        _check(content, header)
    fields = json.loads(header)
    if fields.pop("__metadata__")["name"] != name:
        raise ValueError("it is the entry of another document")
    body = content[8 + size :]
    return {
        key: body[slice(*field["data_offsets"])].view(_DTYPES[field["dtype"]]).view(field["shape"])
        for key, field in fields.items()
    }


def _check(content: Tensor, header: bytes) -> None:
    found = _CHECKSUM.search(header)
    if not found:
        raise ValueError("it carries no checksum")
    digest = hashlib.sha256(content[:8].numpy().data)
    digest.update(header[: found.start(1)] + _UNSET.encode() + header[found.end(1) :])
    digest.update(content[8 + len(header) :].numpy().data)
    if digest.hexdigest() != found[1].decode():
        raise ValueError("its checksum does not match")


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Errors of the file system as ours, naming the index."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise full(folder) from error
        raise IndexFolderError(
            f"{folder} cannot be written: {error}.", "Check that the folder is yours to change."
        ) from error


def full(folder: Path) -> DiskFullError:
    """The disk has no room."""
    return DiskFullError(
        f"The disk is full: {folder} could not grow.",
        "What was indexed before is kept. Free some space, or index with --precision int8 or"
        " features into another folder, and run the same command again: it goes on from here.",
    )


def _unlink(path: Path) -> int:
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
