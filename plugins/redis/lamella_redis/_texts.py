"""Texts as the server has them: any text at all, also one that no encoding has a form for."""

from __future__ import annotations


def encoded(text: str) -> bytes:
    """A text as bytes."""
    return text.encode("utf-8", "surrogatepass")


def decoded(data: bytes) -> str:
    """The text of such bytes."""
    return data.decode("utf-8", "surrogatepass")


def pattern(prefix: str) -> bytes:
    """What matches everything that begins with this, taken literally."""
    return encoded("".join([f"\\{sign}" if sign in "*?[]\\" else sign for sign in prefix])) + b"*"
