"""What the turns of one answer share, and what a message of the model's asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from lamella import ChatRequest, Context, Handler, Message, ToolCall
from lamella_middlewares.tools._approvals import Approvals
from lamella_middlewares.tools._function_tool import FunctionTool

if TYPE_CHECKING:
    from lamella_middlewares.tools._middleware import Tools


@attrs.define(eq=False)
class Scene:
    """What the turns of one answer share.

    Attributes:
        tools: The options.
        request: What is asked, with the tools offered.
        call_next: The handler inside.
        approvals: What somebody has decided.
        effects: Whether a tool has been run that must not be run twice.
    """

    tools: Tools
    request: ChatRequest
    call_next: Handler
    approvals: Approvals
    effects: bool = False

    @property
    def context(self) -> Context:
        """Of the request."""
        return self.request.context


@attrs.frozen(eq=False)
class Asked:
    """What a message asks for, each call with an id of its own.

    Attributes:
        message: The message.
        calls: Its calls.
        duplicates: The places of those that had the id of one before them.
        mended: Whether ids were made anew, so that the calls are not found again by them.
    """

    message: Message
    calls: tuple[ToolCall, ...]
    duplicates: frozenset[int] = frozenset()
    mended: bool = False

    @classmethod
    def of(cls, message: Message, new_id: Callable[[], str]) -> Asked:
        """What a model's message asks for; ids that are missing, or stand twice, are made anew."""
        calls = message.tool_calls
        ids = {call.id for call in calls}
        if len(ids) == len(calls) and "" not in ids:
            return cls(message, calls)
        seen: set[str] = set()
        duplicates: set[int] = set()
        mended: list[ToolCall] = []
        for place, call in enumerate(calls):
            if call.id in seen:
                duplicates.add(place)
            identity = f"call_{new_id()[-24:]}" if not call.id or call.id in seen else call.id
            seen.add(identity)
            mended.append(attrs.evolve(call, id=identity))
        rest = iter(mended)
        parts = [next(rest) if isinstance(part, ToolCall) else part for part in message.parts]
        return cls(
            attrs.evolve(message, parts=parts), tuple(mended), frozenset(duplicates), mended=True
        )


@attrs.frozen(eq=False)
class Ready:
    """A call that can be run.

    Attributes:
        place: Its place among the calls of its message.
        call: The call.
        tool: The tool.
        read: Its arguments.
    """

    place: int
    call: ToolCall
    tool: FunctionTool[..., Any]
    read: Any
