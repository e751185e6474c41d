"""Template: prompts as files with names."""

from __future__ import annotations

from lamella_middlewares.template._middleware import Template

__all__ = ("Template",)
