"""A layer that answers in capitals."""

from lamella_shout.layers import Shout, Voice

__all__ = ("Shout", "Voice")
