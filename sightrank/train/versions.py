"""Versions of all that a training ran with."""

from __future__ import annotations

import platform
from importlib.metadata import version

from sightrank._version import VERSION

PACKAGES = ("torch", "accelerate", "peft", "numpy", "safetensors", "tokenizers", "Pillow")


def versions() -> dict[str, str]:
    """Name -> version."""
    found = {name: version(name) for name in PACKAGES}
    return {"sightrank": VERSION, "python": platform.python_version(), **found}
