"""Text files read line by line: whatever is wrong in them is named by file and line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from sightrank.errors import InputError

T = TypeVar("T")


def read_lines(path: Path, parse: Callable[[int, str], T], layout: str) -> Iterator[T]:
    """`parse(number, line)` of every line that is not blank; numbers count from 1.

    A ValueError of `parse` becomes an InputError with file and line. `layout` says what a line
    should look like and is the error's hint. Files are UTF-8, with or without a byte order mark.
    """
    try:
        content = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", layout) from None
    with content:
        for number, line in enumerate(content, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    yield parse(number, text)
            except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
                raise InputError(f"{path}, line {number}: {reason(error)}.", layout) from None


def reason(error: ValueError) -> str:
    """What is wrong with a line, without a full stop at its end."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} is not UTF-8"
    return str(error).rstrip(".")
