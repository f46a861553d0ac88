"""Packages that training needs beyond the base install."""

from __future__ import annotations

from importlib.util import find_spec

from sightrank.errors import MissingExtraError

NEEDED = ("accelerate", "ir_measures", "matplotlib", "peft", "tensorboard")


def require() -> None:
    """Raise MissingExtraError unless all are installed: better before the work than after."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"Training needs {', '.join(missing)}, which this Python does not have.",
            "pip install 'sightrank[train]'",
        )
