"""Asking for a value: the first turn, and those in which a wrong answer is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import attrs

from lamella import ChatRequest, ChatResponse, Context, Handler, MisuseError, Usage
from lamella._chat_answer import ChatAnswer, fold
from lamella._events import Event, Finish, Turn, UsageReport
from lamella._tokens import counted_tokens, output_usage
from lamella._transforms import transformed
from lamella._typed_forms import form_of
from lamella_middlewares.structured._corrections import Corrections
from lamella_middlewares.structured._failures import bearing, both, failure
from lamella_middlewares.structured._first_turn import (
    LAYER,
    another,
    first_turn,
    must_be_possible,
)
from lamella_middlewares.structured._keeping import refreshing
from lamella_middlewares.structured._open_answers import OpenAnswer
from lamella_middlewares.structured._reading import Reader
from lamella_middlewares.structured._tool_answers import ToolAnswers, ended
from lamella_middlewares.structured._verdicts import MISMATCH, WAITING, Verdict, judge

if TYPE_CHECKING:
    from lamella_middlewares.structured._middleware import Structured
    from lamella_middlewares.structured._modes import Asked


_HINT_ATTEMPTS: Final = (
    "Describe the fields of the type, take a stronger model, or raise Structured(attempts=...)."
)
_HINT_REPAIR: Final = (
    "Structured(repair=True) mends what is nearly JSON. If it was none at all, take a stronger "
    "model, or raise Structured(attempts=...)."
)
_HINT_HOPELESS: Final = (
    "The model says the same whatever it is told: describe the fields of the type, or take another."
)
_HINT_STREAM: Final = "What is shown cannot be asked for again: Structured(hold=True) reads first."


class Asking:
    """One call's way to a value.

    Args:
        layer: Its options.
        request: The caller's, with `returns`.
        call_next: The handler inside.

    Raises:
        ConfigurationError: If the type cannot be asked for, or the request says otherwise.
    """

    def __init__(self, layer: Structured, request: ChatRequest, call_next: Handler) -> None:
        must_be_possible(request)
        self._layer = layer
        self._call_next = call_next
        self._context = request.context
        self._form = form_of(request.returns)
        self._reader = Reader(self._form)
        self._shown = request.stream and not layer.hold
        self._request = request.evolve(returns=None, stream=self._shown)
        self._corrections = Corrections(self._form)
        self._turns = 1
        self._refreshed = False
        self._wrong: ChatAnswer | None = None  # the last answer that was asked for again
        self._spent: Usage | None = None  # by the turns that are over
        self._paid = 0  # tokens of it, kept answers not counted

    async def run(self) -> ChatResponse:
        """Ask until there is a value, or no sense in asking again.

        Raises:
            LamellaError: As the layer does.
        """
        asked, response = await first_turn(self._layer, self._request, self._form, self._call_next)
        request = asked.request
        while True:
            if response.open and self._shown:
                return self._opened(asked, request, response)
            if response.open:
                response = await bearing(response.collect(), self._wrong)
            events, finish = _said(asked, response)
            answer = self._with_turns(fold([*events, finish]))
            verdict = await bearing(self._judged(answer), answer)
            if verdict.good or verdict.code == WAITING:
                made = self._complete(request, response, [*events, finish])
                return await bearing(made, answer)
            following, hint = await bearing(self._next(asked, request, response, verdict), answer)
            if following is None:
                raise failure(self._form, answer, verdict, hint)
            self._wrong = attrs.evolve(answer, usage=self._spent)
            request = following
            response = await bearing(self._call_next(request), self._wrong)

    # --- turns -----------------------------------------------------------------------------------

    async def _next(
        self, asked: Asked, request: ChatRequest, response: ChatResponse, verdict: Verdict
    ) -> tuple[ChatRequest | None, str]:
        """The request of the turn after a wrong answer; or None, and what to do instead."""
        again, hint = await self._again(asked, request, response, verdict)
        if again is None and response.head.cached and not self._refreshed:
            again = refreshing(request)
            if self._paid and await self._too_much(request, self._paid, response.usage):
                again = None
            if again is not None:
                self._refreshed = True
                self._context.note(LAYER, "structured.refreshed", code=verdict.code)
        return again, hint

    async def _again(
        self, asked: Asked, request: ChatRequest, response: ChatResponse, verdict: Verdict
    ) -> tuple[ChatRequest | None, str]:
        """The request that says what is wrong; or None, and why there is none."""
        if verdict.code != MISMATCH:
            return None, ""
        if self._turns >= self._layer.attempts:
            return None, _HINT_ATTEMPTS if self._layer.repair or verdict.is_json else _HINT_REPAIR
        if self._corrections.hopeless(verdict):
            return None, _HINT_HOPELESS
        again = another(asked.request, f"again{self._turns + 1}").evolve(
            messages=self._corrections.messages(asked, response, verdict)
        )
        usage = response.usage or await _estimated(request, response)
        paid = self._paid + (0 if response.head.cached else usage.total_tokens)
        if await self._too_much(again, paid, usage):
            most = self._layer.max_tokens
            return None, f"Raise Structured(max_tokens={most}): {paid} of them are used up."
        self._corrections.saw(response, verdict)
        self._paid = paid
        self._spent = usage if self._spent is None else self._spent + usage
        self._turns += 1
        self._context.note(
            LAYER,
            "structured.again",
            turn=self._turns,
            problems=len(verdict.problems),
            first=str(verdict.problems[0]),
        )
        return again, ""

    async def _too_much(self, request: ChatRequest, paid: int, before: Usage | None) -> bool:
        """Whether the question of a further turn alone would pass the bound on tokens.

        Args:
            request: The turn.
            paid: What the turns before it have used.
            before: What the last one has consumed. Its question was no longer, but may have been
                several, where tools were used on the way.
        """
        most = self._layer.max_tokens
        if most is None:
            return False
        least = await counted_tokens(request)
        if before is not None:
            least = min(before.input_tokens, least)
        return paid + least > most

    # --- answers -------------------------------------------------------------------------------

    async def _judged(self, answer: ChatAnswer) -> Verdict:
        verdict = await judge(answer, self._form, self._context, repair=self._layer.repair)
        if verdict.repaired:
            self._context.note(LAYER, "structured.repaired", what=verdict.repaired)
        self._reader.settle(verdict, answer)
        return verdict

    async def _complete(
        self, request: ChatRequest, response: ChatResponse, events: list[Event]
    ) -> ChatResponse:
        """The answer to the caller, with the tools that earlier turns have used."""
        if self._spent is not None:
            used = self._spent + (response.usage or await _estimated(request, response))
            events = [event for event in events if not isinstance(event, UsageReport)]
            events.insert(-1, UsageReport(used))
        own = self._request.evolve(context=self._context_of(response))
        made = own.answer([*self._before(), *events], response.head)
        made.read_values_by(self._reader)
        return made

    def _opened(self, asked: Asked, request: ChatRequest, response: ChatResponse) -> ChatResponse:
        """The answer to a caller who reads it while it comes."""
        tools = None if asked.tool is None else ToolAnswers(asked.tool)
        inner = response if tools is None else response.transform(tools)

        async def end(finish: Finish) -> list[Event]:
            answer = self._with_turns(inner.answer)
            verdict = await self._judged(answer)
            if not verdict.good and verdict.code != WAITING:
                raise failure(self._form, answer, verdict, _HINT_STREAM)
            last: list[Event] = [ended(finish, tools)]
            if self._spent is not None and inner.usage is None:
                last.insert(0, UsageReport(self._spent + await _estimated(request, inner)))
            return last

        source = OpenAnswer(inner, self._before(), self._spent, end)
        made = ChatResponse.opened(source, response.context, response.head)
        made.read_values_by(self._reader)
        return made

    def _context_of(self, response: ChatResponse) -> Context:
        try:
            return response.context
        except MisuseError:  # some layer inside has made it by hand
            return self._context

    def _before(self) -> list[Event]:
        """What the turns before have added to the conversation."""
        kept = self._corrections.kept
        return [Turn(kept)] if kept else []

    def _with_turns(self, answer: ChatAnswer) -> ChatAnswer:
        """The answer of a turn with what the turns before it have added and consumed."""
        if self._spent is None:
            return answer
        messages = (*self._corrections.kept, *answer.messages)
        return attrs.evolve(answer, messages=messages, usage=both(self._spent, answer.usage))


def _said(asked: Asked, response: ChatResponse) -> tuple[list[Event], Finish]:
    """The events of a complete answer with its end apart, calls of the layer's tool as text."""
    tools = None if asked.tool is None else ToolAnswers(asked.tool)
    events = list(response.events)
    if tools is not None:
        events = transformed(events, tools)
    finish = events.pop() if events and isinstance(events[-1], Finish) else Finish("stop")
    return events, ended(cast("Finish", finish), tools)


async def _estimated(request: ChatRequest, response: ChatResponse) -> Usage:
    """What a turn has consumed of which nobody has said it."""
    read = Usage(uncached_input=await counted_tokens(request), estimated=True)
    return read + output_usage(response.events)
