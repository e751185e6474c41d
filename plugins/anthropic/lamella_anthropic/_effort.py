"""The Messages API: how a model is asked to think, which is its card's business.

Without a card the newest way is taken. The API does not think where a tool must be called, nor,
with a budget, in the middle of an answer that began without a thought. Such requests go without it,
as the rest of what they ask can be had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from lamella._errors import UnsupportedError
from lamella.transports._dialect import JSON
from lamella.transports._losses import Losses
from lamella.transports._wire_json import is_list

if TYPE_CHECKING:
    from lamella._cards import ModelCard

LEAST_BUDGET: Final = 1_024
"""The least budget for thinking that the API takes."""

THOUGHTS: Final = ("thinking", "redacted_thinking")
"""The kinds of blocks that are thoughts."""

_BUDGETS: Final[Mapping[str, int]] = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 65_536,
}
_FORCED: Final = ("any", "tool")


def add_effort(
    body: JSON, effort: str, card: ModelCard | None, provider: str, losses: Losses
) -> None:
    """Ask for thinking, in a body that has its messages and its choice of tools.

    Raises:
        UnsupportedError: If the model cannot think so.
    """
    ways = frozenset[str]() if card is None else card.capabilities
    if effort == "none":
        if "x-thinking-required" in ways:
            hint = "The model always thinks; ask for less."
            raise no_words("`reasoning_effort='none'`", hint, provider)
        off = "between_tools" if "x-thinking-between-tools" in ways else "disabled"
        body["thinking"] = {"type": off}
        return
    budgeted = "x-thinking-budget" in ways and "x-thinking-adaptive" not in ways
    known = any(way.startswith("x-thinking-") for way in ways)
    if ways and not known and not ways & {"x-effort", "reasoning"}:
        raise no_words("`reasoning_effort`", "The model does not think: leave it out.", provider)
    if budgeted or known or "x-effort" not in ways:
        reason = _thoughtless(body, budgeted=budgeted)
        if reason is not None:
            losses.add("reasoning_effort", reason)
        elif budgeted:
            tokens = _budget(body, effort, provider)
            body["thinking"] = {"type": "enabled", "budget_tokens": tokens}
        else:
            body["thinking"] = {"type": "adaptive"}
    if not budgeted or "x-effort" in ways:
        if effort == "minimal":
            effort = "low"
            losses.add("reasoning_effort", "the least effort of this API is 'low'")
        body.setdefault("output_config", {})["effort"] = effort


def no_words(what: str, hint: str, provider: str | None = None) -> UnsupportedError:
    """The error for a parameter, or a value of one, that the API cannot take."""
    return UnsupportedError(
        f"{what} cannot be said in the Messages API.",
        hint=hint,
        code="unsupported_parameter",
        provider=provider,
    )


def _thoughtless(body: JSON, *, budgeted: bool) -> str | None:
    """Why the API would refuse a request that asks for thinking; None if it would not."""
    if body.get("tool_choice", {}).get("type") in _FORCED:
        return "this API does not think where a tool must be called"
    if budgeted and _calls_without_thoughts(body["messages"]):
        return "the tools were called without the thoughts that this API would go on from"
    return None


def _calls_without_thoughts(turns: list[JSON]) -> bool:
    """Whether the last turn answers calls of tools that no thought stands before."""
    said = [turn for turn in turns if turn["role"] != "system"]
    answers = said[-1]["content"] if said else ""
    if not is_list(answers) or not any(each.get("type") == "tool_result" for each in answers):
        return False
    calls = next((turn["content"] for turn in reversed(said) if turn["role"] == "assistant"), ())
    return not (is_list(calls) and calls and calls[0].get("type") in THOUGHTS)


def _budget(body: JSON, effort: str, provider: str) -> int:
    """Tokens to think with: as the effort says, and at most half of what may be put out."""
    wanted = _BUDGETS.get(effort)
    if wanted is None:
        known = ", ".join(map(repr, _BUDGETS))
        hint = f"Use 'none' or one of {known}."
        raise no_words(f"`reasoning_effort={effort!r}`", hint, provider)
    most: int = body["max_tokens"]
    if most <= LEAST_BUDGET:
        hint = f"Raise max_output_tokens above {LEAST_BUDGET}, the least budget for thinking."
        raise no_words(f"`reasoning_effort` with max_output_tokens={most}", hint, provider)
    return max(LEAST_BUDGET, min(wanted, most // 2))
