"""The database's tables as this version needs them: Alembic's migrations, applied on opening."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sightrank.errors import SightrankError
from sightrank.serve.database import Database

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x5167687452616E6B
"""Number of the advisory lock that one server holds while it upgrades, 'SightRank' in ASCII."""


class OtherVersionError(SightrankError):
    """A database whose tables were made by a newer version of Sightrank."""


def upgrade(database: Database) -> None:
    """Bring an empty or older database up to date; one that is up to date is only looked at.

    Several servers may start at once: one upgrades and the others wait for it. A migration that
    fails leaves the database as it was. Raises AccountsUnavailableError, OtherVersionError.
    """
    from alembic import command

    def bring_up(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        if _is_current(connection, database.address):
            return
        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")

    if not database.read(lambda connection: _is_current(connection, database.address)):
        database.write(bring_up)


def config() -> Config:
    """Alembic's settings; what runs migrations adds the attribute `connection`."""
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return settings


def _is_current(connection: Connection, address: str) -> bool:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    found = MigrationContext.configure(connection).get_current_revision()
    steps = ScriptDirectory.from_config(config())
    if found is not None and found not in {step.revision for step in steps.walk_revisions()}:
        raise OtherVersionError(
            f"The database of accounts, {address}, was made by a newer version (step {found}).",
            "Upgrade Sightrank, or name another database.",
        )
    return found == steps.get_current_head()
