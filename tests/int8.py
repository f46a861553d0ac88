"""Where int8 can be tested."""

from __future__ import annotations

import pytest

from sightrank.model.quantize import has_dot_products

NEEDS_INT8 = pytest.mark.skipif(
    not has_dot_products(), reason="this processor has no dot products of bytes"
)


def here(dtype: str) -> bool:
    """Whether a model of this dtype runs on this machine."""
    return dtype != "int8" or has_dot_products()
