"""PromptCache: what stays the same from request to request is marked, so that it is billed less."""

from __future__ import annotations

from lamella_middlewares.prompt_cache._middleware import PromptCache

__all__ = ("PromptCache",)
