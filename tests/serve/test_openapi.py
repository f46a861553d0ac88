"""Requests that our own description allows, and some it does not: none is the server's fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis
import schemathesis

from sightrank import Reranker
from sightrank.serve.access import NoAccess
from sightrank.serve.app import create_app
from sightrank.serve.fetch import FetchLimits
from sightrank.serve.settings import Settings
from tests.serve.live import live

EXAMPLES = 4


def test_no_request_is_the_servers_fault(reranker: Reranker, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, fetch=FetchLimits(enabled=False))
    with live(create_app(reranker, NoAccess(), settings)) as url:
        description = schemathesis.openapi.from_url(f"{url}/openapi.json")
        tried: dict[str, int] = {}
        for found in description.get_all_operations():
            operation: Any = found.ok()  # type: ignore[union-attr]

            @hypothesis.settings(max_examples=EXAMPLES)
            @hypothesis.given(case=operation.as_strategy())
            def check(case: Any) -> None:
                answer = case.call()
                assert answer.status_code < 500, (case.as_curl_command(), answer.text)
                tried[case.operation.label] = tried.get(case.operation.label, 0) + 1

            check()
    assert len(tried) >= 18
