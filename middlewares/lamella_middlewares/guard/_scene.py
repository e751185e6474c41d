"""One request before a guard: its rules asked, what they say written down, their failures met."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping
from hashlib import blake2b
from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast
from weakref import WeakKeyDictionary

import anyio
import attrs

from lamella import (
    ApprovalRequired,
    BlockedError,
    ClosedError,
    DeadlineExceeded,
    Handler,
    InspectionError,
    LamellaError,
    Outcome,
    Request,
    Response,
)
from lamella._nothing import NOTHING
from lamella_middlewares.guard._lanes import Query, Question
from lamella_middlewares.guard._rules import Inspection, Review, Rule, waits
from lamella_middlewares.guard._verdicts import Verdict

if TYPE_CHECKING:
    from lamella import Trace
    from lamella_middlewares.guard._middleware import Guard

R = TypeVar("R", bound=Response)
E = TypeVar("E", bound=LamellaError)

logger = logging.getLogger("lamella")

_LONG: Final = 65_536
"""Texts from here on are judged in a thread, so that the loop goes on meanwhile."""

_ENDINGS: Final = (ClosedError, DeadlineExceeded)
"""What ends the whole call, whoever is waiting: passed on as it is."""


@attrs.frozen
class Approval:
    """What an approver is asked.

    Attributes:
        id: The same for the same question about the same text of the same tenant, user and session.
        rule: Which rule asks.
        reason: Why, as a word.
        kinds: Of what kinds it found something.
        direction: `"in"` for a request, `"out"` for an answer.
        tenant: Whose request it is.
        user: The end user.
        session: The conversation.
        preview: The beginning of the text, if the guard was told to show it; otherwise empty.
        numbers: Counts that say more about the reason.
    """

    id: str
    rule: str
    reason: str
    kinds: tuple[str, ...]
    direction: Literal["in", "out"]
    tenant: str | None
    user: str | None
    session: str | None
    preview: str = attrs.field(default="", repr=False)
    numbers: Mapping[str, int] = attrs.field(default=NOTHING, hash=False)


class Scene:
    """One request before one guard."""

    __slots__ = ("_call_next", "_guard", "_noted", "request")

    def __init__(self, guard: Guard, request: Request[Any], call_next: Handler) -> None:
        self._guard = guard
        self._call_next = call_next
        self._noted: set[tuple[object, ...]] = set()
        self.request = request

    @property
    def kept(self) -> dict[Any, Any]:
        """What rules keep for the rest of the call."""
        return _kept(self.request)

    async def child(self, request: Request[R], purpose: str) -> R:
        """Ask something in this call."""
        return await self._call_next(self.request.child(request, purpose=purpose))

    # --- deciding ------------------------------------------------------------------------------

    def decide(self, steps: Generator[Query | Question, Verdict | None, str]) -> str:
        """What may be let through, by rules that answer at once."""
        try:
            found = next(steps)
            while True:
                if type(found) is Query:
                    found = steps.send(self._judged(found))
                else:
                    self._must_be_given(cast("Question", found))
                    found = steps.send(None)
        except StopIteration as stop:
            return cast("str", stop.value)

    async def decide_later(self, steps: Generator[Query | Question, Verdict | None, str]) -> str:
        """The same by rules that may have to be awaited."""
        try:
            found = next(steps)
            while True:
                if type(found) is Question:
                    await self.agree(found)
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
            verdict = _failure_of(error)
        return self._checked(rule, verdict, inspection.direction)

    async def judge(self, rule: Rule, inspection: Inspection) -> Verdict | None:
        """What a rule says of a text; None if it failed, and that may pass."""
        direction = inspection.direction
        threaded = rule.blocking or (len(inspection.text) >= _LONG and not waits(rule))
        if threaded:
            thread = self.request.context.ports.thread
            return await self._awaited(rule, lambda: thread(rule.inspect, inspection), direction)
        found: Any
        try:
            found = rule.inspect(inspection)
        except Exception as error:  # noqa: BLE001 - whatever it is, the text was not inspected
            found = _failure_of(error)
        if type(found) is not Verdict and isawaitable(found):
            return await self._later(rule, found, direction)
        return self._checked(rule, found, direction)

    async def review(self, rule: Rule, review: Review) -> Verdict | None:
        """What a rule says of the request as a whole; None if it failed, and that may pass."""
        thread = self.request.context.ports.thread
        if rule.blocking:
            return await self._awaited(rule, lambda: thread(rule.review, review), "in")
        found: Any
        try:
            found = rule.review(review)
        except Exception as error:  # noqa: BLE001 - whatever it is, the request was not inspected
            found = _failure_of(error)
        if type(found) is not Verdict and isawaitable(found):
            return await self._later(rule, found, "in")
        return self._checked(rule, found, "in")

    async def _later(
        self, rule: Rule, verdict: Awaitable[Any], direction: Literal["in", "out"]
    ) -> Verdict | None:
        try:
            return await self._awaited(rule, lambda: verdict, direction)
        finally:
            if iscoroutine(verdict):
                verdict.close()  # where the call was over before it could be awaited

    async def _awaited(
        self, rule: Rule, judge: Callable[[], Awaitable[Any]], direction: Literal["in", "out"]
    ) -> Verdict | None:
        context, timeout = self.request.context, self._guard.timeout
        verdict: Any = None
        with anyio.move_on_after(timeout) as scope:
            try:
                verdict = await context.wait(judge, what=f"guard rule {rule.name!r}")
            except _ENDINGS:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing was inspected
                verdict = _failure_of(error)
        if scope.cancelled_caught:
            verdict = _Failure(f"it took longer than {timeout:g} s")
        return self._checked(rule, verdict, direction)

    def _checked(self, rule: Rule, verdict: Any, direction: Literal["in", "out"]) -> Verdict | None:
        """The verdict, if it is one."""
        if type(verdict) is Verdict:
            if verdict.kind == "allow" and verdict.reason:
                self.note("noted", rule, verdict, direction)
            return verdict
        if type(verdict) is _Failure:
            why = verdict.why
        elif iscoroutine(verdict):
            verdict.close()
            why = "it is no async function, and returned a coroutine"
        else:
            why = f"it returned {type(verdict).__name__} instead of a verdict"
        self.request.context.note(
            "guard", "guard.failed", rule=rule.name, why=why, direction=direction
        )
        if self._guard.on_failure == "refuse":
            raise self._failure(rule, why, direction)
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

    def blocked(
        self, rule: Rule, verdict: Verdict, direction: Literal["in", "out"]
    ) -> BlockedError:
        """The error of a block, which is written down."""
        self.note("blocked", rule, verdict, direction)
        what = "request" if direction == "in" else "answer"
        kinds = [kind for kind in verdict.kinds if kind != verdict.reason]
        more = ", ".join([*kinds, *[f"{k}={v}" for k, v in verdict.numbers.items()]])
        message = (
            f"The guard rule {rule.name!r} does not let the {what} pass: {verdict.reason}"
            f"{f' ({more})' if more else ''}."
        )
        error = _refusal(BlockedError, direction, message, None)
        error.rule, error.kinds = rule.name, verdict.kinds
        return error

    def broken(self, rule: Rule, why: str) -> InspectionError:
        """The error of a rule that does what it must not."""
        return self._failure(rule, why, "out")

    def _failure(self, rule: Rule, why: str, direction: Literal["in", "out"]) -> InspectionError:
        what = "request" if direction == "in" else "answer"
        message = f"The guard rule {rule.name!r} could not inspect the {what}: {why}."
        hint = "What is not inspected does not pass; Guard(on_failure='pass') would let it."
        error = _refusal(InspectionError, direction, message, hint)
        error.inspector = rule.name
        return error

    # --- asking somebody -----------------------------------------------------------------------

    async def agree(self, question: Question) -> None:
        """Return if somebody agrees.

        Raises:
            ApprovalRequired: If there is nobody to ask.
            BlockedError: If the approver says no.
            InspectionError: If the approver fails.
        """
        approve = self._guard.approve
        if approve is None or self._is_given(question):
            self._must_be_given(question)
            return
        self.note("asked", question.rule, question.verdict, question.direction)
        approval, rule = self._approval(question), question.rule
        answer: Any = None
        try:
            answer = await self.request.context.wait(
                lambda: approve(approval), what="waiting for an approval"
            )
        except _ENDINGS:
            raise
        except Exception as error:  # noqa: BLE001 - it may quote the text
            answer = _failure_of(error)
        if answer is True:
            self._approved().add(approval.id)
            self.note("approved", rule, question.verdict, question.direction)
            return
        if answer is not False:
            said = answer.why if type(answer) is _Failure else "it gave neither True nor False"
            raise self._failure(rule, f"the approver failed: {said}", question.direction)
        self.note("denied", rule, question.verdict, question.direction)
        raise self.blocked(
            rule, attrs.evolve(question.verdict, reason="denied"), question.direction
        )

    def _must_be_given(self, question: Question) -> None:
        if self._is_given(question):
            self.note("approved", question.rule, question.verdict, question.direction)
            return
        approval = self._approval(question)
        self.note("asked", question.rule, question.verdict, question.direction)
        what = "request" if question.direction == "in" else "answer"
        message = (
            f"The guard rule {approval.rule!r} lets the {what} pass only if somebody agrees: "
            f"{approval.reason}."
        )
        hint = (
            "Ask, and run the request again with Context(attributes={'approvals': "
            f"[{approval.id!r}]}}), or give Guard(approve=...)."
        )
        error = _refusal(ApprovalRequired, question.direction, message, hint)
        error.rule, error.approval_id = approval.rule, approval.id
        raise error

    def _is_given(self, question: Question) -> bool:
        given: object = self.request.context.attributes.get("approvals", ())
        approvals = () if isinstance(given, str) else cast("Collection[str]", given)
        if not approvals and not self._approved():
            return False
        found = self._approval(question).id
        return found in approvals or found in self._approved()

    def _approved(self) -> set[str]:
        """What has been agreed to in this call."""
        return cast("set[str]", self.kept.setdefault("guard.approved", set()))

    def _approval(self, question: Question) -> Approval:
        context, verdict = self.request.context, question.verdict
        facts = (
            question.rule.name, verdict.reason, question.direction, context.tenant, context.user,
            context.session, question.text,
        )  # fmt: skip
        digest = blake2b(digest_size=16, person=b"lamella-guard-1")
        for fact in facts:
            data = b"" if fact is None else b"=" + fact.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
        return Approval(
            digest.hexdigest(),
            question.rule.name,
            verdict.reason,
            verdict.kinds,
            question.direction,
            context.tenant,
            context.user,
            context.session,
            question.text[: self._guard.preview],
            verdict.numbers,
        )


def _tables() -> WeakKeyDictionary[Trace, dict[Any, Any]]:
    return WeakKeyDictionary()


def _kept(request: Request[Any]) -> dict[Any, Any]:
    """What rules keep for one call, however many turns and guards it has."""
    local = request.context.ports.stores.local
    tables = local.get(("lamella", "guard", "kept"), _tables)
    trace = request.context.trace
    kept = tables.get(trace)
    return tables.setdefault(trace, {}) if kept is None else kept


def _refusal(kind: type[E], direction: Literal["in", "out"], message: str, hint: str | None) -> E:
    """An error of this layer. An answer is refused after the provider was asked."""
    if direction == "in":
        return kind(message, hint=hint, layer="guard", outcome=Outcome.NOT_SENT)
    return kind(message, hint=hint, layer="guard", phase="stream", outcome=Outcome.FAILED)


@attrs.frozen
class _Failure:
    """Why there is no verdict: words of ours, as anything else may quote the text."""

    why: str


def _failure_of(error: Exception) -> _Failure:
    """Its class, and the code of errors of ours."""
    kind = type(error).__name__
    if isinstance(error, LamellaError) and error.code:
        return _Failure(f"{kind} ({error.code})")
    return _Failure(kind)
