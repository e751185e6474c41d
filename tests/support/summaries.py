"""Conversations that are too long, a model that summarises them, and what it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamella import (
    ChatRequest,
    Context,
    Finish,
    Message,
    Pipeline,
    Ports,
    Request,
    Response,
    Size,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.summarise import Summarise

USAGE = Usage(uncached_input=5, text_output=4)
PRICES = {"m": {"input": "0", "output": "1000000"}, "small": {"input": "0", "output": "500000"}}
RECORD = "Ada ordered 12 lamps, order 4711."
TRIGGER = Size(tokens=400)


def long_talk(turns: int = 8, *, words: int = 20) -> tuple[Message, ...]:
    """A conversation of so many questions and answers, with instructions, and one more question."""
    said = [Message.system("Be brief.")]
    for turn in range(turns):
        said.append(Message.user(f"question {turn}: " + "lamp " * words))
        said.append(Message.assistant(f"answer {turn}: " + "shade " * words))
    return (*said, Message.user("And now?"))


class World:
    """A pipeline with the layer, and one provider for the conversation and for its summaries.

    Attributes:
        summary: What it answers when it is to summarise: a step of a script, or a function.
    """

    def __init__(
        self,
        *,
        outer: Sequence[Any] = (),
        inner: Sequence[Any] = (),
        ports: Ports | None = None,
        trigger: Size = TRIGGER,
        **options: Any,
    ) -> None:
        self.summary: Any = RECORD
        self.transport = Scripted([self._step], repeat=True)
        self.layer = Summarise(trigger, **{"max_output_tokens": 60, **options})
        layers = [*outer, self.layer, *inner, Cost(PRICES, unknown="note")]
        self.pipeline = Pipeline(layers, self.transport, ports=ports or virtual_ports())

    def _step(self, request: Request[Any]) -> Any:
        if request.context.asked_by != "summarise":
            return ["It ", "is.", UsageReport(USAGE), Finish("stop")]
        said = self.summary
        if callable(said) and not isinstance(said, type):
            return said(request)
        if isinstance(said, str):
            return [said, UsageReport(USAGE), Finish("stop")] if said else [Finish("stop")]
        return said

    async def ask(self, messages: Any = None, **fields: Any) -> Any:
        """The answer to a conversation, not streamed."""
        return await self.pipeline.run(asked(messages, **fields))

    @property
    def written(self) -> list[ChatRequest]:
        """The requests for summaries."""
        return [one for one in self._requests if one.context.asked_by == "summarise"]

    @property
    def sent(self) -> list[tuple[Message, ...]]:
        """The conversations that were sent."""
        return [one.messages for one in self._requests if one.context.asked_by != "summarise"]

    @property
    def _requests(self) -> list[Any]:
        return list(self.transport.requests)


def asked(messages: Any = None, **fields: Any) -> ChatRequest:
    """A request with a conversation that is too long, unless another is given."""
    context = fields.pop("context", None) or Context(
        **{name: fields.pop(name) for name in ("tenant", "attributes") if name in fields}
    )
    said = long_talk() if messages is None else messages
    return ChatRequest(messages=said, **{"model": "m", "context": context, **fields})


def noted(response: Response, name: str) -> list[dict[str, Any]]:
    """The fields of the notes of that name."""
    found = [note for note in response.trace.notes if note.name == f"summarise.{name}"]
    return [dict(note.fields) for note in found]
