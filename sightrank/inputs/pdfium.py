"""The process in which PDFium runs: it answers requests on standard input until that ends.

PDFium cannot be interrupted, and a hostile PDF can make it loop, crash or take all memory; in a
process of its own that ends only this process. `pdf_process.py` starts this file and talks to it.
It is run as a file and imports nothing of ours: it starts as fast as PDFium's bindings, and it is
the same code whatever the parent did to its module path, its `__main__` or its directory.

A frame is two sizes, a JSON object and bytes. A request says what to `do` with the PDF at `path`
or, where that is null, in the frame's bytes. It is answered by {"opened": number of pages} and
{"done": true, ...}, or at any point by {"failed": kind, ...}; "full" says that the process holds
more than is to be "kept" for the next request.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import math
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

if TYPE_CHECKING:
    import pypdfium2

READY = b"sightrank reads PDFs here\n"
"""Written before the first frame, after whatever a start-up file may have printed."""
OUT_OF_MEMORY = 86
"""The exit status that says so."""
MAX_OUTLINE_ENTRIES = 10_000
_SIZES = struct.Struct(">IQ")
_MAX_HEADER = 1 << 20
_LARGEST_ALLOCATION = 1 << 31  # PDFium asks for no more at once
_GLANCE_SECONDS = 0.01
_UNITS = 100

Header: TypeAlias = dict[str, Any]
Frame: TypeAlias = tuple[Header, "bytes | bytearray | memoryview"]


class FrameTooLargeError(Exception):
    """A frame that announces more bytes than its reader allows."""


def write_frame(stream: BinaryIO, header: Header, body: bytes | bytearray | memoryview) -> None:
    """Write all of a frame to an unbuffered stream. Raises OSError where nobody reads it."""
    text = json.dumps(header).encode()
    for piece in (_SIZES.pack(len(text), len(body)) + text, body):
        rest = memoryview(piece)
        while rest:
            rest = rest[stream.write(rest) :]


def read_frame(stream: BinaryIO, max_body: int) -> tuple[Header, bytearray]:
    """Read a frame from an unbuffered stream.

    Raises EOFError where the stream ends, FrameTooLargeError before anything large is allocated,
    ValueError for what is no frame.
    """
    header_size, body_size = _SIZES.unpack(_exactly(stream, _SIZES.size))
    if header_size > _MAX_HEADER or body_size > max_body:
        raise FrameTooLargeError
    header = json.loads(_exactly(stream, header_size))
    if not isinstance(header, dict):
        raise ValueError("a frame's header is no object")
    return header, _exactly(stream, body_size)


def _exactly(stream: BinaryIO, size: int) -> bytearray:
    content = bytearray(size)
    rest = memoryview(content)
    while rest:
        count = stream.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        rest = rest[count:]
    return content


def answer(request: Header, content: bytearray) -> Iterator[Frame]:
    """The frames that answer a request; their bytes are valid until the next is asked for."""
    import pypdfium2

    try:
        handle = _open(request["path"], content)
        if not handle:
            codes = (pypdfium2.raw.FPDF_ERR_PASSWORD, pypdfium2.raw.FPDF_ERR_SECURITY)
            locked = pypdfium2.raw.FPDF_GetLastError() in codes
            yield {"failed": "password" if locked else "damaged"}, b""
            return
        with closing(pypdfium2.PdfDocument(handle)) as document:
            document.init_forms()  # or filled fields would be drawn empty
            yield {"opened": len(document)}, b""
            if request["page"] is None or 1 <= request["page"] <= len(document):
                yield from _ACTIONS[request["do"]](document, request)
            else:
                yield {"failed": "page"}, b""
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except Exception as error:  # PdfiumError, and whatever else the bytes lead its bindings to
        yield {"failed": "unreadable", "detail": str(error) or type(error).__name__}, b""


def _open(path: str | None, content: bytearray) -> Any:
    # PdfDocument(source) would treat a PDF without pages as unreadable, for the reason that the
    # last PDF before it had.
    from pypdfium2 import raw

    if path is not None:
        return raw.FPDF_LoadDocument(path.encode("utf-8", "surrogateescape"), None)
    buffer = (ctypes.c_char * len(content)).from_buffer(content)
    return raw.FPDF_LoadMemDocument64(buffer, len(content), None)


def _count(document: pypdfium2.PdfDocument, request: Header) -> Iterator[Frame]:
    yield {"done": True}, b""


def _draw(document: pypdfium2.PdfDocument, request: Header) -> Iterator[Frame]:
    with closing(document[request["page"] - 1]) as page:
        width, height = page.get_size()  # in points, rotation applied
        if not 0 < max(width, height) <= request["max_ratio"] * min(width, height):
            yield {"failed": "shape", "width": width, "height": height}, b""
            return
        fit = math.sqrt(request["pixels"] / (width * height))
        scale = request["oversampling"] * min(fit, request["max_scale"])
        with closing(page.render(scale=scale, rev_byteorder=True)) as bitmap:
            size = {"width": bitmap.width, "height": bitmap.height}
            form = {"mode": bitmap.mode, "stride": bitmap.stride}
            yield {"done": True} | size | form, memoryview(bitmap.buffer).cast("B")


def _text(document: pypdfium2.PdfDocument, request: Header) -> Iterator[Frame]:
    with closing(document[request["page"] - 1]) as page, closing(page.get_textpage()) as layer:
        text = str(layer.get_text_bounded())
    yield {"done": True}, text.encode("utf-8", "replace")


def _words(document: pypdfium2.PdfDocument, request: Header) -> Iterator[Frame]:
    """Words with their boxes on the page as it is shown: rotated and cropped, y downwards."""
    with closing(document[request["page"] - 1]) as page, closing(page.get_textpage()) as layer:
        width, height = page.get_size()
        words: list[list[Any]] = []
        inside = False
        for char, box in _characters(page, layer, width, height):
            if box is None:
                inside = False
            elif inside:
                words[-1] = [words[-1][0] + char, *_around(words[-1][1:], box)]
            else:
                words.append([char, *box])
                inside = True
    yield {"done": True, "width": width, "height": height}, json.dumps(words).encode()


def _characters(
    page: pypdfium2.PdfPage, layer: pypdfium2.PdfTextPage, width: float, height: float
) -> Iterator[tuple[str, list[float] | None]]:
    """Characters of the text layer; those that print nothing have no box."""
    from pypdfium2 import raw

    x, y = ctypes.c_int(), ctypes.c_int()
    sides = tuple(ctypes.c_double() for _ in range(4))
    # PDFium tells places on the page in whole units; these are hundredths of a point.
    size = (round(width * _UNITS), round(height * _UNITS))
    for index in range(layer.count_chars()):
        code = raw.FPDFText_GetUnicode(layer, index)
        char = chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
        left, right, bottom, top = sides
        found = raw.FPDFText_GetCharBox(layer, index, left, right, bottom, top)
        if not found or char.isspace() or code in (2, 0xFFFE):
            yield char, None
            continue
        corners = []
        for across, up in ((left, top), (right, bottom)):
            raw.FPDF_PageToDevice(page, 0, 0, *size, 0, across.value, up.value, x, y)
            corners.append((x.value / _UNITS, y.value / _UNITS))
        yield char, _around([*corners[0], *corners[0]], [*corners[1], *corners[1]])


def _around(one: list[float], two: list[float]) -> list[float]:
    low = [min(one[0], two[0], one[2], two[2]), min(one[1], two[1], one[3], two[3])]
    return [*low, max(one[0], two[0], one[2], two[2]), max(one[1], two[1], one[3], two[3])]


def _outline(document: pypdfium2.PdfDocument, request: Header) -> Iterator[Frame]:
    entries: list[tuple[str, int, int | None]] = []
    for bookmark in document.get_toc():
        target = bookmark.get_dest()
        index = None if target is None else target.get_index()
        page = None if index is None or index < 0 else index + 1
        entries.append((bookmark.get_title().strip(), bookmark.level, page))
        if len(entries) == MAX_OUTLINE_ENTRIES:
            break
    yield {"done": True}, json.dumps(entries).encode()


_ACTIONS: dict[str, Callable[[pypdfium2.PdfDocument, Header], Iterator[Frame]]] = {
    "count": _count,
    "draw": _draw,
    "text": _text,
    "words": _words,
    "outline": _outline,
}


class MemoryWatch(threading.Thread):
    """Ends the process with OUT_OF_MEMORY when it holds more than `limit` bytes.

    A limit of the system alone would not do: PDFium leaves out a picture that it finds no memory
    for, and says nothing. So the system's limit lies above ours by what PDFium asks for at most at
    once, and holds only what is too fast to be seen in between. PDFium runs without the
    interpreter's lock, so this thread runs beside it.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._measure = _memory_meter()
        self._limit = 0
        self._working = threading.Event()

    def begin(self, limit: int) -> None:
        """Hold `limit` until `end`."""
        self._limit = limit
        _limit_data(limit + _LARGEST_ALLOCATION)
        self._working.set()

    def exceeds(self, size: int) -> bool:
        """Whether the process holds more bytes than that now."""
        return self._measure is not None and self._measure() > size

    def end(self) -> None:
        """Rest; an idle process should not wake up."""
        self._working.clear()

    def run(self) -> None:
        """Glance at the memory while there is work."""
        while self._measure is not None:
            self._working.wait()
            if self.exceeds(self._limit):
                os._exit(OUT_OF_MEMORY)
            time.sleep(_GLANCE_SECONDS)


