"""PDFs of one page with a text layer, for benchmarks."""

from __future__ import annotations

import io
import random
import textwrap

from PIL import Image


def misread(text: str, rng: random.Random) -> str:
    """One letter in a hundred wrong, as of a reader of scans."""
    return "".join(
        rng.choice("abcdefghij") if each.isalpha() and rng.random() < 0.01 else each
        for each in text
    )


def pdf(picture: Image.Image, layer: str) -> bytes:
    """A PDF of one page that shows a picture, with unseen text behind it."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    width, height = picture.size
    rows = [each.encode("cp1252", "replace").hex() for each in textwrap.wrap(layer, 80)]
    shown = " ".join(f"<{row}> Tj T*" for row in rows)
    drawing = (
        f"q {width} 0 0 {height} 0 0 cm /I Do Q BT /F 6 Tf 3 Tr 7 TL 9 {height - 9} Td {shown} ET"
    )
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {width} {height}]/Contents 4 0 R"
        "/Resources<</XObject<</I 5 0 R>>/Font<</F 6 0 R>>>>>>".encode(),
        stream(b"", drawing.encode()),
        stream(
            f"/Type/XObject/Subtype/Image/Width {width}/Height {height}/ColorSpace/DeviceRGB"
            "/BitsPerComponent 8/Filter/DCTDecode".encode(),
            buffer.getvalue(),
        ),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    body, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    head = b"xref\n0 %d\n0000000000 65535 f \n" % size
    return (
        body
        + head
        + table
        + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF"
        % (
            size,
            len(body),
        )
    )


def stream(entries: bytes, content: bytes) -> bytes:
    """An object of a PDF that holds bytes."""
    return b"<<%b/Length %d>>\nstream\n%b\nendstream" % (entries, len(content), content)
