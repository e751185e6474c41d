"""What this distribution contributes; nothing here imports Azure's libraries."""

from __future__ import annotations

from collections.abc import Mapping


def lamella_secret_sources() -> Mapping[str, str]:
    """The source of `azure-keyvault:...`, set up by the environment."""
    return {"azure-keyvault": "lamella_azure_keyvault._source:azure_keyvault"}
