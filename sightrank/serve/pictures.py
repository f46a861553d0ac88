"""Pictures in answers: small ones of what was ranked, as data URIs."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sightrank.analysis.heatmap import shrunk
from sightrank.inputs.files import FileLimits
from sightrank.inputs.load import iter_load
from sightrank.types import Document, Image, Pdf

if TYPE_CHECKING:
    import PIL.Image

QUALITY = 85
Longest = Annotated[int | None, Field(ge=16, le=2048)]
"""Pixels of a picture's longer side."""


def thumbnail(document: Document, longest: int, limits: FileLimits) -> str | None:
    """The first picture or page of a document, or None where it has none. Raises InputError."""
    seen = [part for part in document.parts if isinstance(part, (Image, Pdf))]
    if not seen:
        return None
    alone = Document((seen[0],), document.name)
    for picture in iter_load(alone, limits, max_pixels=longest * longest):
        assert not isinstance(picture, str), "an image became a text"
        return data_uri(shrunk(picture, longest))
    return None


def data_uri(image: PIL.Image.Image) -> str:
    """An RGB image as a JPEG."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")
