"""The layer: what it offers a model, and when a loop is needed at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import attrs

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    Handler,
    Money,
    Tool,
    ToolCall,
    ToolCallDelta,
    UnsupportedError,
    middleware,
)
from lamella._evolve import changed
from lamella._options import (
    each_of,
    flag,
    one_of,
    optional_seconds,
    refused,
    span_or_none,
    whole,
)
from lamella._price_sources import PRICES
from lamella_middlewares.tools._approvals import must_be_decisions
from lamella_middlewares.tools._function_tool import (
    Approve,
    FunctionTool,
    approve_given,
    most_given,
    tool_of,
)
from lamella_middlewares.tools._limits import amount, money
from lamella_middlewares.tools._loop import Loop
from lamella_middlewares.tools._parameters import names_of
from lamella_middlewares.tools._scene import Asked

TIMEOUT = 60.0
MAX_OUTPUT = 50_000


def _made(given: Any) -> tuple[FunctionTool[..., Any], ...]:
    items = given
    if callable(given) or isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        hint = "Give a list of functions: Tools([get_weather, search])."
        raise ConfigurationError(f"Tools({given!r}) names no tools.", hint=hint)
    return tuple(each_of("tools", items, tool_of))


def _different(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if not value:
        raise refused(layer, option, value, "at least one function")
    names = [one.name for one in value]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        hint = 'Give one of them another name: tool(function, name="...").'
        raise ConfigurationError(f"Tools: two tools are called {twice[0]!r}.", hint=hint)


def _told_of_errors(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not callable(value):
        raise refused(layer, option, value, "a plain function of (call, error), or None")


def _number_or_none(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        whole(1)(layer, option, value)


def _requires(layer: Any) -> frozenset[str]:
    return frozenset() if layer.max_cost is None else frozenset([PRICES])


@middleware(
    phase="compose",
    rank=50,
    requests=ChatRequest,
    provides=("tools",),  # a layer outside that forces a call leaves these to be called first
    effects=("calls again", "changes requests", "changes events", "asks a child"),
    outside={
        "retry": "a try that fails after a tool was run would run it again",
        "fallback": "a target that fails after a tool was run would have it run again for the next",
        "hedge": "both copies of a request would run the tools",
    },
)
@attrs.frozen
class Tools:
    """Lets the model call functions: runs what it asks for, tells it the results, asks again.

    The model turns and the tools between them are one answer, streamed or not: `response.messages`
    has all that is to be appended to the conversation, and each call in it is answered exactly
    once. Each model turn passes all layers inside. Calls of tools that the request itself came with
    are not run: they are the caller's.

    Args:
        tools: Functions, plain or async, or what `tool(function, ...)` makes of them.
        max_steps: How many model turns one answer may have, 2 or more.
        max_tokens: From how many tokens on no further tool is run, 1 or more: those of all attempts
            of the call so far. None sets no limit.
        max_cost: The same for money: `"0.50"` (dollars) or `Money`, above 0. Where the cost is not
            known the limit counts as reached. None sets no limit.
        max_seconds: The same for time since the request came, above 0, in which tools under way
            are stopped. None leaves it to the deadline.
        on_limit: What happens at a limit: `"answer"` asks the model for a last turn, without tools;
            `"raise"` raises `ToolLimitError`.
        timeout: Seconds that one try of a call may take, above 0; None leaves it to the deadline.
        concurrency: How many calls of one message are run at once, 1 or more.
        max_output: How many characters of text one result may have, 1 or more; the rest is cut off,
            and the model is told so. None cuts nothing.
        approve: Who is asked before a call; see `tool`. None asks nobody.
        resume: Whether calls that a conversation ends with, and that nobody has answered, are run
            before the model is asked. Set it to False where strangers write whole conversations.
        fence: Whether the texts of results stand between lines that say that they are data.
        on_error: A plain function of (call, error), told of each exception of a tool or an
            approver. The trace has only its class.
    """

    tools: tuple[FunctionTool[..., Any], ...] = attrs.field(converter=_made, validator=_different)
    max_steps: int = attrs.field(default=10, validator=whole(2))
    max_tokens: int | None = attrs.field(default=None, validator=_number_or_none)
    max_cost: Money | None = attrs.field(default=None, converter=money, validator=amount)
    max_seconds: float | None = attrs.field(
        default=None, converter=optional_seconds, validator=span_or_none
    )
    on_limit: Literal["answer", "raise"] = attrs.field(
        default="answer", validator=one_of("answer", "raise")
    )
    timeout: float | None = attrs.field(
        default=TIMEOUT, converter=optional_seconds, validator=span_or_none
    )
    concurrency: int = attrs.field(default=10, validator=whole(1))
    max_output: int | None = attrs.field(default=MAX_OUTPUT, validator=most_given)
    approve: Approve | Literal["ask"] | None = attrs.field(default=None, validator=approve_given)
    resume: bool = attrs.field(default=True, validator=flag)
    fence: bool = attrs.field(default=False, validator=flag)
    on_error: Callable[[ToolCall, Exception], object] | None = attrs.field(
        default=None, validator=_told_of_errors
    )
    by_name: Mapping[str, FunctionTool[..., Any]] = attrs.field(
        init=False,
        repr=False,
        eq=False,
        default=attrs.Factory(lambda self: {one.name: one for one in self.tools}, takes_self=True),
    )
    declared: tuple[Tool, ...] = attrs.field(
        init=False,
        repr=False,
        eq=False,
        default=attrs.Factory(
            lambda self: tuple([one.declared for one in self.tools]), takes_self=True
        ),
    )
    requires: frozenset[str] = attrs.field(
        init=False, repr=False, eq=False, default=attrs.Factory(_requires, takes_self=True)
    )

    async def __call__(self, request: ChatRequest, call_next: Handler) -> ChatResponse:
        """Send the request on with the tools, and go on as long as the model asks for them.

        Raises:
            ApprovalRequired: If somebody has to agree first; `calls` says to what.
            MisuseError: If the context has an id as approved and as declined.
            ToolLimitError: At a limit, with `on_limit="raise"`, or if the model asks for tools in
                the turn that has none.
            LamellaError: What a model turn failed with; with the turns before it in `partial`.
        """
        if request.n is not None and request.n > 1:
            msg = f"n={request.n}: tools are run for one answer, not for several."
            raise UnsupportedError(msg, hint="Leave `n` out.", layer="tools", elsewhere=False)
        must_be_decisions(request.context)
        offered = self._offer(request)
        waiting = self._waiting(request) if self.resume else None
        if waiting is None:
            response = await call_next(offered)
            if response.complete and not _asks(response):
                return response
            loop = Loop(self, offered, request.tools, call_next)
            loop.take(response)
        else:
            loop = Loop(self, offered, request.tools, call_next)
            response = await loop.resume(waiting)
        head = response.head
        if response.complete:  # and there are further turns, which nobody has paid for yet
            head = attrs.evolve(head, raw=None, cached=False, cost=None)
        if request.stream:
            return request.open(loop, head)
        return request.answer(await loop.all(), head)

    def _offer(self, request: ChatRequest) -> ChatRequest:
        """The request with the tools; the same tuple each time, where it has none of its own."""
        if not request.tools:
            return changed(request, "tools", self.declared)
        others: list[Any] = []
        for one in request.tools:
            own = self.by_name.get(one.name) if isinstance(one, Tool) else None
            if own is None:
                others.append(one)
            elif own.declared != one:
                msg = f"The request has a tool {own.name!r}, and so has Tools."
                raise ConfigurationError(msg, hint="Give one of them another name.", layer="tools")
        return request.evolve(tools=(*self.declared, *others))

    def _waiting(self, request: ChatRequest) -> Asked | None:
        """The calls that the conversation ends with, if they are for its tools to answer."""
        messages = request.messages
        stop = len(messages)
        answered: set[str] = set()
        while stop and messages[stop - 1].role == "tool":
            stop -= 1
            answered.update([part.call_id for part in messages[stop].parts])  # type: ignore[union-attr] # pyright: ignore[reportAttributeAccessIssue]
        if not stop or messages[stop - 1].role != "assistant":
            return None
        message = messages[stop - 1]
        calls = message.tool_calls
        unanswered = tuple([call for call in calls if call.id not in answered])
        if not unanswered or len({call.id for call in calls} - {""}) != len(calls):
            return None
        names = {call.name for call in unanswered}
        if names.isdisjoint(self.by_name) or not names_of(request.tools).isdisjoint(
            names.difference(self.by_name)
        ):
            return None  # nobody's, or the caller's
        return Asked(message, unanswered)


def _asks(response: ChatResponse) -> bool:
    """Whether an answer has a call of a tool; to look at what it says would cost more."""
    return any(type(event) is ToolCallDelta for event in response.events)
