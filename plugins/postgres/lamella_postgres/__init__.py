"""Records of spend that the processes of a fleet share, for Lamella, in PostgreSQL."""

from __future__ import annotations

from lamella_postgres._store import PostgresSpend, postgres_spend
from lamella_postgres._table import spend_ddl

__all__ = ["PostgresSpend", "postgres_spend", "spend_ddl"]
