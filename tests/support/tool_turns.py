"""Model turns that ask for tools, and what holds of every conversation with tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from lamella import (
    ChatRequest,
    ChatResponse,
    Finish,
    Message,
    Pipeline,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    UsageReport,
    answered,
)
from lamella.testing import Scripted, virtual_ports

ASK = ChatRequest.of("hello", model="m")


def call(name: str, identity: str = "", /, **arguments: Any) -> ToolCall:
    """A call of a tool; its id is the tool's name where none is given."""
    return ToolCall(identity or name, name, json.dumps(arguments))


def asks(*calls: ToolCall, reason: str = "tool_calls", usage: Any = None) -> list[Any]:
    """A turn that asks for tools, its calls in pieces that come interleaved."""
    events: list[Any] = [
        ToolCallDelta(index, one.id, one.name, "") for index, one in enumerate(calls)
    ]
    halves = [len(one.arguments) // 2 for one in calls]
    for index, one in enumerate(calls):
        events.append(ToolCallDelta(index, arguments=one.arguments[: halves[index]]))
    for index, one in enumerate(calls):
        events.append(ToolCallDelta(index, arguments=one.arguments[halves[index] :]))
    return [*events, *([] if usage is None else [UsageReport(usage)]), Finish(reason)]


def pipeline(layer: Any, script: Any, *inside: Any, **more: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own, and what its model says in each turn."""
    transport = script if isinstance(script, Scripted) else Scripted(script)
    return Pipeline([layer, *inside], transport, ports=virtual_ports(), **more)


async def read(pipe: Pipeline, request: ChatRequest = ASK, *, stream: bool) -> ChatResponse:
    """The whole answer, read in one of the two ways."""
    if not stream:
        return await pipe.run(request)
    async with pipe.stream(request) as response:
        await response.collect()
    return response


def results(messages: Sequence[Message]) -> list[tuple[str, str, bool]]:
    """What the tools said: the call's id, the text, and whether it is an error."""
    return [
        (part.call_id, message.text, part.error)
        for message in messages
        for part in message.parts
        if isinstance(part, ToolResult)
    ]


def sent(transport: Scripted) -> list[Any]:
    """What the model was asked, as requests for chat."""
    return list(transport.requests)


def noted(response: Any, name: str = "tools.called") -> list[dict[str, Any]]:
    """The fields of the notes of a name."""
    return [dict(note.fields) for note in response.trace.notes if note.name == name]


def whole(requests: Iterable[Any]) -> bool:
    """Whether every conversation that was sent has a result for each call, and the other way."""
    return all(answered(request.messages) for request in requests)