def _memory_meter() -> Callable[[], int] | None:
    """Bytes that this process holds; None where the system (Windows) offers no way to tell."""
    statm = Path("/proc/self/statm")
    if sys.platform == "linux" and statm.exists():
        file, page = os.open(statm, os.O_RDONLY), os.sysconf("SC_PAGE_SIZE")
        return lambda: int(os.pread(file, 200, 0).split()[5]) * page  # private and writable
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    inherited = peak()  # some systems count what the parent held when it started this process
    return lambda: found if (found := peak()) > inherited else 0


def _limit_data(size: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
    with suppress(OSError, ValueError, OverflowError):  # some systems do not let it be set
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """(requests, replies), out of reach of anything that prints."""
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    return os.fdopen(os.dup(0), "rb", buffering=0), replies


def main() -> None:
    """Answer until standard input ends, which it does with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    requests, replies = _take_pipes()
    replies.write(READY)
    try:
        import pypdfium2  # noqa: F401
    except Exception as error:
        write_frame(replies, {"failed": "start", "detail": str(error)}, b"")
        return
    os.chdir(os.sep)  # the folder where the user happened to be may be removed
    write_frame(replies, {"ready": True}, b"")
    watch = MemoryWatch()
    watch.start()
    with suppress(EOFError, BrokenPipeError), Path(os.devnull).open("w") as nowhere:
        while True:
            request, content = read_frame(requests, sys.maxsize)
            # The parent ends this process in time; this is for when the parent is gone.
            faulthandler.dump_traceback_later(request["give_up"], exit=True, file=nowhere)
            watch.begin(request["memory"])
            for header, body in answer(request, content):
                full = watch.exceeds(request["kept"])  # PDFium gives little of it back
                write_frame(replies, header | {"full": full}, body)
            watch.end()
            faulthandler.cancel_dump_traceback_later()
            del content


if __name__ == "__main__":
    sys.path += sys.argv[1:]  # where the parent finds PDFium, should it not be found otherwise
    main()
