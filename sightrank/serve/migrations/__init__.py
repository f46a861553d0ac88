"""Alembic migrations of the accounts' database, in order in `versions`."""
