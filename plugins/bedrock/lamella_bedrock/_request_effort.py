"""Converse: how much a model is to think, in the words of its vendor.

Converse has no field for it that every model reads. Claude 4.6 and later think adaptively, with an
effort; earlier ones within a budget of tokens; Nova 2, gpt-oss and OpenAI's newer models have a
field each. Which of Claude's two forms a model takes is its card's to say (`x-thinking-budget`);
without a card it is the newer one.
"""

from __future__ import annotations

from typing import Final

from lamella._chat import ChatRequest
from lamella._errors import UnsupportedError
from lamella.transports._dialect import JSON
from lamella.transports._losses import Losses
from lamella_bedrock._request_tools import ADDITIONAL

BUDGETS: Final = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 32_768,
}
"""The tokens that an effort stands for, where a model wants a budget."""

_LEAST_BUDGET: Final = 1_024
_NOVA: Final = {"minimal": "low", "xhigh": "high", "max": "high"}


def add_effort(
    body: JSON, request: ChatRequest, base: str, capabilities: frozenset[str], losses: Losses
) -> None:
    """Add the request's effort to a body.

    Args:
        body: What is written so far.
        request: What is asked.
        base: The vendor's id of the model.
        capabilities: Of the model's card; empty without one.
        losses: What is left out.

    Raises:
        UnsupportedError: If a model is to be kept from thinking that always does.
    """
    effort = request.reasoning_effort
    if effort is None:
        return
    vendor = base.partition(".")[0]
    if vendor == "anthropic":
        _claude(body, request, effort, capabilities, losses)
    elif "x-reasoning-config" in capabilities or base.startswith("amazon.nova-2"):
        _nova(_additional(body), effort)
    elif "x-reasoning-effort" in capabilities or base.startswith("openai.gpt-oss"):
        _additional(body)["reasoning_effort"] = effort
    elif vendor == "openai":
        _additional(body)["reasoning"] = {"effort": effort}
    else:
        losses.add("reasoning_effort", "Bedrock has no word for it for this model")


def _claude(
    body: JSON, request: ChatRequest, effort: str, capabilities: frozenset[str], losses: Losses
) -> None:
    if effort == "none":
        if "x-thinking-required" in capabilities:
            raise UnsupportedError(
                f"`reasoning_effort` is 'none', but {request.model!r} always thinks.",
                hint="Ask for the effort 'low', or another model.",
                code="unsupported_value",
            )
        off = "between_tools" if "x-thinking-between-tools" in capabilities else "disabled"
        _additional(body)["thinking"] = {"type": off}
        return
    if "x-thinking-budget" in capabilities and "x-thinking-adaptive" not in capabilities:
        budget = BUDGETS.get(effort, BUDGETS["medium"])
        if request.max_output_tokens is not None:  # the answer comes out of the same bound
            budget = min(budget, request.max_output_tokens - 1)
        if budget < _LEAST_BUDGET:
            losses.add("reasoning_effort", "max_output_tokens leaves too few tokens to think")
            return
        _additional(body)["thinking"] = {"type": "enabled", "budget_tokens": budget}
        return
    if capabilities and not capabilities & {"reasoning", "x-thinking-adaptive", "x-effort"}:
        losses.add("reasoning_effort", "the model does not reason")
        return
    if not capabilities or "x-thinking-adaptive" in capabilities:
        _additional(body)["thinking"] = {"type": "adaptive"}
    body["outputConfig"] = {"effort": "low" if effort == "minimal" else effort}


def _nova(fields: JSON, effort: str) -> None:
    if effort == "none":
        fields["reasoningConfig"] = {"type": "disabled"}
        return
    known = _NOVA.get(effort, effort)
    fields["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": known}


def _additional(body: JSON) -> JSON:
    fields: JSON = body.setdefault(ADDITIONAL, {})
    return fields
