"""Small PDFs that take PDFium minutes, gigabytes or for ever."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence

import PIL.Image


def drawn_by_itself() -> bytes:
    """A form that draws itself twice: 2 to the power of whatever depth PDFium goes to."""
    return _page(b"/F Do", _forms(5), [_form(b"/F Do /F Do", _forms(5))])


def nested(levels: int = 8, times: int = 10) -> bytes:
    """Forms that each draw the next one several times: times ** levels lines."""
    inner = [_form(b"/F Do " * times, _forms(number)) for number in range(6, 5 + levels)]
    return _page(b"/F Do " * times, _forms(5), [*inner, _form(b"0 0 m 9 9 l S", b"")])


def lines(count: int = 2_000_000) -> bytes:
    """Many lines in a stream that packs well."""
    return _page(b"0 0 m 300 200 l S\n" * count, b"", [])


def picture(side: int = 1100) -> bytes:
    """A red page: a JPEG 2000 picture that PDFium decodes whole, in large allocations."""
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (side, side), "red").save(buffer, "JPEG2000")
    entries = f"/Type /XObject /Subtype /Image /Width {side} /Height {side} /Filter /JPXDecode"
    colours = " /ColorSpace /DeviceRGB /BitsPerComponent 8"
    image = _stream(buffer.getvalue(), (entries + colours).encode())
    return _page(b"q 300 0 0 300 0 0 cm /F Do Q", _forms(5), [image])


def _forms(number: int) -> bytes:
    return b"/XObject << /F %d 0 R >>" % number


def _form(content: bytes, resources: bytes) -> bytes:
    entries = b"/Type /XObject /Subtype /Form /BBox [0 0 300 300] /Resources << %s >>"
    return _packed(content, entries % resources)


def _page(content: bytes, resources: bytes, more: Sequence[bytes]) -> bytes:
    return _assembled(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents 4 0 R"
            b" /Resources << %s >> >>" % resources,
            _packed(content, b""),
            *more,
        ]
    )


def _packed(content: bytes, entries: bytes) -> bytes:
    return _stream(zlib.compress(content, 9), entries + b" /Filter /FlateDecode")


def _stream(content: bytes, entries: bytes) -> bytes:
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (entries, len(content), content)


def _assembled(objects: Sequence[bytes]) -> bytes:
    content, offsets = b"%PDF-1.5\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    rows = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    table = b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, rows)
    trailer = b"trailer << /Root 1 0 R /Size %d >>" % (len(objects) + 1)
    return content + table + trailer + b"\nstartxref\n%d\n%%%%EOF\n" % len(content)
