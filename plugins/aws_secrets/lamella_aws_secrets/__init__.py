"""Secrets from AWS Secrets Manager, for Lamella."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella_aws_secrets._source import AWSSecrets

_HOMES = {"AWSSecrets": "_source"}

__all__ = ["AWSSecrets"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
