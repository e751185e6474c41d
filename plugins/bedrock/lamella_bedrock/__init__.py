"""Amazon Bedrock's Converse API for Lamella."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella_bedrock._bedrock import Bedrock, BedrockOptions
    from lamella_bedrock._credentials import AWSCredentials

_HOMES = {
    "AWSCredentials": "_credentials",
    "Bedrock": "_bedrock",
    "BedrockOptions": "_bedrock",
}

__all__ = ["AWSCredentials", "Bedrock", "BedrockOptions"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
