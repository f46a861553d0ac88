"""What keys may do: tokens to begin with, limits a minute, and how long a reservation holds."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sightrank.errors import OptionError

FREE_TOKENS = 1_000_000
"""What a new key may use before anything is granted to it."""
MOST = 2**31 - 1
"""The largest limit that the database holds."""


@dataclass(frozen=True)
class Limits:
    """What a key may do at once. None: the server's own limit; 0: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    """Requests under way at the same time."""

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            if not 0 <= value <= MOST:
                raise OptionError(
                    f"{name} is {value}.", f"Give a number up to {MOST}, or 0 for no limit."
                )

    def given(self) -> dict[str, int]:
        """The limits that are numbers, by name."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if value is not None}

    def over(self, other: Limits) -> Limits:
        """These limits, and those of `other` where these are None."""
        return Limits(**{**other.given(), **self.given()})


@dataclass(frozen=True)
class Policy:
    """What holds for all keys of a server that have no number of their own."""

    limits: Limits = Limits(requests_per_minute=500, tokens_per_minute=1_000_000, concurrency=50)
    hold_seconds: float = 120.0
    """How long a reservation that nobody settles or releases holds its tokens and its place.

    It must be longer than a request may take: what a dead server had under way holds this long,
    and what is settled later is charged all the same.
    """
