"""Amazon Bedrock's Converse API for Lamella."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella_bedrock._bedrock import Bedrock
    from lamella_bedrock._credentials import AWSCredentials
    from lamella_bedrock._options import BedrockOptions

_HOMES = {
    "AWSCredentials": "_credentials",
    "Bedrock": "_bedrock",
    "BedrockOptions": "_options",
}

__all__ = ["AWSCredentials", "Bedrock", "BedrockOptions"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
