"""Chat: a conversation in, the model's next message out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, overload

import attrs

from lamella._chat_answer import ChatAnswer, Choice, fold, message_events
from lamella._events import Event, Finish, UsageReport
from lamella._messages import Message, messages
from lamella._parts import Audio, File, Image, Opaque, Reasoning, Text, ToolCall
from lamella._requests import Request
from lamella._responses import NO_HEAD, Head, Response
from lamella._tools import Tool, tools

if TYPE_CHECKING:
    import typing_extensions

    from lamella._usage import Usage
    from lamella._values import ValueReader, Values

    V_co = typing_extensions.TypeVar("V_co", covariant=True, default=None)
else:  # typing_extensions costs more than the rest of this module, and only checkers need it
    V_co = TypeVar("V_co", covariant=True)

V = TypeVar("V")


class ChatResponse(Response, Generic[V_co]):
    """The model's answer to a conversation."""

    operation: ClassVar[str] = "chat"

    __slots__ = ("_value_reader",)

    def __init__(self, events: Sequence[Event] = (), head: Head = NO_HEAD) -> None:
        super().__init__(events, head)
        self._value_reader: ValueReader[V_co] | None = None

    @classmethod
    def of(
        cls,
        content: str | Message | Iterable[ToolCall],
        *,
        usage: Usage | None = None,
        finish_reason: str | None = None,
        model: str | None = None,
    ) -> ChatResponse:
        """A complete answer, so that a plain async function is a transport in one line.

        Args:
            content: Its text, a whole message, or tool calls.
            usage: What it consumed.
            finish_reason: None is `"tool_calls"` where there are some, otherwise `"stop"`.
            model: The model that answered.
        """
        if isinstance(content, Message):
            message = content
        else:
            parts = content if isinstance(content, str) else tuple(content)
            message = Message("assistant", parts)
        reason = finish_reason or ("tool_calls" if message.tool_calls else "stop")
        events = list(message_events(message))
        if usage is not None:
            events.append(UsageReport(usage))
        events.append(Finish(reason))
        return ChatResponse(events, Head(model=model))

    def _carry_to(self, response: Any) -> None:
        response._value_reader = self._value_reader  # noqa: SLF001 - its own class

    @classmethod
    def _fold(cls, events: Sequence[Event]) -> ChatAnswer:
        return fold(events)

    @property
    def answer(self) -> ChatAnswer:
        """What all its events amount to."""
        answer = super().answer
        assert isinstance(answer, ChatAnswer)  # noqa: S101 - _fold gives nothing else
        return answer

    @property
    def partial(self) -> ChatAnswer:
        """What the events that have come so far amount to, however it ends."""
        return self._fold(self._events)

    @property
    def text(self) -> str:
        """The text of the last turn's message."""
        return self.answer.message.text

    @property
    def message(self) -> Message:
        """The last turn's message."""
        return self.answer.message

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages that the answer adds to the conversation, tool results included."""
        return self.answer.messages

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Every answer, where `n` asked for several."""
        return self.answer.choices

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools that the last message asks for."""
        return self.answer.message.tool_calls

    @property
    def refusal(self) -> str | None:
        """The words in which the model declined; None if it did not."""
        return self.answer.message.refusal

    @property
    def value(self) -> V_co:
        """The answer as the type that `returns=` asked for; None where it was not given."""
        self._must_be_complete()
        reader = self._value_reader
        return None if reader is None else reader.value  # type: ignore[return-value] # pyright: ignore[reportReturnType]

    @overload
    def values(self: ChatResponse[list[V]]) -> Values[V]: ...
    @overload
    def values(self) -> Values[V_co]: ...
    def values(self) -> Any:
        """The answer as it comes, as values of the type that `returns=` asked for.

        A list gives each of its items once, as soon as it is complete. Anything else gives the
        value again and again, each time with more of it: from the moment that what has come fits
        the type, as it does once all that it must have is there. Texts and lists may still grow;
        the last value is `value`. Read it with `async for`, or inside `stream_sync` with `for`.

        Raises:
            ConfigurationError: If `returns=` was not given.
            StructureError: At the end, if the answer does not fit the type.
        """
        from lamella._values import Values, no_values

        reader = self._value_reader
        if reader is None:
            raise no_values()
        return Values(self, reader.begin)

    def read_values_by(self, reader: ValueReader[Any]) -> None:
        """Say what turns this answer into values; for the layer that `returns=` needs."""
        self._value_reader = reader


def _stop(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _at_least(low: float) -> Any:
    def check(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
        if value is None:
            return
        try:
            small = value < low
        except TypeError:
            msg = f"{attribute.name} must be a number, not {value!r}."
            raise TypeError(msg) from None
        if small:
            msg = f"{attribute.name} must be {low:g} or more, not {value!r}."
            raise ValueError(msg)

    return check


def _a_table(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, Mapping):
        msg = (
            f'{attribute.name} must be a table such as {{"type": "json_object"}}, not of the type '
            f"{type(value).__name__}. A class whose objects the answers are to be goes to "
            "`returns`, as in pipeline.run(request, returns=Answer)."
        )
        raise TypeError(msg)


@attrs.frozen(slots=False, kw_only=True, hash=False)
class ChatRequest(Request[ChatResponse]):
    """A conversation, and how the model is to answer it.

    What is None is not sent: the provider's own default holds.

    Attributes:
        messages: The conversation. Text is a user's message; OpenAI-style dicts are converted.
        tools: What the model may call. OpenAI-style dicts are converted.
        tool_choice: `"auto"`, `"none"`, `"required"`, or the name of the tool it must call; a dict
            goes to the provider as it is.
        parallel_tool_calls: Whether several tools may be asked for at once.
        response_format: The shape of the answer, for example `{"type": "json_object"}`.
        temperature: Randomness, 0 or more.
        top_p: Nucleus sampling, 0 to 1.
        max_output_tokens: The most tokens it may produce, reasoning included; at least 1.
        stop: Texts at which it stops.
        seed: For repeatable sampling, where the provider has it.
        n: How many answers; at least 1.
        presence_penalty: Penalty on what has occurred at all.
        frequency_penalty: Penalty on what has occurred often.
        logprobs: How many alternatives to give log probabilities for; 0 gives the chosen token's
            only, None gives none.
        reasoning_effort: `"low"`, `"medium"`, `"high"` or what else the model knows.
        service_tier: The provider's class of service, which changes the price.
        returns: The type that `response.value` is to have; given to `run`, not here.
    """

    operation: ClassVar[str] = "chat"
    response_type: ClassVar[type[Response]] = ChatResponse
    streams: ClassVar[bool] = True

    messages: tuple[Message, ...] = attrs.field(converter=messages)
    tools: tuple[Tool | Opaque, ...] = attrs.field(default=(), converter=tools)
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: Mapping[str, Any] | None = attrs.field(default=None, validator=_a_table)
    temperature: float | None = attrs.field(default=None, validator=_at_least(0))
    top_p: float | None = attrs.field(default=None, validator=_at_least(0))
    max_output_tokens: int | None = attrs.field(default=None, validator=_at_least(1))
    stop: tuple[str, ...] = attrs.field(default=(), converter=_stop)
    seed: int | None = None
    n: int | None = attrs.field(default=None, validator=_at_least(1))
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: int | None = attrs.field(default=None, validator=_at_least(0))
    reasoning_effort: str | None = None
    service_tier: str | None = None
    returns: Any = attrs.field(default=None, repr=False)

    @classmethod
    def of(
        cls, content: str | Message | Iterable[Message | Mapping[str, Any]], **fields: Any
    ) -> Self:
        """A request from text, a message, or a conversation.

        Args:
            content: What to ask.
            **fields: Any other field: `model=`, `temperature=` ...
        """
        return cls(messages=content, **cls.known(fields))

    @property
    def unwritten(self) -> Message | None:
        """The first message that is still to be made: a `Prompt`. None if there is none."""
        for message in self.messages:
            if message.unwritten:
                return message
        return None

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities that it asks of a model, in the words of the model cards."""
        found: set[str] = set()
        if self.tools:
            found.add("tools")
        if self.n is not None and self.n > 1:
            found.add("n")
        if self.logprobs is not None:
            found.add("logprobs")
        if self.response_format is not None:
            found.add(str(self.response_format.get("type", "json_object")))
        for message in self.messages:
            parts = message.parts
            if len(parts) == 1 and type(parts[0]) is Text:  # nearly all
                continue
            for part in parts:
                found.update(_NEEDS.get(type(part), ()))
        return frozenset(found - {"text"}) if found else _NONE


_NONE: frozenset[str] = frozenset()
_NEEDS: Mapping[type, tuple[str, ...]] = {
    Image: ("image_input",),
    Audio: ("audio_input",),
    File: ("file_input",),
    Reasoning: (),
}
