"""The accounts' database, of either kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sightrank.serve.database import Database, open_database
from sightrank.serve.keys import Keys
from tests.serve.accounts.postgres import Cluster, cluster

KINDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture(scope="session")
def postgres_database(postgres: Cluster) -> str:
    """A database with its tables, which the tests share one after another."""
    address = postgres.new_database()
    open_database(address).close()
    return address


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables."""
    if request.param == "sqlite":
        return str(tmp_path / "accounts.sqlite")
    running: Cluster = request.getfixturevalue("postgres")
    return running.new_database()


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database with empty tables."""
    if request.param == "sqlite":
        return str(tmp_path / "accounts.sqlite")
    shared: str = request.getfixturevalue("postgres_database")
    opened = open_database(shared)
    opened.write(lambda each: each.exec_driver_sql("DELETE FROM ledger"))
    opened.write(lambda each: each.exec_driver_sql("DELETE FROM keys"))
    opened.close()
    return shared


@pytest.fixture
def database(address: str) -> Iterator[Database]:
    opened = open_database(address)
    yield opened
    opened.close()


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database)
