"""What this distribution contributes; nothing here opens or reads anything."""

from __future__ import annotations

from collections.abc import Mapping


def lamella_secret_sources() -> Mapping[str, str]:
    """The source of `vault:...`, set up by the environment."""
    return {"vault": "lamella_vault._vault:vault"}
