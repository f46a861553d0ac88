"""How a server is run, decided once when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sightrank.errors import OptionError
from sightrank.serve.fetch import FetchLimits

MIB = 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """Limits of a server."""

    max_body: int = 32 * MIB
    """Bytes of a request."""
    body_seconds: float = 30.0
    """In which a request must have arrived."""
    queue: int = 256
    """Requests that may be under way or wait; one key may have half of them."""
    deadline: float = 60.0
    """Seconds in which a request is answered."""
    passes: int | None = None
    """Of the model at once; None: as many as fill the processor, and 1 on a GPU."""
    data: Path | None = None
    """Folder of indexed documents; None: none are kept here."""
    fetch: FetchLimits = field(default_factory=FetchLimits)
    playground: bool = True
    """Answer `/` with the page to try the model."""

    def __post_init__(self) -> None:
        for name in ("max_body", "body_seconds", "queue", "deadline", "passes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise OptionError(f"{name} is {value!r}.", "It must be more than 0.")
