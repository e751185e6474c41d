"""Converse: how much a model is to think, in the words of its vendor.

Converse has no field for it that every model reads. Claude 4.6 and later think adaptively, with an
effort; earlier ones within a budget of tokens; Nova 2, gpt-oss and OpenAI's newer models have a
field each. Which of Claude's two forms a model takes is its card's to say (`x-thinking-budget`);
without a card it is the newer one. Claude does not think where a tool must be called, nor, with a
budget, in the middle of an answer that began without a thought; such requests go without it.
"""

from __future__ import annotations

from typing import Final

from lamella._chat import ChatRequest
from lamella._errors import UnsupportedError
from lamella.transports._dialect import JSON
from lamella.transports._losses import Losses
from lamella.transports._wire_json import is_object
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
    budgeted = "x-thinking-budget" in capabilities and "x-thinking-adaptive" not in capabilities
    why = _thoughtless(body, budgeted=budgeted)
    if budgeted:
        budget = BUDGETS.get(effort, BUDGETS["medium"])
        most = request.max_output_tokens
        if most is not None:  # the answer comes out of the same bound
            budget = max(min(budget, most // 2), _LEAST_BUDGET)
            if most <= _LEAST_BUDGET:
                why = why or "max_output_tokens leaves too few tokens to think"
        if why is not None:
            losses.add("reasoning_effort", why)
            return
        _additional(body)["thinking"] = {"type": "enabled", "budget_tokens": budget}
        return
    if capabilities and not capabilities & {"reasoning", "x-thinking-adaptive", "x-effort"}:
        losses.add("reasoning_effort", "the model does not reason")
        return
    if not capabilities or "x-thinking-adaptive" in capabilities:
        if why is None:
            _additional(body)["thinking"] = {"type": "adaptive"}
        else:
            losses.add("reasoning_effort", why)
    body["outputConfig"] = {"effort": "low" if effort == "minimal" else effort}


def _thoughtless(body: JSON, *, budgeted: bool) -> str | None:
    """Why Claude would refuse a request that asks for thinking; None if it would not."""
    choice = body.get("toolConfig", {}).get("toolChoice", {})
    if is_object(choice) and choice.keys() & {"any", "tool"}:
        return "Claude does not think where a tool must be called"
    if budgeted and _calls_without_thoughts(body["messages"]):
        return "the tools were called without the thoughts that Claude would go on from"
    return None


def _calls_without_thoughts(messages: list[JSON]) -> bool:
    """Whether the last turn answers calls of tools that no thought stands before."""
    turns = [message for message in messages if message["role"] != "system"]
    if not turns or not any("toolResult" in block for block in turns[-1]["content"]):
        return False
    said = next((turn["content"] for turn in reversed(turns) if turn["role"] == "assistant"), ())
    return not (said and "reasoningContent" in said[0])


def _nova(fields: JSON, effort: str) -> None:
    if effort == "none":
        fields["reasoningConfig"] = {"type": "disabled"}
        return
    known = _NOVA.get(effort, effort)
    fields["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": known}


def _additional(body: JSON) -> JSON:
    fields: JSON = body.setdefault(ADDITIONAL, {})
    return fields
