"""The tables: made by migrations, once, whoever comes first; and addresses of databases."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from sightrank.errors import MissingExtraError, OptionError
from sightrank.serve import database as module
from sightrank.serve.access import AccountsUnavailableError
from sightrank.serve.database import Database, database_url, open_database
from sightrank.serve.keys import Keys
from sightrank.serve.schema import MIGRATIONS, OtherVersionError, config
from sightrank.serve.tables import metadata


def tables(database: Database) -> set[str]:
    return database.read(lambda connection: set(inspect(connection).get_table_names()))


def test_the_migrations_make_what_the_code_uses(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert database.read(differences) == []


def test_servers_that_start_together_make_the_tables_once(empty: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        opened = list(threads.map(open_database, [empty] * 6))
    Keys(opened[0]).create("team")
    assert [len(Keys(each).listed()) for each in opened] == [1] * 6
    for each in opened:
        each.close()


def test_opening_again_leaves_everything_as_it_is(empty: str) -> None:
    for count in (1, 2):
        database = open_database(empty)
        Keys(database).create("team")
        assert len(Keys(database).listed()) == count
        database.close()


def test_a_migration_that_fails_leaves_nothing(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def upgrade(*_: object) -> None:
        real(*_)  # type: ignore[arg-type]
        raise RuntimeError("the power is cut")

    real = command.upgrade
    monkeypatch.setattr(command, "upgrade", upgrade)
    with pytest.raises(RuntimeError):
        open_database(empty)
    monkeypatch.undo()
    monkeypatch.setattr("sightrank.serve.schema.upgrade", lambda database: None)
    half = open_database(empty)
    assert tables(half) == set()
    half.close()


def test_the_migrations_can_be_taken_back(empty: str) -> None:
    database = open_database(empty)

    def down(connection: Connection) -> None:
        settings = config()
        settings.attributes["connection"] = connection
        command.downgrade(settings, "base")

    database.write(down)
    assert tables(database) == {"alembic_version"}
    database.close()


def test_tables_of_a_newer_version_are_left_alone(empty: str) -> None:
    database = open_database(empty)
    database.write(lambda each: each.exec_driver_sql("UPDATE alembic_version SET version_num='99'"))
    database.close()
    with pytest.raises(OtherVersionError, match=r"newer version \(step 99\)"):
        open_database(empty)


def test_a_sqlite_file_lets_readers_read_while_another_writes(tmp_path: Path) -> None:
    file = tmp_path / "accounts.sqlite"
    database = open_database(file, patience=0.1)
    Keys(database).create("team")
    other = sqlite3.connect(file, isolation_level=None)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.execute("BEGIN IMMEDIATE")
    assert len(Keys(database).listed()) == 1
    with pytest.raises(AccountsUnavailableError, match="locked"):
        Keys(database).create("another")
    other.execute("ROLLBACK")
    other.close()
    database.close()


def test_the_migrations_are_part_of_the_package() -> None:
    versions = MIGRATIONS / "versions"
    assert (MIGRATIONS / "__init__.py").is_file() and (versions / "__init__.py").is_file()
    assert list(versions.glob("0001*.py"))


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("a/b.sqlite", "sqlite:///a/b.sqlite"),
        (Path("/a/b c.sqlite"), "sqlite:////a/b c.sqlite"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("sqlite+aiosqlite:///a.db", "sqlite:///a.db"),
        ("postgres://me@host/db", "postgresql+psycopg://me@host/db"),
        (
            "postgresql://me@host:1/db?sslmode=require",
            "postgresql+psycopg://me@host:1/db?sslmode=require",
        ),
        ("postgresql+psycopg://me@host/db", "postgresql+psycopg://me@host/db"),
    ],
)
def test_addresses(address: str | Path, url: str) -> None:
    assert database_url(address, {}).render_as_string() == url


@pytest.mark.parametrize(
    "address",
    ["mysql://host/db", "sqlite://", "sqlite:///:memory:", "://", "postgresql://h:port/d"],
)
def test_addresses_that_cannot_be_used(address: str) -> None:
    with pytest.raises(OptionError, match="database"):
        database_url(address, {})


def test_the_address_comes_from_the_environment_or_is_the_users(tmp_path: Path) -> None:
    environment = {"XDG_DATA_HOME": str(tmp_path)}
    default = tmp_path / "sightrank" / "accounts.sqlite"
    assert database_url(None, environment).database == str(default)
    assert default.parent.is_dir() and not default.exists()
    assert database_url("", {**environment, module.VARIABLE: "x.db"}).database == "x.db"
    assert database_url("y.db", {module.VARIABLE: "x.db"}).database == "y.db"


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be one" * 20])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    with pytest.raises(AccountsUnavailableError, match="file is not a database"):
        open_database(file)
    assert file.read_bytes() == content


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="No such file or directory"):
        open_database(tmp_path / "none" / "accounts.sqlite")


def test_a_password_is_not_shown() -> None:
    with pytest.raises(AccountsUnavailableError) as caught:
        open_database("postgresql://me:secret@127.0.0.1:1/db", patience=1)
    assert "secret" not in str(caught.value) and "127.0.0.1" in str(caught.value)
    assert caught.value.status == 503 and caught.value.retry_after


@pytest.mark.parametrize(
    ("package", "extra", "address"),
    [
        ("sqlalchemy", "serve", "x.db"),
        ("alembic", "serve", "x.db"),
        ("psycopg", "postgres", "postgresql://h/d"),
    ],
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str, extra: str, address: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*\[{extra}\]"):
        open_database(address)
