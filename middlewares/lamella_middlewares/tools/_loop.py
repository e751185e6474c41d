"""The loop: model turns and the tools between them, as the events of one answer."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
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
    ToolLimitError,
    Turn,
    Usage,
    UsageReport,
)
from lamella._chat_answer import ChatAnswer, fold
from lamella_middlewares.tools import _outcomes as outcomes
from lamella_middlewares.tools._approvals import Approvals, not_approved
from lamella_middlewares.tools._limits import Limit, Limits, limit_error
from lamella_middlewares.tools._parameters import names_of
from lamella_middlewares.tools._round import Asked, Round, Scene

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
        self._given = given
        self._callers = names_of(given)
        self._scene = Scene(tools, request, call_next, Approvals(context))
        self._limits = Limits(tools, context)
        self._turn = 0
        self._last = False  # whether the turn under way is the one without tools
        self._added: list[Message] = []  # what the turns so far have added to the conversation
        self._response: ChatResponse | None = None
        self._cursor: AsyncIterator[Event] | None = None
        self._reported: Usage | None = None  # by the turn under way
        self._usage: Usage | None = None  # of the turns before it
        self._unreported = False
        self._pending: deque[Event] = deque()
        self._step: Callable[[], Awaitable[None]] | None = None
        self._failure: Exception | None = None
        self._scope: anyio.CancelScope | None = None
        self._closed = False

    @property
    def effects(self) -> bool:
        """Whether a tool has been run that must not be run twice."""
        return self._scene.effects

    # --- the source ----------------------------------------------------------------------------

    async def __anext__(self) -> Event:
        pending = self._pending
        while not pending:
            if self._closed:
                raise _closed()
            if self._failure is not None:
                raise self._failure
            if self._step is not None:
                step, self._step = self._step, None
                await self._interruptibly(step)
            elif self._cursor is not None:
                self._saw(await anext(self._cursor))
            else:
                raise StopAsyncIteration
        return pending.popleft()

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
        self._response, self._cursor = response, aiter(response)

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
        if self._turn > 1:
            changes["tool_choice"] = self._choice()
        response = await self._scene.call_next(request.evolve(**changes) if changes else request)
        self._response, self._cursor = response, aiter(response)
        if self._closed:
            await response.aclose()
        return response

    async def _ask(self) -> None:
        try:
            await self.ask()
        except LamellaError as error:
            raise self._with_usage(error) from error.__cause__

    def _choice(self) -> str | Mapping[str, Any] | None:
        """What the model must do in a further turn.

        A tool that it had to call has been called: having to call it again it would never end. Only
        where it must end with a tool of the caller's it still must.
        """
        choice = self._request.tool_choice
        if self._callers and choice == "required":
            only = next(iter(self._callers)) if len(self._callers) == 1 else choice
            return only if self._last else choice
        if self._last:
            return "none"
        return choice if _is_free(choice) else None

    def _saw(self, event: Event) -> None:
        if type(event) is UsageReport:
            self._reported = event.usage
        elif type(event) is Finish:
            self._ended(event)
        else:
            self._pending.append(event)

    def _ended(self, finish: Finish) -> None:
        """A model turn is over: hand out its end, or see to what it asks for."""
        self._cursor = None
        assert self._response is not None  # noqa: S101 - whose end it is
        message = self._response.message
        self._account()
        names = {call.name for call in message.tool_calls}
        if not names or any(self._is_callers(name) for name in names):
            self._finish(finish)
            return
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
        refusal, limit = self._refusal(finish)
        if refusal is not None:
            calls.refuse(refusal)
        else:
            await self._run(calls)
            if self._failure is not None and not calls.over:
                return  # somebody has to agree first: the message goes out as it is
        self._turn_over((asked.message, *calls.answers))
        if self._failure is None:
            self._go_on(finish, limit)

    def _refusal(self, finish: Finish) -> tuple[str | None, Limit | None]:
        """Why the calls of a message are not run, and which limit is reached, if that is why."""
        if finish.reason == "length":
            return outcomes.CUT_OFF, None
        if finish.reason not in _ENDS_WELL:
            return outcomes.NOT_FINISHED.format(reason=finish.reason), None
        limit: Limit | None = self._limits.reached()
        if self._turn >= self._tools.max_steps:
            limit = "max_steps"
        if limit is not None:
            return outcomes.LIMIT.format(what=outcomes.LIMITS[limit]), limit
        return (outcomes.NO_TOOLS if self._last else None), None

    async def _run(self, calls: Round) -> None:
        """Run the calls; a deadline that passes, or a pipeline that closes, is for later."""
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
            calls.end()
            self._failure = self._with_usage(error)
        except BaseException:
            calls.end()
            raise

    def _turn_over(self, messages: tuple[Message, ...]) -> None:
        self._added.extend(messages)
        self._pending.append(Turn(messages))

    def _go_on(self, finish: Finish, limit: Limit | None) -> None:
        """What follows a turn whose calls are answered."""
        if finish.reason not in {*_ENDS_WELL, "length"}:
            self._finish(finish)
            return
        if limit is None and self._turn >= self._tools.max_steps:
            limit = "max_steps"
        if self._last or (limit is not None and self._tools.on_limit == "raise"):
            self._failure = self._with_usage(limit_error(limit or "max_steps", self._tools))
            return
        if limit is None and self._turn + 1 >= self._tools.max_steps:
            limit = "max_steps" if self._tools.on_limit == "answer" else None
        if limit is not None:
            self._last = True
            self._request.context.note("tools", "tools.limit", limit=limit)
        self._step = self._ask

    # --- going on with a conversation ----------------------------------------------------------

    async def resume(self, asked: Asked) -> None:
        """Answer the calls that the conversation has come with.

        Raises:
            ApprovalRequired: If somebody has to agree to one of them.
            DeadlineExceeded: If the call's deadline passes.
            ClosedError: If the pipeline closes.
        """
        calls = Round(self._scene, asked, 0, self._request.messages)
        await self._run(calls)
        if calls.over:
            self._turn_over(calls.answers)
        if self._failure is not None:
            raise self._failure

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
            if not self._added and self._turn <= 1 and not isinstance(error, ToolLimitError):
                raise self._whole(error, events) from error.__cause__
            raise self._whole(error, events) from error.__cause__
        except BaseException:
            await self.aclose()
            raise
        return events

    def _whole(self, error: LamellaError, events: list[Event]) -> LamellaError:
        return error

    def _with_usage(self, error: LamellaError) -> LamellaError:
        """An error with what the turns before it have consumed as well."""
        if self._usage is None:
            return error
        usage = self._usage if error.usage is None else self._usage + error.usage
        return error.copy(usage=usage)


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
