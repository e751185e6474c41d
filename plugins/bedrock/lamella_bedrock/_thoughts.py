"""Converse: which of a conversation's thoughts go back, and how."""

from __future__ import annotations

from typing import Final

from lamella._parts import Reasoning
from lamella.transports._dialect import JSON
from lamella.transports._losses import ORIGIN, Losses

FAMILY: Final = "model_family"
"""In the `extra` of a thought: which vendor's model had it. Another's cannot read its seal."""

_NO_THOUGHTS_BACK: Final = frozenset({"deepseek"})
_SEALED_ONLY: Final = frozenset({"anthropic"})


def thought(part: Reasoning, provider: str, family: str, losses: Losses) -> JSON | None:
    """A thought, verbatim to the vendor's models that had it; None for anybody else.

    Args:
        part: The thought.
        provider: The transport's name.
        family: Whose model is asked.
        losses: What is left out.
    """
    own = part.extra.get(ORIGIN) == provider
    if not own or part.extra.get(FAMILY, family) != family:
        if own and (part.signature is not None or part.redacted):
            losses.foreign("Reasoning")  # of another vendor on Bedrock
        else:
            losses.thought(part)
        return None
    if part.redacted:
        return {"reasoningContent": {"redactedContent": part.signature or ""}}
    if family in _NO_THOUGHTS_BACK or (part.signature is None and family in _SEALED_ONLY):
        losses.add("Reasoning", "this model does not take such thoughts back")
        return None
    body: JSON = {"text": part.text}
    if part.signature is not None:
        body["signature"] = part.signature
    return {"reasoningContent": {"reasoningText": body}}
