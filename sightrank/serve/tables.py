"""The tables of the accounts' database: keys, and a ledger with a line for each request.

Times are milliseconds since 1970 by the clock of the server that wrote them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
)

RESERVED, SETTLED, RELEASED = "reserved", "settled", "released"
"""States of a ledger line: work is under way, charged, given back."""

metadata = MetaData(
    naming_convention={  # names are the same in both databases, so that migrations can use them
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),  # SHA-256 of the key, hexadecimal
    Column("hint", String(4), nullable=False),  # its last characters, to tell keys apart
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
    Column("granted", BigInteger, nullable=False),  # tokens given, in all
    Column("used", BigInteger, nullable=False),  # tokens charged, in all
    Column("requests", BigInteger, nullable=False),  # requests charged, in all
    Column("requests_per_minute", Integer),  # None: the server's limit; 0: no limit
    Column("tokens_per_minute", BigInteger),
    Column("concurrency", Integer),
)

ledger = Table(
    "ledger",
    metadata,
    Column("key_id", String(16), ForeignKey("keys.id"), primary_key=True),
    Column("request_id", String(200), primary_key=True),
    Column("at", BigInteger, nullable=False),  # when it was first reserved
    Column("state", String(8), nullable=False),
    Column("tokens", BigInteger, nullable=False),  # held, charged, or 0 once given back
    CheckConstraint("state IN ('reserved', 'settled', 'released')", name="state"),
    CheckConstraint("tokens >= 0", name="tokens"),
    Index("ix_ledger_key_id_at", "key_id", "at"),
)
