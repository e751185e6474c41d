"""Anthropic's Messages API for Lamella."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella_anthropic._transport import Anthropic, AnthropicOptions

_HOMES = {"Anthropic": "_transport", "AnthropicOptions": "_transport"}

__all__ = ["Anthropic", "AnthropicOptions"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
