"""LoadShed: how many calls this process works on at once, and who goes when it is too much."""

from __future__ import annotations

from lamella_middlewares.load_shed._middleware import Load, LoadShed

__all__ = ("Load", "LoadShed")
