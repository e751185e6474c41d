"""Secrets from the system's keyring, for Lamella."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella_keyring._source import keyring_secret

_HOMES = {"keyring_secret": "_source"}

__all__ = ["keyring_secret"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
