"""One JSON request to a service: timeouts, polite retries, no redirects, errors that say which."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from sightrank.errors import PeerError

BUSY = frozenset({429, 502, 503, 504})
"""Statuses that say "later"."""
TRIES = 4
LONGEST_WAIT = 30.0
"""Seconds between two tries at most, whatever the service asks for."""
LARGEST_ANSWER = 64 << 20
"""Bytes of an answer that are read."""


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would carry the key to a place that nobody named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none."""


def post_json(
    url: str,
    body: Any,
    key: str | None,
    timeout: float,
    key_name: str,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """The answer to `body`, decoded. `timeout`: seconds the service may be silent.

    A busy service is asked again, four times in all, after as long as it says. Raises PeerError.
    """
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = Request(url, json.dumps(body).encode(), headers, method="POST")
    opener = build_opener(_NoRedirect)
    for again in range(TRIES):
        try:
            with opener.open(request, timeout=timeout) as answer:
                return _decoded(url, answer.read(LARGEST_ANSWER + 1))
        except HTTPError as error:
            with error:
                if error.code not in BUSY or again + 1 == TRIES:
                    raise _refused(url, error, key_name) from None
                sleep(_wait(error.headers.get("Retry-After"), again))
        except TimeoutError:
            raise _silent(url, timeout) from None
        except (URLError, HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise _silent(url, timeout) from None
            raise PeerError(
                f"{url} cannot be reached: {reason or type(reason).__name__}.",
                "Check the URL, and that the service runs.",
            ) from None
    raise AssertionError("the last try returns or raises")


def _decoded(url: str, content: bytes) -> Any:
    if len(content) > LARGEST_ANSWER:
        raise PeerError(
            f"{url} answered more than {LARGEST_ANSWER} bytes.", "Try a shorter --depth."
        )
    try:
        return json.loads(content)
    except ValueError:
        raise PeerError(
            f"{url} answered no JSON: {content[:100]!r}", "Is it the rerank endpoint?"
        ) from None


def _refused(url: str, error: HTTPError, key_name: str) -> PeerError:
    said = error.read(500).decode("utf-8", "replace").strip()
    hints = {
        401: f"Set {key_name} to a key of this service.",
        403: f"Set {key_name} to a key that may do this.",
        404: "Name the rerank endpoint itself, such as https://host/v1/rerank.",
        429: "Wait, or evaluate fewer queries with --max-queries.",
    }
    redirect = "Name the address it redirects to." if 300 <= error.code < 400 else ""
    return PeerError(
        f"{url} answered {error.code} {error.reason}: {said or 'nothing more'}",
        hints.get(error.code, redirect),
    )


def _silent(url: str, timeout: float) -> PeerError:
    return PeerError(f"{url} was silent for {timeout:g} s.", "Allow more with --timeout SECONDS.")


def _wait(asked: str | None, again: int) -> float:
    try:
        seconds = float(asked) if asked is not None else 2.0**again
    except ValueError:  # a date
        seconds = 2.0**again
    return min(max(seconds, 0.0), LONGEST_WAIT)
