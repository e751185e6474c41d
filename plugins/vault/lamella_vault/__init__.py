"""Secrets from HashiCorp Vault and OpenBao, for Lamella."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella_vault._auth import AppRole, Kubernetes, Token
    from lamella_vault._vault import Vault

_HOMES = {"AppRole": "_auth", "Kubernetes": "_auth", "Token": "_auth", "Vault": "_vault"}

__all__ = ["AppRole", "Kubernetes", "Token", "Vault"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
