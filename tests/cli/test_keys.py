"""`sightrank keys`: a key is printed once and alone; the rest is for people or JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sightrank.cli import main


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "accounts.sqlite"
    monkeypatch.setenv("SIGHTRANK_DATABASE", str(file))
    return file


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["keys", *arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(*arguments) == 0
    return capsys.readouterr().out


def test_the_whole_way(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("create", "search team", "--tokens", "500", "--concurrency", "3") == 0
    output = capsys.readouterr()
    assert re.fullmatch(r"sr_[\w-]{43}\n", output.out), "the key alone, for $(...)"
    secret = output.out.strip()
    assert "search team" in output.err and secret not in output.err
    assert database.is_file()

    (key,) = json.loads(printed(capsys, "list", "--json"))
    assert (key["name"], key["balance"], key["hint"]) == ("search team", 500, secret[-4:])
    assert key["limits"] == {
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "concurrency": 3,
    }
    assert secret not in json.dumps(key)

    assert "1,500 tokens left" in printed(capsys, "grant", key["id"], "1000")
    assert "any number of tokens a minute" in printed(
        capsys, "limit", key["id"], "--tokens-per-minute", "0"
    )
    table = printed(capsys, "list")
    assert re.search(rf"{key['id']} +search team +\.\.\.{re.escape(secret[-4:])} +0 +1,500", table)
    assert json.loads(printed(capsys, "revoke", secret, "--json"))["revoked"]
    assert "revoked" in printed(capsys, "list")


def test_create_as_json_has_the_key(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = json.loads(printed(capsys, "create", "ci", "--json"))
    assert made["key"].endswith(made["hint"]) and made["granted_tokens"] == 1_000_000


def test_an_option_names_another_database(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(tmp_path / "other.sqlite")
    printed(capsys, "create", "ci", "--database", other)
    assert json.loads(printed(capsys, "list", "--json")) == []
    assert len(json.loads(printed(capsys, "list", "--json", "--database", other))) == 1


def test_no_keys_yet(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    output = capsys.readouterr()
    assert output.out == "" and "keys create" in output.err


def test_pruning_says_how_much(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed(capsys, "prune", "--days", "1", "--json")) == {"removed": 0}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["revoke", "key_none"], "No key has the id 'key_none'"),
        (["grant", "key_none", "5"], "sightrank keys list"),
        (["create", "a\nb"], "1 to 100 printable characters"),
        (["list", "--database", "mysql://h/d"], "of kind mysql"),
        (["list", "--database", "/nowhere/at/all.sqlite"], "cannot be made"),
        (["create", "a", "--tokens", "9" * 18], "cannot be added"),
        (["create", "a", "--concurrency", str(2**31)], "concurrency is"),
    ],
)
def test_errors_say_what_to_do(
    database: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(*arguments) == 1
    output = capsys.readouterr()
    assert said in output.err and output.out == "" and "Traceback" not in output.err


@pytest.mark.parametrize("arguments", [["grant", "key_x", "0"], ["create"], ["nothing"]])
def test_wrong_usage(database: Path, arguments: list[str]) -> None:
    assert run(*arguments) == 2


@pytest.mark.parametrize("command", ["create", "list", "revoke", "grant", "limit", "prune"])
def test_help_opens_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        f"sightrank keys {command}" in printed(capsys, command, "--help").split("Options")[0][80:]
    )
