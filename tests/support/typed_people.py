"""Values that are asked for, answers that fit or do not, and what the layer notes."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Pipeline,
    StructureError,
    Tool,
    Usage,
    UsageReport,
)
from lamella._events import Finish
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares import Structured


@attrs.frozen
class Person:
    """Who somebody is."""

    name: str
    age: int


@attrs.frozen
class Place:
    """Where something is."""

    kind: Literal["place"]
    city: str


@attrs.frozen
class Thing:
    """What something is."""

    kind: Literal["thing"]
    label: str


ADA = Person("Ada", 36)
GOOD = '{"name": "Ada", "age": 36}'
WRONG = '{"name": "Ada", "age": "old"}'
WORSE = '{"name": "Ada"}'
ASK = ChatRequest.of("Who was it?", model="m")
LOOK_UP = Tool("look_up", "Finds", {"type": "object"})


def pipeline(transport: Any, *inner: Any, **options: Any) -> Pipeline:
    """A pipeline with the layer, and stores of its own."""
    return Pipeline([Structured(**options), *inner], transport, ports=virtual_ports())


def asked(transport: Scripted) -> list[Any]:
    """The requests that have reached a transport."""
    return list(transport.requests)


async def failed(pipe: Pipeline, request: ChatRequest = ASK, wanted: Any = Person) -> Any:
    """The error that a run ends with."""
    with pytest.raises(StructureError) as failure:
        await pipe.run(request, returns=wanted)
    return failure.value


def notes(response: ChatResponse[Any]) -> list[tuple[str, Any]]:
    """What the layer has noted: the name, and the fields."""
    return [
        (note.name.removeprefix("structured."), dict(note.fields))
        for note in response.trace.notes
        if note.layer == "structured"
    ]


def answer(*items: Any, usage: Usage | None = None, reason: str = "stop") -> list[Any]:
    """A scripted answer with usage and a reason of its end."""
    return [*items, *([] if usage is None else [UsageReport(usage)]), Finish(reason)]
