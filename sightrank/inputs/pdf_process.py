"""The process that reads PDFs for this one: started when first asked, and again when it ended."""

from __future__ import annotations

import atexit
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from sightrank.errors import SightrankError
from sightrank.inputs import pdfium
from sightrank.inputs.files import MIB
from sightrank.inputs.pdfium import FrameTooLargeError, Header, read_frame, write_frame

_START_SECONDS = 60.0
_GOODBYE_SECONDS = 5.0
_KEPT_BYTES = 256 * MIB  # an idle process that holds more is not worth its start
_LONGEST_SECONDS = 1e6  # what the system's timers take


@dataclass(frozen=True)
class Work:
    """What is asked of the process, and what it may take."""

    request: Header
    content: bytes
    seconds: float
    """For opening the PDF, and again for the rest."""
    memory: int
    """Bytes that the process may hold, the PDF among them."""
    max_reply: int
    """Bytes of an answer."""


class Ended(Exception):  # noqa: N818 - no error until the caller says of what
    """The process ended, or was ended, before it had answered.

    `reason` is "time", "memory", "reply" (larger than allowed) or what else there is to say. `pages`
    is the number of pages, or None if the PDF was not open yet.
    """

    def __init__(self, reason: str, pages: int | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pages = pages


class PdfProcess:
    """One process that reads PDFs, for all threads: they take turns.

    It is started by the first question, answers many, and is ended with this one. A process forked
    from this one starts its own.
    """

    def __init__(self) -> None:
        self._registered = False
        self._turn = threading.Lock()
        self._starting = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, work: Work) -> tuple[Header, bytearray]:
        """The last frame of the answer, {"opened": number of pages} added to its header.

        Raises Ended, or SightrankError where no process can be started. Where a process ends that
        had been used before, the question goes to a fresh one once more: what was left from
        earlier PDFs, or whoever ended it, must not count against this one.
        """
        with self._turn:
            used = self._child is not None
            try:
                return self._ask(work)
            except Ended as ended:
                if ended.reason in ("time", "reply") or not used:
                    raise
            return self._ask(work)

    def close(self) -> None:
        """End the process, if there is one; the next question starts another."""
        with self._turn:
            if self._child is not None:
                self._end(self._child)

    @property
    def pid(self) -> int | None:
        """The process's number, None unless there is one that answers."""
        return None if self._child is None else self._child.pid

    def _ask(self, work: Work) -> tuple[Header, bytearray]:
        child = self._child or self._start()
        pages: int | None = None
        overdue = threading.Event()
        seconds = min(work.seconds, _LONGEST_SECONDS)
        try:
            with _kill_after(child, seconds, overdue):
                give_up = 2 * max(0.0, seconds) + _GOODBYE_SECONDS
                limits = {"memory": work.memory, "kept": _KEPT_BYTES, "give_up": give_up}
                write_frame(_pipe(child.stdin), work.request | limits, work.content)
                header, body = read_frame(_pipe(child.stdout), work.max_reply)
            if "opened" in header:
                pages = int(header["opened"])
                with _kill_after(child, seconds, overdue):
                    header, body = read_frame(_pipe(child.stdout), work.max_reply)
            if "opened" in header or overdue.is_set():
                raise EOFError
            if header.get("full"):
                self._end(child)
            return header | {"opened": pages}, body
        except (OSError, EOFError) as error:
            status = self._end(child)
            reason = "time" if overdue.is_set() else _said(status)
            raise Ended(reason, pages) from error
        except FrameTooLargeError as error:
            self._end(child)
            raise Ended("reply", pages) from error
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            self._end(child)  # whoever made the PDF may have got hold of it
            raise Ended("it gave no answer", pages) from error
        except BaseException:
            self._end(child)  # its answer would be taken for the next question's
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        if not self._registered:
            self._registered = True
            atexit.register(self._at_exit)
            if hasattr(os, "register_at_fork"):
                # No fork may happen while the pipes are made: the other process would keep them
                # open, and the end of the reading process would go unnoticed.
                os.register_at_fork(
                    before=lambda: self._starting.acquire(),
                    after_in_parent=lambda: self._starting.release(),
                    after_in_child=self._forked,
                )
        try:
            with self._starting:
                child = subprocess.Popen(
                    _command(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
        except (OSError, ValueError) as error:
            raise _no_start(str(error)) from error
        try:
            with _kill_after(child, _START_SECONDS, threading.Event()):
                _await_ready(_pipe(child.stdout))
                header, _ = read_frame(_pipe(child.stdout), 0)
        except (OSError, EOFError, FrameTooLargeError, ValueError) as error:
            raise _no_start(f"it ended ({_said(self._end(child))})") from error
        except BaseException:
            self._end(child)
            raise
        if "ready" not in header:
            self._end(child)
            raise _no_start(str(header.get("detail")))
        self._child = child
        return child

    def _end(self, child: subprocess.Popen[bytes]) -> int | None:
        """End a process; its exit status, which is its own if it was ending already."""
        self._child = None
        child.kill()
        for pipe in (child.stdin, child.stdout):
            _pipe(pipe).close()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_GOODBYE_SECONDS)
        return child.returncode

    def _at_exit(self) -> None:
        # Without waiting for a turn: a thread that is still reading a PDF goes down with us.
        child = self._child
        if child is not None:
            child.kill()
            with suppress(subprocess.TimeoutExpired):
                child.wait(_GOODBYE_SECONDS)

    def _forked(self) -> None:
        """Let go, in the forked process, of what is the other's."""
        if self._child is not None:
            for pipe in (self._child.stdin, self._child.stdout):
                _pipe(pipe).close()
            self._child.returncode = 0  # it is not ours to wait for
        self._turn, self._starting, self._child = threading.Lock(), threading.Lock(), None


def _command() -> list[str]:
    if not sys.executable:
        raise ValueError("sys.executable names no Python")
    found = importlib.util.find_spec("pypdfium2")
    folders = [str(Path(found.origin).parents[1])] if found and found.origin else []
    # -P: a module in the user's folder must not be taken for one of the standard library's.
    return [sys.executable, "-P", "-W", "ignore", str(Path(pdfium.__file__)), *folders]


@contextmanager
def _kill_after(
    child: subprocess.Popen[bytes], seconds: float, overdue: threading.Event
) -> Iterator[None]:
    """Kill `child` and set `overdue` unless the block is done in time. Ends any wait on a pipe."""

    def kill() -> None:
        overdue.set()
        child.kill()

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _await_ready(stream: BinaryIO) -> None:
    """Skip what start-up files print. Raises EOFError where nothing follows."""
    seen = b""
    while not seen.endswith(pdfium.READY):
        byte = stream.read(1)
        if not byte:
            raise EOFError
        seen = seen[-len(pdfium.READY) :] + byte


def _pipe(stream: IO[bytes] | None) -> BinaryIO:
    assert stream is not None  # all were asked for
    return cast(BinaryIO, stream)


def _said(status: int | None) -> str:
    if status == pdfium.OUT_OF_MEMORY:
        return "memory"
    if status is not None and status < 0:
        with suppress(ValueError):
            return signal.Signals(-status).name
    return f"status {status}"


def _no_start(reason: str) -> SightrankError:
    return SightrankError(
        f"The process that reads PDFs does not start: {reason}.",
        f"Try `{sys.executable or 'python'} -c 'import pypdfium2'`.",
    )
