"""Keys are made, listed, revoked, granted and limited, and never kept."""

from __future__ import annotations

import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from sightrank.errors import OptionError
from sightrank.serve.database import Database, open_database
from sightrank.serve.keys import Keys, UnknownKeyError, digest
from sightrank.serve.limits import FREE_TOKENS, MOST, Limits, Policy
from sightrank.serve.tables import keys as table


def test_a_new_key_has_its_free_tokens(keys: Keys) -> None:
    key, secret = keys.create("  search team ")
    assert re.fullmatch(r"sr_[\w-]{43}", secret), "32 random bytes in base64"
    assert (key.name, key.hint) == ("search team", secret[-4:])
    assert key.granted == key.balance == FREE_TOKENS == 1_000_000
    assert (key.used, key.requests, key.revoked_at, key.last_used_at) == (0, 0, None, None)
    assert keys.listed() == [key]


def test_no_two_keys_are_alike(keys: Keys) -> None:
    made = [keys.create("same") for _ in range(20)]
    assert len({secret for _, secret in made}) == len({key.id for key, _ in made}) == 20
    assert {key.id for key in keys.listed()} == {key.id for key, _ in made}


def test_the_oldest_key_is_listed_first(database: Database) -> None:
    clock = iter((3.0, 1.0, 2.0))
    made = [Keys(database, lambda: next(clock)).create("team")[0].id for _ in range(3)]
    assert [key.id for key in Keys(database).listed()] == [made[1], made[2], made[0]]


def test_the_secret_is_nowhere_in_the_database(keys: Keys, database: Database) -> None:
    _, secret = keys.create("team")

    def rows(connection: Connection) -> str:
        return str([tuple(row) for row in connection.execute(select(table))])

    stored = database.read(rows)
    assert digest(secret) in stored
    assert not [secret[i : i + 5] for i in range(len(secret) - 4) if secret[i : i + 5] in stored]


def test_a_database_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "accounts.sqlite"
    database = open_database(file)
    Keys(database).create("team")
    for path in (file, *tmp_path.glob("accounts.sqlite-*")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    database.close()


def test_revoking_is_by_id_or_by_the_key_itself(keys: Keys) -> None:
    (first, _), (second, secret) = keys.create("first"), keys.create("second")
    assert keys.revoke(first.id).revoked_at is not None
    revoked = keys.revoke(secret)
    assert (revoked.id, keys.revoke(second.id)) == (second.id, revoked), "the first time counts"


@pytest.mark.parametrize("reference", ["key_none", "sr_none", "", "\x00", "\ud800", "ключ"])
def test_an_unknown_key_is_a_typed_error(keys: Keys, reference: str) -> None:
    for change in (
        keys.revoke,
        lambda each: keys.grant(each, 1),
        lambda x: keys.limit(x, Limits()),
    ):
        with pytest.raises(UnknownKeyError, match="sightrank keys list"):
            change(reference)


def test_an_unknown_secret_is_not_repeated_in_the_error(keys: Keys) -> None:
    with pytest.raises(UnknownKeyError) as caught:
        keys.revoke("sr_a-secret-of-another-server")
    assert "another" not in str(caught.value)


def test_grants_at_the_same_time_all_count(keys: Keys) -> None:
    key, _ = keys.create("team", tokens=0)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda amount: keys.grant(key.id, amount), range(1, 21)))
    assert keys.listed()[0].granted == sum(range(1, 21))


@pytest.mark.parametrize("name", ["", "  ", "a" * 101, "line\nbreak", "nul\x00", "\ud800"])
def test_a_name_that_cannot_be_shown_is_refused(keys: Keys, name: str) -> None:
    with pytest.raises(OptionError, match="1 to 100 printable characters"):
        keys.create(name)


@pytest.mark.parametrize("tokens", [-1, 10**15 + 1, 2**63])
def test_amounts_that_no_database_holds_are_refused(keys: Keys, tokens: int) -> None:
    with pytest.raises(OptionError, match="cannot be added"):
        keys.create("team", tokens)
    key, _ = keys.create("team")
    with pytest.raises(OptionError, match="cannot be added"):
        keys.grant(key.id, tokens)


def test_limits_change_one_by_one(keys: Keys) -> None:
    key, _ = keys.create("team", limits=Limits(requests_per_minute=7))
    assert key.limits == Limits(7, None, None)
    assert keys.limit(key.id, Limits(concurrency=0)).limits == Limits(7, None, 0)
    assert keys.limit(key.id, Limits(8, MOST)).limits == Limits(8, MOST, 0)
    assert keys.limit(key.id, Limits()).limits == Limits(8, MOST, 0)


@pytest.mark.parametrize("value", [-1, MOST + 1])
def test_a_limit_out_of_range_is_refused(value: int) -> None:
    with pytest.raises(OptionError, match="tokens_per_minute"):
        Limits(tokens_per_minute=value)


def test_a_keys_own_limits_come_first() -> None:
    assert Limits(None, 5, 0).over(Policy().limits) == Limits(500, 5, 0)
