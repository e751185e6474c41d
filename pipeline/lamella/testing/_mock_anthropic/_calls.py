"""Calls of tools and their results: each has its other in the message next to it."""

from __future__ import annotations

from lamella.testing._mock_anthropic._fields import wrong
from lamella.testing._mock_anthropic._turns import Turn


def check_calls(turns: list[Turn]) -> None:
    """Refuse calls without results, and results without calls.

    Args:
        turns: The conversation, without instructions in its middle.

    Raises:
        Rejection: If there are such.
    """
    seen: set[str] = set()
    asked: list[str] = []
    for turn in turns:
        results = [(where, block["tool_use_id"]) for where, block in turn.of("tool_result")]
        _check_results(turn, results, asked)
        _check_answered(turn.place - 1, asked, {call for _, call in results})
        asked = []
        for where, block in turn.of("tool_use"):
            if block["id"] in seen:
                raise wrong(where, "`tool_use` ids must be unique")
            seen.add(block["id"])
            asked.append(block["id"])
    if asked:
        _check_answered(turns[-1].place, asked, set())


def _check_results(turn: Turn, results: list[tuple[str, str]], asked: list[str]) -> None:
    told: set[str] = set()
    for where, call in results:
        if call not in asked:
            message = (
                f"unexpected `tool_use_id` found in `tool_result` blocks: {call}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous "
                "message."
            )
            raise wrong(where, message)
        if call in told:
            message = (
                "each `tool_use` must have a single result. Found multiple `tool_result` blocks "
                f"with id: {call}"
            )
            raise wrong(where, message)
        told.add(call)
    kinds = [block["type"] for _, block in turn.blocks]
    if results and set(kinds[: len(results)]) != {"tool_result"}:
        message = "`tool_result` blocks must come first in the message that holds them"
        raise wrong(f"messages.{turn.place}", message)


def _check_answered(place: int, asked: list[str], given: set[str]) -> None:
    left = [call for call in asked if call not in given]
    if left:
        message = (
            "`tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(left)}. Each `tool_use` block must have a corresponding `tool_result` "
            "block in the next message."
        )
        raise wrong(f"messages.{place}", message)
