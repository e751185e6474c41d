"""One request before a guard: its rules asked, what they say written down, their failures met."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator
from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast
from weakref import WeakKeyDictionary

import anyio

from lamella import (
    BlockedError,
    ClosedError,
    DeadlineExceeded,
    Handler,
    InspectionError,
    Request,
    Response,
)
from lamella_middlewares.guard._approvals import agree, must_be_given
from lamella_middlewares.guard._lanes import Query, Question
from lamella_middlewares.guard._refusals import Failure, blocked, failure_of, not_inspected
from lamella_middlewares.guard._rules import Inspection, Review, Rule, waits
from lamella_middlewares.guard._verdicts import Verdict, fault_of

if TYPE_CHECKING:
    from lamella import Trace
    from lamella_middlewares.guard._middleware import Guard

R = TypeVar("R", bound=Response)
Direction = Literal["in", "out"]

logger = logging.getLogger("lamella")

MUCH: Final = 32_768
"""After so many characters, in one text or several, the next is judged in a thread, so that the
loop goes on meanwhile: ready rules read them in 5 ms or less."""

_ENDINGS: Final = (ClosedError, DeadlineExceeded)
"""What ends the whole call, whoever is waiting: passed on as it is."""


class Scene:
    """One request before one guard.

    Attributes:
        guard: Whose rules are asked.
        key: What approval ids are made with; empty for none.
        request: The request, as the rules so far have left it.
    """

    __slots__ = ("_call_next", "_looked_at", "_noted", "guard", "key", "request")

    def __init__(
        self, guard: Guard, request: Request[Any], call_next: Handler, key: bytes = b""
    ) -> None:
        self.guard = guard
        self.key = key
        self.request = request
        self._call_next = call_next
        self._noted: set[tuple[object, ...]] = set()
        self._looked_at = 0  # characters on the loop, since the loop was last let go

    @property
    def kept(self) -> dict[Any, Any]:
        """What rules keep for the rest of the call."""
        return _kept(self.request)

    async def child(self, request: Request[R], purpose: str) -> R:
        """Ask something in this call."""
        return await self._call_next(self.request.child(request, purpose=purpose, asked_by="guard"))

    # --- deciding ------------------------------------------------------------------------------

    def decide(self, steps: Generator[Query | Question, Verdict | None, str]) -> str:
        """What may be let through, by rules that answer at once."""
        try:
            found = next(steps)
            while True:
                if type(found) is Query:
                    found = steps.send(self._judged(found))
                else:
                    must_be_given(self, cast("Question", found))
                    found = steps.send(None)
        except StopIteration as stop:
            return cast("str", stop.value)

    async def decide_later(self, steps: Generator[Query | Question, Verdict | None, str]) -> str:
        """The same by rules that may have to be awaited."""
        try:
            found = next(steps)
            while True:
                if type(found) is Question:
                    await agree(self, found)
                    found = steps.send(None)
                    continue
                query = cast("Query", found)
                judged = await self.judge(query.rule, query.inspection)
                found = steps.send(judged)
        except StopIteration as stop:
            return cast("str", stop.value)

    def _judged(self, query: Query) -> Verdict | None:
        rule, inspection = query.rule, query.inspection
        verdict: Any
        try:
            verdict = rule.inspect(inspection)
        except Exception as error:  # noqa: BLE001 - whatever it is, the text was not inspected
            verdict = failure_of(error)
        return self._checked(rule, verdict, inspection.direction, "text")

    async def judge(self, rule: Rule, inspection: Inspection) -> Verdict | None:
        """What a rule says of a text; None if it failed, and that may pass."""
        direction = inspection.direction
        if rule.blocking or (self._is_much(len(inspection.text)) and not waits(rule)):
            thread = self.request.context.ports.thread
            return await self._awaited(
                rule, lambda: thread(rule.inspect, inspection), direction, "text"
            )
        found: Any
        try:
            found = rule.inspect(inspection)
        except Exception as error:  # noqa: BLE001 - whatever it is, the text was not inspected
            found = failure_of(error)
        if type(found) is not Verdict and isawaitable(found):
            return await self._later(rule, found, direction, "text")
        return self._checked(rule, found, direction, "text")

    def _is_much(self, characters: int) -> bool:
        """Whether the loop has been held long enough; then it counts from 0 again."""
        self._looked_at += characters
        if self._looked_at < MUCH:
            return False
        self._looked_at = 0
        return True

    async def review(self, rule: Rule, review: Review) -> Verdict | None:
        """What a rule says of the request as a whole; None if it failed, and that may pass."""
        thread = self.request.context.ports.thread
        if rule.blocking:
            return await self._awaited(rule, lambda: thread(rule.review, review), "in", "request")
        found: Any
        try:
            found = rule.review(review)
        except Exception as error:  # noqa: BLE001 - whatever it is, the request was not inspected
            found = failure_of(error)
        if type(found) is not Verdict and isawaitable(found):
            return await self._later(rule, found, "in", "request")
        return self._checked(rule, found, "in", "request")

    async def _later(
        self, rule: Rule, verdict: Awaitable[Any], direction: Direction, of: str
    ) -> Verdict | None:
        try:
            return await self._awaited(rule, lambda: verdict, direction, of)
        finally:
            if iscoroutine(verdict):
                verdict.close()  # where the call was over before it could be awaited

    async def _awaited(
        self, rule: Rule, judge: Callable[[], Awaitable[Any]], direction: Direction, of: str
    ) -> Verdict | None:
        context, timeout = self.request.context, self.guard.timeout
        verdict: Any = None
        with anyio.move_on_after(timeout) as scope:
            try:
                verdict = await context.wait(judge, what=f"guard rule {rule.name!r}")
            except _ENDINGS:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing was inspected
                verdict = failure_of(error)
        self._looked_at = 0  # the loop has gone on meanwhile
        if scope.cancelled_caught:
            verdict = Failure(f"it took longer than {timeout:g} s")
        return self._checked(rule, verdict, direction, of)

    def _checked(self, rule: Rule, verdict: Any, direction: Direction, of: str) -> Verdict | None:
        """The verdict, if it is one."""
        if type(verdict) is Verdict:
            why = fault_of(verdict, of)
            if not why:
                if verdict.kind == "allow" and verdict.reason:
                    self.note("noted", rule, verdict, direction)
                return verdict
        elif type(verdict) is Failure:
            why = verdict.why
        elif iscoroutine(verdict):
            verdict.close()
            why = "it is no async function, and returned a coroutine"
        else:
            why = f"it returned {type(verdict).__name__} instead of a verdict"
        error = self.broken(rule, why, direction)
        if self.guard.on_failure == "refuse":
            raise error
        logger.warning(
            "Guard(on_failure='pass') lets pass what rule %r has not inspected: %s.",
            rule.name,
            why,
        )
        return None

    # --- what is said --------------------------------------------------------------------------

    def note(self, name: str, rule: Rule, verdict: Verdict, direction: str) -> None:
        """Write a fact about a verdict into the trace, once."""
        key = (name, rule.name, verdict.reason, verdict.kinds, direction)
        if key in self._noted:
            return
        self._noted.add(key)
        self.request.context.note(
            "guard",
            f"guard.{name}",
            rule=rule.name,
            reason=verdict.reason,
            kinds=verdict.kinds,
            direction=direction,
            **verdict.numbers,
        )

    def blocked(self, rule: Rule, verdict: Verdict, direction: Direction) -> BlockedError:
        """The error of a block, which is written down."""
        self.note("blocked", rule, verdict, direction)
        return blocked(rule, verdict, direction)

    def broken(self, rule: Rule, why: str, direction: Direction) -> InspectionError:
        """The error of a rule that does not do what it is for, which is written down."""
        self.request.context.note(
            "guard", "guard.failed", rule=rule.name, why=why, direction=direction
        )
        return not_inspected(rule, why, direction)


def _tables() -> WeakKeyDictionary[Trace, dict[Any, Any]]:
    return WeakKeyDictionary()


def _kept(request: Request[Any]) -> dict[Any, Any]:
    """What rules keep for one call, however many turns and guards it has."""
    local = request.context.ports.stores.local
    tables = local.get(("lamella", "guard", "kept"), _tables)
    trace = request.context.trace
    kept = tables.get(trace)
    return tables.setdefault(trace, {}) if kept is None else kept
