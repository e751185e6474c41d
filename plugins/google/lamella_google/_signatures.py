"""Signatures that a conversation lacks because another model made its calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lamella.transports._dialect import JSON
from lamella.transports._losses import Losses

UNSIGNED: Final = "skip_thought_signature_validator"
"""What Google documents as the signature of a call that another model made. Without one, a model of
the third generation refuses the turn under way."""


def sign(contents: Sequence[JSON], losses: Losses) -> None:
    """Give the calls of the turn under way that no signature came with the documented one.

    The turn begins with the user's last words; of each answer the first call counts.
    """
    for content in reversed(contents):
        parts: list[JSON] = content["parts"]
        if content["role"] == "user":
            if not all("functionResponse" in part for part in parts):
                return
            continue
        first = next((part for part in parts if "functionCall" in part), None)
        if first is not None and "thoughtSignature" not in first:
            first["thoughtSignature"] = UNSIGNED
            losses.add("ToolCall.thoughtSignature", "another model made the call")
