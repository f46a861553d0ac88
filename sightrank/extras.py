"""Optional packages, by the extra that brings them."""

from __future__ import annotations

from importlib.util import find_spec

from sightrank.errors import MissingExtraError


def require(extra: str, what: str, *packages: str) -> None:
    """Raise MissingExtraError unless all are installed: better before the work than after.

    `what`: a plural noun, for what needs them; `extra` installs them.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        plural = len(missing) > 1
        raise MissingExtraError(
            f"{what} need the package{'s' * plural} {' and '.join(missing)}, which"
            f" {'are' if plural else 'is'} not installed.",
            f"pip install 'sightrank[{extra}]'",
        )
