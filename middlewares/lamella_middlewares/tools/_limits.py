"""The limits on a whole loop of model turns and tools."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from lamella import Context, Money, Outcome, ToolLimitError
from lamella._options import refused

if TYPE_CHECKING:
    from lamella_middlewares.tools._middleware import Tools

Limit: TypeAlias = Literal["max_steps", "max_tokens", "max_cost", "max_seconds"]


def money(value: Any) -> Any:
    """Text or whole numbers as an amount; what is none is left for the check."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        try:
            return Money.of(value)
        except ValueError:
            return value
    return value


def amount(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """An amount of money above 0, or None."""
    if value is not None and (not isinstance(value, Money) or value.nano <= 0):
        want = 'an amount such as "0.50", above 0, or None for no limit (a float is not exact)'
        raise refused(layer, option, value, want)


class Limits:
    """Whether a loop may go on.

    Args:
        tools: The options.
        context: Of the request.
    """

    def __init__(self, tools: Tools, context: Context) -> None:
        self._tools = tools
        self._context = context
        self._began = context.clock.now()

    def reached(self, turn: int) -> Limit | None:
        """Which limit is reached after so many turns; None if none is."""
        tools, trace = self._tools, self._context.trace
        if turn >= tools.max_steps:
            return "max_steps"
        if tools.max_tokens is not None and trace.usage.total_tokens >= tools.max_tokens:
            return "max_tokens"
        if tools.max_cost is not None:
            cost = trace.cost
            # What is not known, or in another currency, may be more than there is.
            if (
                cost is None
                or (cost and cost.currency != tools.max_cost.currency)
                or cost.nano >= tools.max_cost.nano
            ):
                return "max_cost"
        if self.seconds_left() <= 0:
            return "max_seconds"
        return None

    def seconds_left(self) -> float:
        """How many are left of `max_seconds`; infinite without one."""
        if self._tools.max_seconds is None:
            return math.inf
        return self._tools.max_seconds - (self._context.clock.now() - self._began)


def limit_error(limit: Limit, tools: Tools) -> ToolLimitError:
    """The error of a loop that has reached a limit."""
    error = ToolLimitError(
        f"The model goes on asking for tools, and {limit}={getattr(tools, limit)} is reached.",
        hint=f"Raise {limit}, or go on from `error.partial.messages`.",
        layer="tools",
        outcome=Outcome.FAILED,
    )
    error.limit = limit
    return error
