"""The loop: model turns and the tools between them, as the events of one answer."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import attrs

from lamella import (
    ChatRequest,
    ChatResponse,
    ClosedError,
    Event,
    Finish,
    Handler,
    LamellaError,
    Message,
    Turn,
    UnsupportedError,
    Usage,
    UsageReport,
)
from lamella._chat_answer import ChatAnswer, fold
from lamella._cursors import Cursor
from lamella_middlewares.tools import _outcomes as outcomes
from lamella_middlewares.tools._approvals import Approvals, not_approved
from lamella_middlewares.tools._limits import Limit, Limits, limit_error
from lamella_middlewares.tools._parameters import names_of
from lamella_middlewares.tools._round import Round
from lamella_middlewares.tools._scene import Asked, Scene

if TYPE_CHECKING:
    from lamella_middlewares.tools._middleware import Tools

_ENDS_WELL: Final = frozenset({"tool_calls", "stop"})


class Loop:
    """The source of an answer's events: those of every turn, and a `Turn` behind each but the last.

    Args:
        tools: The options.
        request: What is asked, with the tools offered.
        given: The tools that the request itself came with: those are for the caller to run.
        call_next: The handler inside.
    """

    def __init__(
        self, tools: Tools, request: ChatRequest, given: tuple[Any, ...], call_next: Handler
    ) -> None:
        context = request.context
        self._tools = tools
        self._request = request
        self._callers = names_of(given)
        self._scene = Scene(tools, request, call_next, Approvals(context))
        self._limits = Limits(tools, context)
        self._turn = 0
        self._resumed = False  # the conversation had come with a turn that asks for tools
        self._limit: Limit | None = None  # that is reached: the turn under way has no tools
        self._added: list[Message] = []  # what the turns so far have added to the conversation
        self._response: ChatResponse | None = None
        self._cursor: Cursor | None = None
        self._reported: Usage | None = None  # by the turn under way
        self._usage: Usage | None = None  # of the turns before it
        self._unreported = False
        self._pending: deque[Event] = deque()
        self._step: Callable[[], Awaitable[None]] | None = None
        self._failure: LamellaError | None = None
        self._scope: anyio.CancelScope | None = None
        self._closed = False

    # --- the source ----------------------------------------------------------------------------

    async def __anext__(self) -> Event:
        if self._pending:
            return self._pending.popleft()
        if self._cursor is None:
            return await self._between()
        try:
            event = await anext(self._cursor)
        except LamellaError as error:
            raise self._told(error) from error.__cause__
        kind = type(event)
        if kind is UsageReport:
            self._reported = cast("UsageReport", event).usage
        elif kind is Finish:
            self._ended(cast("Finish", event))
        else:
            return event
        return await self.__anext__()

    async def _between(self) -> Event:
        """The next event where no turn is under way: take the steps that lead to one."""
        while not self._pending and self._cursor is None:
            if self._closed:
                raise _closed()
            if self._failure is not None:
                raise self._told(self._failure)
            if self._step is None:
                raise StopAsyncIteration
            step, self._step = self._step, None
            try:
                await self._interruptibly(step)
            except LamellaError as error:
                raise self._told(error) from error.__cause__
        return await self.__anext__()

    def unread(self) -> list[Event]:
        """What was there when a read was broken off, and what the turns so far have consumed."""
        pending = [*([] if self._cursor is None else self._cursor.unread()), *self._pending]
        self._pending.clear()
        events = [event for event in pending if type(event) not in {Finish, UsageReport}]
        return events if self._usage is None else [*events, UsageReport(self._usage)]

    async def aclose(self) -> None:
        """End what is under way: tools, a model turn, or its answer."""
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()
        if self._response is not None:
            await self._response.aclose()

    async def _interruptibly(self, step: Callable[[], Awaitable[None]]) -> None:
        with anyio.CancelScope() as scope:
            self._scope = scope
            try:
                await step()
            finally:
                self._scope = None
        if scope.cancelled_caught or self._closed:
            raise _closed()

    # --- a model turn --------------------------------------------------------------------------

    def take(self, response: ChatResponse) -> None:
        """Begin with the answer to the first turn, which is there already."""
        self._turn = 1
        self._response, self._cursor = response, Cursor(response)

    async def ask(self) -> ChatResponse:
        """The next model turn.

        Raises:
            LamellaError: What it failed with.
        """
        self._turn += 1
        request = self._request
        if self._turn > 1:
            request = request.turn(self._turn, asked_by="tools")
        changes: dict[str, Any] = {}
        if self._added:
            changes["messages"] = (*request.messages, *self._added)
        if self._turn > 1 or self._resumed:
            changes["tool_choice"] = self._choice()
        call_next = self._scene.call_next
        request = request.evolve(**changes) if changes else request
        try:
            response = await call_next(request)
        except UnsupportedError:
            if self._limit is None or request.tool_choice != "none":
                raise
            # An API without a word for it; a model that calls once more is stopped all the same.
            response = await call_next(request.evolve(tool_choice=None))
        self._response, self._cursor = response, Cursor(response)
        if self._closed:
            await response.aclose()
        return response

    async def _ask(self) -> None:
        await self.ask()

    def _choice(self) -> str | Mapping[str, Any] | None:
        """What the model must do in a further turn.

        A tool that it had to call has been called: having to call it again it would never end. Only
        where it must end with a tool of the caller's it still must.
        """
        choice = self._request.tool_choice
        if self._callers and choice == "required":
            only = next(iter(self._callers)) if len(self._callers) == 1 else choice
            return only if self._limit is not None else choice
        if self._limit is not None:
            return "none"
        return choice if _is_free(choice) else None

    def _ended(self, finish: Finish) -> None:
        """A model turn is over: hand out its end, or see to what it asks for."""
        self._cursor = None
        assert self._response is not None  # noqa: S101 - whose end it is
        message = self._response.message
        # A layer inside may have tools, and so turns, of its own: they have gone out as they came.
        earlier = self._response.messages[:-1]
        self._account()
        names = {call.name for call in message.tool_calls}
        if not names or any(self._is_callers(name) for name in names):
            self._finish(finish)
            return
        self._added.extend(earlier)
        asked = Asked.of(message, self._request.context.ports.new_id)
        self._step = _bound(self._see_to, asked, finish)

    def _is_callers(self, name: str) -> bool:
        return name in self._callers and name not in self._tools.by_name

    def _account(self) -> None:
        reported, self._reported = self._reported, None
        if reported is None:
            self._unreported = True
        else:
            self._usage = reported if self._usage is None else self._usage + reported

    def _finish(self, finish: Finish) -> None:
        usage = self._usage
        if usage is not None:
            if self._unreported and not usage.estimated:
                usage = attrs.evolve(usage, estimated=True)
            self._pending.append(UsageReport(usage))
        self._pending.append(finish)

    # --- what it asks for ----------------------------------------------------------------------

    async def _see_to(self, asked: Asked, finish: Finish) -> None:
        """Answer every call of a message; then the turn is whole, and the next one may begin."""
        before = (*self._request.messages, *self._added)
        calls = Round(self._scene, asked, self._turn, (*before, asked.message))
        refusal = self._refusal(finish)
        if refusal is not None:
            calls.refuse(refusal)
        else:
            await self._run(calls, (asked.message,))
            if not calls.over:
                return  # somebody has to agree first: the message goes out as it is
        self._turn_over((asked.message, *calls.answers))
        if self._failure is None:
            self._go_on(finish)

    def _refusal(self, finish: Finish) -> str | None:
        """Why the calls of a message are not run; None if they are."""
        if finish.reason == "length":
            return outcomes.CUT_OFF
        if finish.reason not in _ENDS_WELL:
            return outcomes.NOT_FINISHED.format(reason=finish.reason)
        limit = self._limit or self._limits.reached(self._turn)
        return None if limit is None else outcomes.LIMIT.format(what=outcomes.LIMITS[limit])

    async def _run(self, calls: Round, before: tuple[Message, ...]) -> None:
        """Run the calls; a deadline that passes, or a pipeline that closes, is raised later."""
        calls.prepare()
        questions = calls.questions()
        if questions:
            self._request.context.note("tools", "tools.asked", calls=len(questions))
            self._failure = not_approved(questions)
            return
        left = self._limits.seconds_left()
        try:
            await calls.run(None if math.isinf(left) else left)
        except LamellaError as error:
            self._failure = error
        except BaseException:
            calls.end()
            self._turn_over((*before, *calls.answers))  # for whoever looks at what has come
            raise
        calls.end()

    def _turn_over(self, messages: tuple[Message, ...]) -> None:
        self._added.extend(messages)
        self._pending.append(Turn(messages))

    def _go_on(self, finish: Finish) -> None:
        """See to what follows a turn whose calls are answered."""
        tools = self._tools
        if finish.reason != "length" and finish.reason not in _ENDS_WELL:
            self._finish(finish)
            return
        limit = self._limit or self._limits.reached(self._turn)
        if limit is not None and (self._limit is not None or tools.on_limit == "raise"):
            self._failure = limit_error(limit, tools)
            return
        if limit is None and tools.on_limit == "answer" and self._turn + 1 >= tools.max_steps:
            limit = "max_steps"
        if limit is not None:
            self._limit = limit
            self._request.context.note("tools", "tools.limit", limit=limit, turns=self._turn)
        self._step = self._ask

    # --- going on with a conversation ----------------------------------------------------------

    async def resume(self, asked: Asked) -> ChatResponse:
        """Answer the calls that the conversation has come with, and ask the model.

        Raises:
            ApprovalRequired: If somebody has to agree to one of them.
            LamellaError: What the model turn failed with.
        """
        self._resumed = True
        try:
            calls = Round(self._scene, asked, 0, self._request.messages)
            await self._run(calls, ())
            if calls.over:
                self._turn_over(calls.answers)
            if self._failure is not None:
                raise self._failure
            return await self.ask()
        except LamellaError as error:
            raise self._whole(error, list(self._pending)) from error.__cause__

    # --- what it amounts to --------------------------------------------------------------------

    async def all(self) -> list[Event]:
        """Every event, for a caller who wants the answer whole.

        Raises:
            LamellaError: What ended it; with what the turns so far amount to.
        """
        events: list[Event] = []
        try:
            while not events or type(events[-1]) is not Finish:
                events.append(await self.__anext__())
        except LamellaError as error:
            raise self._whole(error, events) from error.__cause__
        except BaseException:
            await self.aclose()
            raise
        return events

    def _whole(self, error: LamellaError, events: list[Event]) -> LamellaError:
        """An error with what has come, which nobody tries again where that would do harm."""
        found = fold(events)
        inner = error.partial
        if isinstance(inner, ChatAnswer) and inner.message.parts:
            found = attrs.evolve(inner, messages=(*self._added, *inner.messages))
        elif not events:
            found = attrs.evolve(found, messages=())
        return self._final(error).copy(partial=found, usage=error.usage or self._usage)

    def _told(self, error: LamellaError) -> LamellaError:
        """An error with what the turns before it have consumed as well."""
        error = self._final(error)
        if self._usage is None:
            return error
        if error.usage is not None:
            self._usage += error.usage
        return error.copy(usage=self._usage)

    def _final(self, error: LamellaError) -> LamellaError:
        """An error that nobody tries again, where that would run a tool twice."""
        if not self._scene.effects:
            return error
        return error.copy(retryable=False, elsewhere=False, should_retry=False)


def _is_free(choice: object) -> bool:
    """Whether a `tool_choice` lets the model speak."""
    if choice is None or choice in ("auto", "none"):
        return True
    if not isinstance(choice, Mapping):
        return False
    fields = cast("Mapping[str, Any]", choice)
    inner = fields.get("allowed_tools", fields)
    return isinstance(inner, Mapping) and cast("Any", inner).get("mode") == "auto"


def _closed() -> ClosedError:
    return ClosedError("The answer was closed while its tools were run.")


def _bound(function: Any, *args: Any) -> Callable[[], Awaitable[None]]:
    return lambda: function(*args)
