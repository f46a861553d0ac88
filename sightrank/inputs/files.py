"""Limits under which files are read, and reading them with errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sightrank.errors import EmptyInputError, InputError, TooLargeError, UnsupportedInputError

MIB = 1024 * 1024


@dataclass(frozen=True)
class FileLimits:
    """What is read at most; beyond it stands TooLargeError."""

    max_file_bytes: int = 200 * MIB
    """Bytes of an image or PDF, in a file or in memory."""
    max_image_pixels: int = 200_000_000
    """Width times height of an image, checked on its header before anything is decoded."""
    max_text_bytes: int = 10 * MIB
    """Bytes of a text in UTF-8, in a file or in memory."""
    max_pdf_pages: int = 2000
    """Pages of one PDF read as one document."""
    max_pdf_seconds: float = 20.0
    """Seconds that opening a PDF may take, and again each page of it."""
    max_pdf_memory_bytes: int = 2048 * MIB
    """Memory of the process that opens a PDF and draws its pages, the PDF's own bytes among it.

    Held where the system tells what a process holds, which Windows does not.
    """


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put `name` in front of the messages of input errors that do not hold it already."""
    try:
        yield
    except InputError as error:
        if name in error.message:
            raise
        raise type(error)(f"{name}: {error.message}", error.hint) from error


def check_size(size: int, limit: int, kind: str) -> None:
    """Raise EmptyInputError for 0 bytes, TooLargeError for more than `limit`."""
    if size == 0:
        raise EmptyInputError(f"The {kind} has 0 bytes.", "Leave it out or give its content.")
    if size > limit:
        raise TooLargeError(
            f"The {kind} has {size:,} bytes, allowed are {limit:,}.",
            "Make it smaller or raise the limit in FileLimits.",
        )


def check_file(path: Path, limit: int, kind: str) -> None:
    """Raise an InputError unless `path` is a readable file of 1 to `limit` bytes."""
    with _reading(path):
        if path.is_dir():
            raise InputError(
                f"{path} is a directory, expected is a file of {kind}.", "Give the files in it."
            )
        status = path.stat()
        if not path.is_file():
            raise UnsupportedInputError(f"{path} is not a regular file.", "Copy it to a file.")
        with path.open("rb"):
            pass
    with naming(str(path)):
        check_size(status.st_size, limit, kind)


def read_file(path: Path, limit: int, kind: str) -> bytes:
    """The bytes of a file; raises as `check_file` does."""
    check_file(path, limit, kind)
    with _reading(path), path.open("rb") as file:
        content = file.read(limit + 1)
    with naming(str(path)):
        check_size(len(content), limit, kind)  # it may have grown since
    return content


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.", "Check the path.") from None
    except PermissionError:
        raise InputError(f"{path} may not be read.", "Change its permissions.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{str(path)!r} cannot be read: {reason}.", "Check the path.") from error
