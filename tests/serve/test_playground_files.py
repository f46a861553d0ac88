"""What the playground's routes give: its own files to anybody, and nothing else."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from sightrank.serve.playground.page import HERE, files
from sightrank.serve.settings import Settings
from tests.serve.conftest import Client
from tests.serve.test_faults import Ledger

Ask = Callable[..., Any]
ROOT = Path(__file__).parents[2]
STRICT = {"default-src 'none'", "script-src 'self'", "form-action 'none'", "base-uri 'none'"}


def test_anybody_gets_the_page_and_its_files_under_a_strict_policy(ask: Ask) -> None:
    async def test(client: Client) -> None:
        wrong = {"Authorization": "Bearer wrong"}
        for path in ("/", *(f"/playground/{name}" for name in files())):
            answer = await client.get(path, headers=wrong)
            assert answer.status_code == 200
            policy = set(answer.headers["content-security-policy"].split("; "))
            assert policy >= STRICT and "unsafe" not in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            known = {"If-None-Match": answer.headers["etag"]}
            again = await client.get(path, headers=known)
            assert (again.status_code, again.content) == (304, b"")
        body = {"query": "a", "documents": ["b"]}
        for path in ("/v1/rank", "/v1/explain"):
            assert (await client.post(path, json=body, headers=wrong)).status_code == 401

    ask(test, access=Ledger())


@pytest.mark.parametrize(
    "path",
    [
        *("page.py", "__init__.py", "ATTRIBUTION.md", "examples", "examples/soup.webp", ""),
        *("../app.py", "..%2fapp.py", "%2e%2e/app.py", "....//app.py", "%2fetc%2fpasswd"),
        *("index.html%00.css", "/etc/passwd", "..\\app.py", "INDEX.HTML"),
    ],
)
def test_no_path_leads_to_another_file(ask: Ask, path: str) -> None:
    async def test(client: Client) -> None:
        answer = await client.get(f"http://test/playground/{path}")
        assert answer.status_code == 404
        assert answer.json()["code"] == "RESOURCE_NOT_FOUND"

    ask(test)


def test_it_can_be_left_out(ask: Ask) -> None:
    async def test(client: Client) -> None:
        for path in ("/", "/playground/app.js", "/playground/facts"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get("/health")).status_code == 200

    ask(test, settings=Settings(playground=False))


def test_the_facts_name_no_folder_of_the_machine(ask: Ask) -> None:
    async def test(client: Client) -> None:
        answer = await client.get("/playground/facts")
        assert "/" not in answer.text
        assert answer.json()["key"] is False

    ask(test)


def test_the_page_names_only_files_that_are_there() -> None:
    there = files()
    page = there["index.html"].content.decode()
    named = set(re.findall(r'(?:href|src)="/playground/([^"]+)"', page))
    for name, file in there.items():
        if name.endswith(".js"):
            named |= set(re.findall(r'from "\./([^"]+)"', file.content.decode()))
    examples = json.loads(there["examples.json"].content)
    for example in examples:
        parts = [example["query"], *example["documents"]]
        named |= {part["file"] for part in parts if "file" in part}
    assert named | {"index.html", "examples.json"} == set(there)
    assert not re.search(r"(?:href|src)=\"(?:https?:)?//", page)


def test_all_of_it_is_small_packed_and_attributed() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = built["tool"]["setuptools"]["package-data"]["sightrank"]
    told = (HERE / "examples" / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for path in (path for path in HERE.rglob("*") if path.is_file() and path.suffix != ".py"):
        if "__pycache__" in path.parts:
            continue
        name = path.relative_to(ROOT / "sightrank").as_posix()
        assert any(fnmatch(name, pattern) for pattern in patterns), name
        if path.suffix in (".webp", ".pdf") and not path.stem.endswith("-torn"):
            assert path.name in told
    assert sum(len(file.content) for file in files().values()) < 200_000
