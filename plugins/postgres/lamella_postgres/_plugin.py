"""What this distribution contributes; nothing here imports the PostgreSQL client."""

from __future__ import annotations

from collections.abc import Mapping


def lamella_stores() -> Mapping[str, str]:
    """The stores, by the name that presets use."""
    return {"postgres_spend": "lamella_postgres:postgres_spend"}
