"""Seals on what goes back to Anthropic's API: the mock knows its own, and no others.

A seal is made of what it seals and nothing else, so that any server knows the seals of any other.
"""

from __future__ import annotations

from typing import Any

from lamella._mock_tokens import Draw

_WORD = 32


def signature(text: str, shown: str) -> str:
    """The signature of a thought.

    Args:
        text: What was thought.
        shown: What of it is shown, which is what the signature is checked with.
    """
    origin = Draw.of("anthropic thought", text).word("origin", _WORD)
    return f"{origin}{_second(origin, shown)}"


def is_signature(given: str, shown: str) -> bool:
    """Whether a signature is one that this mock could have given for a text."""
    return given[_WORD:] == _second(given[:_WORD], shown)


def redacted(text: str) -> str:
    """What stands for a thought that is withheld."""
    return signature(text, "redacted")


def is_redacted(given: str) -> bool:
    """Whether something could stand for a thought that this mock has withheld."""
    return is_signature(given, "redacted")


def seal(*facts: Any) -> str:
    """The seal on a result of a search, or on a place in one."""
    return Draw.of("anthropic seal", *facts).word("seal", 2 * _WORD)


def _second(origin: str, shown: str) -> str:
    return Draw.of("anthropic signature", origin, shown).word("second", _WORD)
