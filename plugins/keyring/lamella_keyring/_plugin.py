"""What this distribution contributes; nothing here imports the keyring."""

from __future__ import annotations

from collections.abc import Mapping


def lamella_secret_sources() -> Mapping[str, str]:
    """The source of `keyring:...`."""
    return {"keyring": "lamella_keyring._source:keyring_secret"}
