"""Which targets have been asked in a call, by whatever layer: the trace says it."""

from __future__ import annotations

import re
from typing import Any, Final

from lamella import OpenAttempt, Outcome, Request, Target

_TRY: Final = re.compile(r".*/(?:try|turn)\d+(?=/|\Z)")
"""A branch up to its last try: whoever tries again wants the targets to be tried again."""

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
        self._before = 0  # attempts of the model turn that were made before the layer's walk

    def begin(self) -> None:
        """The layer's walk begins now; without this it began with the model turn."""
        context = self._request.context
        self._before = len(context.trace.of_turn(context.bound))

    def asked_already(self, target: Target | None) -> str | None:
        """Whether another layer of this call is asking the target, or has asked it in vain."""
        context = self._request.context
        attempts = context.trace.of_turn(context.bound)
        if not attempts or (target is not None and (target.nested or target.credentials)):
            return None
        if target is not None and target.changes.keys() - {"model"}:
            return None  # what it is asked is another thing
        transport, model = self._place(target)
        same = [one for one in attempts if one.transport is transport and one.model == model]
        if any(one.outcome is None for one in same):
            return "it is being asked in this call"
        found = _TRY.match(context.branch)
        within = found[0] if found is not None else ""
        # What was asked through this layer at this place before this walk, was asked by whoever
        # now asks again, and wants it.
        earlier = attempts[: self._before]
        others = [
            one
            for one in same
            if _beneath(one.branch, within)
            and not (one in earlier and _beneath(one.branch, context.branch))
        ]
        return "it has failed in this call" if others and _all_failed(others) else None

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
        return any(one.transport is transport and one.model == model for one in attempts)

    def _place(self, target: Target | None) -> tuple[Any, str | None]:
        aimed = self._request if target is None else self._request.aim(target)
        transport = aimed.context.transport if aimed.target is None else aimed.target.transport
        return transport or aimed.context.transport, aimed.model


def _beneath(branch: str, above: str) -> bool:
    return branch == above or branch.startswith(f"{above}/")


def _all_failed(attempts: list[OpenAttempt]) -> bool:
    return all(attempt.outcome in _FAILED for attempt in attempts)
