"""The requests in docs/serving.md are answered."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sightrank.serve.settings import Settings
from tests.serve.conftest import Client

SERVING = Path(__file__).parents[2] / "docs" / "serving.md"
CALL = re.compile(r"curl -s http://127\.0\.0\.1:8080(\S+) .*? -d '(.*?)'", re.DOTALL)


def test_the_requests_that_are_written_about_are_answered(
    ask: Callable[..., Any], tmp_path: Path
) -> None:
    calls = CALL.findall(SERVING.read_text(encoding="utf-8"))

    async def test(client: Client) -> None:
        for path, body in calls:
            answer = await client.post(path, json=json.loads(body))
            assert answer.status_code == 200, (path, answer.text)

    ask(test, settings=Settings(data=tmp_path))
    assert {path for path, _ in calls} == {
        *("/v1/rerank", "/v2/rerank", "/cohere/v1/rerank", "/rerank", "/score"),
        *("/v1/documents", "/v1/rank", "/v1/explain"),
    }
