"""Secrets from Azure Key Vault, for Lamella."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella_azure_keyvault._source import AzureKeyVault

_HOMES = {"AzureKeyVault": "_source"}

__all__ = ["AzureKeyVault"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
