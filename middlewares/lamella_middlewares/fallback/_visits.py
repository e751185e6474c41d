"""Which targets have been asked in a call, by whatever layer: the trace says it."""

from __future__ import annotations

import re
from typing import Any, Final

from lamella import LamellaError, OpenAttempt, Outcome, Request, Target
from lamella._repeatable import left_alone

_TRY: Final = re.compile(r".*/(?:try|turn)\d+(?=/|\Z)")
"""A branch up to its last try: whoever tries again wants the targets to be tried again."""

BEING_ASKED: Final = "it is being asked in this call"

_FAILED: Final = frozenset(
    {Outcome.FAILED, Outcome.TIMED_OUT, Outcome.TRUNCATED, Outcome.UNKNOWN, Outcome.NOT_SENT}
)


class Visits:
    """What has been asked in one model turn, as seen from one layer.

    Args:
        request: The request as the layer got it.
    """

    def __init__(self, request: Request[Any]) -> None:
        self._request = request
        self._before: frozenset[object] = frozenset()  # attempts made before the layer's walk

    def begin(self) -> None:
        """The layer's walk begins now; without this it began with the model turn."""
        context = self._request.context
        self._before = frozenset(map(_mark, context.trace.of_turn(context.bound)))

    def asked_already(self, target: Target | None) -> str | None:
        """Whether another layer of this call is asking the target, or has asked it in vain."""
        context = self._request.context
        attempts = context.trace.of_turn(context.bound)
        if not attempts or (target is not None and (target.nested or target.credentials)):
            return None
        if target is not None and target.changes.keys() - {"model"}:
            return None  # what it is asked is another thing
        transport, model = self._place(target)
        same = [one for one in attempts if one.asks(transport, model)]
        if any(one.outcome is None for one in same):
            return BEING_ASKED
        found = _TRY.match(context.branch)
        within = found[0] if found is not None else ""
        # What was asked through this layer at this place before this walk, was asked by whoever
        # now asks again, and wants it.
        others = [
            one
            for one in same
            if _beneath(one.branch, within)
            and not (_mark(one) in self._before and _beneath(one.branch, context.branch))
        ]
        return "it has failed in this call" if others and _all_failed(others) else None

    def left_alone(self, target: Target | None) -> LamellaError | None:
        """With what it has asked to be left alone for longer; pools and pipelines see to theirs."""
        context = self._request.context
        if not context.bound.turn.used:
            return None
        if target is not None and (target.nested or target.credentials):
            return None
        return left_alone(context, *self._place(target))

    def visited(self, target: Target | None) -> bool:
        """Whether the target has been asked in this model turn, by whomever."""
        context = self._request.context
        attempts = context.trace.of_turn(context.bound)
        if target is not None and target.nested:
            return any(target.branch in one.branch.split("/") for one in attempts)
        if target is not None and target.credentials:
            own = [member.transport for member in target.credentials]
            return any(one.transport in own for one in attempts)
        transport, model = self._place(target)
        return any(one.asks(transport, model) for one in attempts)

    def _place(self, target: Target | None) -> tuple[Any, str | None]:
        aimed = self._request if target is None else self._request.aim(target)
        transport = aimed.context.transport if aimed.target is None else aimed.target.transport
        return transport or aimed.context.transport, aimed.model


def _mark(attempt: OpenAttempt) -> object:
    """What tells it from others: those of an adopted trace are other objects each time."""
    return attempt.branch, attempt.index, attempt.start


def _beneath(branch: str, above: str) -> bool:
    return branch == above or branch.startswith(f"{above}/")


def _all_failed(attempts: list[OpenAttempt]) -> bool:
    return all(attempt.outcome in _FAILED for attempt in attempts)
