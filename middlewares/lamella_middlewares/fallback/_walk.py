"""The walk through the targets. Imported only once it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from lamella import (
    AttemptLimitError,
    ContextLengthError,
    Handler,
    LamellaError,
    NoTargetError,
    Request,
    Response,
    Target,
)
from lamella._provider_state import stripped
from lamella._retry_budget import balance_of, count_call
from lamella._target_errors import targets_failed
from lamella._target_fitness import Fitness
from lamella._targets import send
from lamella_middlewares.fallback._alternatives import foreign_state, more_behind
from lamella_middlewares.fallback._triggers import filtered
from lamella_middlewares.fallback._visits import BEING_ASKED, Visits

if TYPE_CHECKING:
    from lamella_middlewares.fallback._middleware import Fallback

R = TypeVar("R", bound=Response)

_ENOUGH: Final = frozenset({"attempt bound", "deadline"})
"""Reasons that hold for every further target."""


class Walk(Generic[R]):
    """One call's way through the targets.

    Args:
        fallback: The options.
        request: The request as it came.
        call_next: The handler inside.
    """

    def __init__(self, fallback: Fallback, request: Request[R], call_next: Handler) -> None:
        self._fallback = fallback
        self._request = request
        self._call_next = call_next
        self._fitness = Fitness(request, fallback.book, require=fallback.require)
        self._errors: list[Exception] = []
        self._failed: list[str] = []  # the names that belong to them
        self._skipped: list[str] = []
        self._too_long: list[Target | None] = []  # those for which the conversation is
        self._visits = Visits(request)
        self._busy: list[Target | None] = []  # those that another layer is asking now
        self._sharing = False  # whether those will do

    async def run(self, failure: Exception | None = None) -> R:
        """Ask one target after the other.

        Args:
            failure: How the first one has failed already; None if it has not been asked.

        Raises:
            LamellaError: If none has answered; see `Fallback.__call__`.
        """
        targets: Sequence[Target | None] = (self._fallback.primary, *self._fallback.targets)
        if failure is None:
            self._visits.begin()
        else:
            if not self._goes_on(failure, None):
                raise self._as_a_whole()
            targets = targets[1:]
        await self._fitness.ready()
        response = await self._through(targets)
        if response is None and not self._errors and self._busy:
            # Whoever asks several times at once gets more answers than there are targets.
            self._sharing = True
            response = await self._through(self._busy)
        if response is None:
            raise self._as_a_whole()
        return response

    async def _through(self, targets: Sequence[Target | None]) -> R | None:
        """The answer of the first of the targets that has one; None if none has."""
        for target in targets:
            why = self._in_the_way(target)
            if why is not None:
                self._skip(target, why)
                if why in _ENOUGH:
                    break
                continue
            try:
                response = await self._ask(target)
            except Exception as error:  # noqa: BLE001 - judged below, and raised unless it goes on
                failure = error
            else:
                found = filtered(response) if self._fallback.triggers.content_filter else None
                if found is None:
                    return response
                failure = found
            if not self._goes_on(failure, target):
                break
        return None

    # --- asking ------------------------------------------------------------------------------

    async def _ask(self, target: Target | None) -> R:
        context = self._request.context
        if self._errors:
            context.note(
                "fallback",
                "fallback.next",
                source=self._failed[-1],
                target=self._name(target),
                reason=type(self._errors[-1]).__name__,
                status=getattr(self._errors[-1], "status", None),
            )
        targets = self._fallback.targets
        place = 0 if target is self._fallback.primary else targets.index(target) + 1
        request = more_behind(self._request, self._fallback, targets[place:])
        if place:
            request = request.evolve(
                context=request.context.evolve(substitute=True, asked_by="fallback")
            )
        if target is None or (target.transport is None and not target.changes):
            return await self._call_next(request)
        if place:
            request, parts = stripped(request, target)
            if parts:
                context.note("fallback", "fallback.stripped", target=target.name, parts=parts)
        return await send(request, target, self._call_next)

    def _name(self, target: Target | None) -> str:
        return target.name if target is not None else self._request.context.provider

    # --- what is in the way ------------------------------------------------------------------

    def _in_the_way(self, target: Target | None) -> str | None:
        """Why a target is not asked; None if it is."""
        context = self._request.context
        if self._errors:
            if context.bound.left <= 0:
                return "attempt bound"
            if context.left() < self._fallback.min_useful:
                return "deadline"
        return (
            self._fitness.unsuitable(target)
            or self._no_larger(target)
            or foreign_state(self._request, self._fallback, target)
            or self._asked_already(target)
            or self._repeated(target)
        )

    def _asked_already(self, target: Target | None) -> str | None:
        why = self._visits.asked_already(target)
        if why == BEING_ASKED and self._sharing:
            why = None
        elif why == BEING_ASKED:
            self._busy.append(target)
        if why is not None:
            return why
        failure = self._visits.left_alone(target)
        if failure is None:
            return None
        self._errors.append(failure)  # what it would fail with now
        self._failed.append(self._name(target))
        return f"it has asked to be left alone for {failure.retry_after:.3g} s more"

    def _no_larger(self, target: Target | None) -> str | None:
        """After a conversation was too long: whether the target takes no more."""
        if not self._too_long or (target is not None and _shortens(target)):
            return None
        window = self._fitness.window(target)
        if window is None:
            return "nobody knows that its context window is larger"
        known = [self._fitness.window(one) for one in self._too_long]
        largest = max([one for one in known if one is not None], default=0)
        return f"its context window of {window} is no larger" if window <= largest else None

    def _repeated(self, target: Target | None) -> str | None:
        """Count a visit: a first one as a call, a second one against the budget of retries."""
        budget = self._fallback.budget
        if budget is None or not self._errors:
            return None  # whoever asks a second time has paid for the first target
        request = self._request
        aimed = request if target is None else request.aim(target)
        provider = aimed.context.provider
        balance = balance_of(budget, request, provider)
        if balance is None or count_call(balance, request) or not self._visits.visited(target):
            return None
        if balance.withdraw(request.context.ports.monotonic()):
            return None
        return "retry budget"

    def _skip(self, target: Target | None, why: str) -> None:
        name = self._name(target)
        self._skipped.append(f"{name} ({why})")
        self._request.context.note("fallback", "fallback.skipped", target=name, why=why)

    # --- what follows ------------------------------------------------------------------------

    def _goes_on(self, error: Exception, target: Target | None) -> bool:
        """Whether the next target is asked after this failure.

        Raises:
            Exception: The failure itself, if it is not about a target.
        """
        fallback, first = self._fallback, not self._errors
        judge = fallback.triggers.judge
        request = self._request
        if target is not None:
            request = request.evolve(**target.changes_for(request))
        try:
            verdict = judge(error, request, fallback.min_useful, first=first)
        except Exception as fault:  # noqa: BLE001 - it must not stand before the real error
            self._note_fault(fault)
            verdict = "end"
        if verdict == "raise" or (verdict == "end" and first):
            raise error
        if not isinstance(error, AttemptLimitError) or verdict == "next":
            self._errors.append(error)
            self._failed.append(self._name(target))
        if isinstance(error, ContextLengthError):
            self._too_long.append(target)
        return verdict == "next"

    def _note_fault(self, fault: Exception) -> None:
        why = f"on=... raised {type(fault).__name__}"
        self._request.context.note("fallback", "fallback.gave_up", why=why)

    def _as_a_whole(self) -> Exception:
        """What the failures of all targets amount to."""
        errors = self._errors
        if not errors:
            return NoTargetError(
                f"No target can take the request: {'; '.join(self._skipped)}.",
                hint="Add a target that can, or ask for less.",
                layer="fallback",
            )
        if len(errors) == 1:
            return errors[0]
        pairs = zip(self._failed, errors, strict=True)
        what = ", ".join([f"{name} with {_words(error)}" for name, error in pairs])
        return targets_failed(
            errors, f"{len(errors)} targets have failed: {what}.", layer="fallback"
        )


def _words(error: Exception) -> str:
    """An error in a word or two: never its message, which may quote the provider."""
    status = error.status if isinstance(error, LamellaError) else None
    return type(error).__name__ if status is None else f"{type(error).__name__} {status}"


def _shortens(target: Target) -> bool:
    """Whether it is a pipeline with a layer that may make a conversation shorter."""
    infos: Any = getattr(target.transport, "infos", ()) if target.nested else ()
    return any(info.phase == "shape" for info in infos)
