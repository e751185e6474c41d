"""The embedded provider's mind: the same request, the same answer.

It knows no more than the request. What it says depends on a digest of the conversation, the model's
name, the seed and the number of the choice, and on nothing else: no clock, no chance, no memory.

A line of the last user's message that begins with `mock:` tells it what to do:

- `mock: say TEXT` answers with this text, `mock: echo` with the whole message;
- `mock: words=200` makes the answer that long, `mock: empty` leaves it out;
- `mock: refuse` declines;
- `mock: finish=content_filter` ends the answer with that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, zip_longest
from json import dumps
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from lamella._chat_answer import message_events
from lamella._events import (
    Event,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
    Vector,
)
from lamella._messages import Message
from lamella._mock_prose import REFUSAL, about_question, about_results, filled, thoughts
from lamella._mock_rejections import Rejection
from lamella._mock_schema import sample
from lamella._mock_tokens import Draw, count, input_usage, tokens
from lamella._mock_tools import wanted_calls
from lamella._mock_vectors import DIMENSIONS, MAX_DIMENSIONS, embed
from lamella._parts import Part, Reasoning, Refusal, Text, ToolCall
from lamella._token_counts import token_count_events
from lamella._usage import Usage

if TYPE_CHECKING:
    from lamella._chat import ChatRequest, ChatResponse
    from lamella._embeddings import EmbeddingRequest
    from lamella._token_counts import TokenCountRequest

CONTEXT_TOKENS = 128_000
OUTPUT_TOKENS = 16_384
EMBEDDING_TOKENS = 8_192
EMBEDDING_BATCH = 2_048
CHOICES = 128
LOGPROBS = 20

Answer: TypeAlias = "Callable[[ChatRequest], str | Message | ChatResponse | None]"
"""Gives the answer instead of the embedded provider; None leaves it to it."""

_EFFORTS = {"none": 0, "minimal": 1, "low": 1, "medium": 2}
_ORDERS = ("say", "echo", "empty", "refuse", "words", "finish")


def chat_events(request: ChatRequest, answer: Answer | None = None) -> tuple[Event, ...]:
    """The events of the answer to a conversation, ending with usage and `Finish`.

    Args:
        request: The conversation.
        answer: Asked first for what to say.

    Raises:
        Rejection: If a provider would not accept the request.
    """
    _must_be_bounded(request)
    used = input_usage(request)
    if used.input_tokens > CONTEXT_TOKENS:
        message = (
            f"The context holds {CONTEXT_TOKENS} tokens; the messages have {used.input_tokens}."
        )
        raise Rejection(400, "context_length_exceeded", message, "messages")
    if not request.messages:
        raise Rejection(400, None, "There must be at least one message.", "messages")
    said = answer(request) if answer is not None else None
    if said is not None and not isinstance(said, str | Message):
        return tuple(said.events)
    spoken = [_Choice.made(request, said, index) for index in range(request.n or 1)]
    rounds = zip_longest(*[choice.events for choice in spoken])
    events: list[Event] = [event for each in rounds for event in each if event is not None]
    usage = attrs.evolve(
        used,
        text_output=sum(choice.text_tokens for choice in spoken),
        reasoning_output=sum(choice.reasoning_tokens for choice in spoken),
    )
    reasons = tuple([choice.reason for choice in spoken])
    finish = Finish(reasons[0], reasons if len(reasons) > 1 else ())
    return (*events, UsageReport(usage), finish)


def _must_be_bounded(request: ChatRequest) -> None:
    for name, value, most in (("n", request.n, CHOICES), ("logprobs", request.logprobs, LOGPROBS)):
        if value is not None and value > most:
            raise Rejection(400, None, f"{name!r} is {most} at most, not {value}.", name)


def embedding_events(request: EmbeddingRequest) -> tuple[Event, ...]:
    """The events of the answer to texts to embed.

    Raises:
        Rejection: If there are too many, one is too long, or the dimensions are out of range.
    """
    dimensions = DIMENSIONS if request.dimensions is None else request.dimensions
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        message = f"The dimensions go from 1 to {MAX_DIMENSIONS}; {dimensions} were asked for."
        raise Rejection(400, None, message, "dimensions")
    if len(request.inputs) > EMBEDDING_BATCH:
        message = f"One request takes {EMBEDDING_BATCH} inputs; this one has {len(request.inputs)}."
        raise Rejection(400, None, message, "input")
    counts = [count(text) for text in request.inputs]
    if max(counts) > EMBEDDING_TOKENS:
        message = f"An input has {EMBEDDING_TOKENS} tokens at most; one has {max(counts)}."
        raise Rejection(400, "context_length_exceeded", message, "input")
    vectors = [Vector(index, embed(text, dimensions)) for index, text in enumerate(request.inputs)]
    return (*vectors, UsageReport(Usage(uncached_input=sum(counts))), Finish("stop"))


def count_events(request: TokenCountRequest) -> tuple[Event, ...]:
    """The events of the answer to how many tokens a conversation has.

    Raises:
        Rejection: If there is no conversation.
    """
    if not request.chat.messages:
        raise Rejection(400, None, "There must be at least one message.", "messages")
    return token_count_events(input_usage(request.chat).input_tokens)


@attrs.frozen
class _Choice:
    """One answer, token by token."""

    events: list[Event]
    reason: str
    text_tokens: int
    reasoning_tokens: int

    @classmethod
    def made(cls, request: ChatRequest, said: str | Message | None, index: int) -> _Choice:
        draw = _draw(request, index)
        if said is None:
            message, reason = _spoken(request, draw)
        else:
            message = said if isinstance(said, Message) else Message("assistant", said)
            reason = "tool_calls" if message.tool_calls else "stop"
        message = _stopped(message, request.stop)
        logprobs = None if request.logprobs is None else _Logprobs(draw, request.logprobs)
        events = list(_pieces(message, index, logprobs))
        most = min(request.max_output_tokens or OUTPUT_TOKENS, OUTPUT_TOKENS)
        spent = [_cost(event) for event in events]
        kept = sum(total <= most for total in accumulate(spent))
        if kept < len(events):
            del events[kept:], spent[kept:]
            reason = "length"
        thought = sum(
            cost
            for event, cost in zip(events, spent, strict=True)
            if isinstance(event, ReasoningDelta)
        )
        return cls(events, reason, sum(spent) - thought, thought)


def _draw(request: ChatRequest, index: int) -> Draw:
    try:
        conversation = [message.to_dict() for message in request.messages]
        return Draw.of(dumps(conversation, default=str), request.model, request.seed, index)
    except ValueError as error:
        raise Rejection(400, None, f"A message cannot be read: {error}", "messages") from None


def _spoken(request: ChatRequest, draw: Draw) -> tuple[Message, str]:
    """What the embedded provider itself says, and why it stops."""
    last = request.messages[-1]
    question = next((m.text for m in reversed(request.messages) if m.role == "user"), "")
    orders = _orders(question) if last.role == "user" else {}
    if "refuse" in orders:
        return Message("assistant", Refusal(REFUSAL)), orders.get("finish", "stop")
    parts: list[Part] = []
    if sentences := _effort(request):
        parts.append(_reasoning(question, sentences, draw))
    calls = wanted_calls(request, question if last.role == "user" else "", draw)
    if calls and not orders.keys() & {"say", "echo", "empty"}:
        parts.extend(calls)
        return Message("assistant", parts), orders.get("finish", "tool_calls")
    text = _text(request, question, orders, draw)
    if text:
        parts.append(Text(text))
    return Message("assistant", parts), orders.get("finish", "stop")


def _orders(question: str) -> dict[str, str]:
    """What the lines that begin with `mock:` say, by name."""
    found: dict[str, str] = {}
    for line in question.splitlines():
        head, colon, rest = line.strip().partition(":")
        if head.strip().lower() != "mock" or not colon:
            continue
        name = rest.strip().partition("=")[0].split(" ", 1)[0].strip().lower()
        if name not in _ORDERS:
            message = f"The mock provider knows no order {name!r}; it knows {', '.join(_ORDERS)}."
            raise Rejection(400, None, message, "messages")
        found[name] = rest.strip()[len(name) :].strip(" \t=")
    if "words" in found and not found["words"].isdecimal():
        message = (
            f"The order 'words' takes a whole number, as in words=200, not {found['words']!r}."
        )
        raise Rejection(400, None, message, "messages")
    return found


def _text(request: ChatRequest, question: str, orders: dict[str, str], draw: Draw) -> str:
    if "empty" in orders:
        return ""
    if "say" in orders:
        return orders["say"]
    if "echo" in orders:
        return question
    if request.messages[-1].role == "tool":
        text = about_results(_results(request), draw)
    else:
        text = about_question(question, draw)
    if "words" in orders:
        text = filled(text, min(int(orders["words"]), 2 * OUTPUT_TOKENS))
    return _formatted(request, text, question, draw)


def _results(request: ChatRequest) -> list[tuple[str, str]]:
    """What the tools have answered since the model last spoke: (name, text) of each."""
    names = {call.id: call.name for message in request.messages for call in message.tool_calls}
    found: list[tuple[str, str]] = []
    for message in reversed(request.messages):
        if message.role != "tool":
            break
        call_id = getattr(message.parts[0], "call_id", "")
        found.insert(0, (names.get(call_id, ""), message.text))
    return found


def _formatted(request: ChatRequest, text: str, question: str, draw: Draw) -> str:
    wanted = request.response_format or {}
    match wanted.get("type"):
        case "json_schema":
            inner: Mapping[str, Any] = wanted.get("json_schema") or wanted
            made = sample(inner.get("schema") or {"type": "object"}, draw, question)
            return dumps(made, ensure_ascii=False)
        case "json_object":
            return dumps({"answer": text}, ensure_ascii=False)
        case _:
            return text


def _effort(request: ChatRequest) -> int:
    """How many sentences are thought first; 0 for models that do not reason."""
    effort = request.reasoning_effort
    if effort is None:
        return 2 if "reasoning" in (request.model or "") else 0
    return _EFFORTS.get(effort, 4)


def _reasoning(question: str, sentences: int, draw: Draw) -> Reasoning:
    seal = f"mock-sealed-{draw.word('seal')}"
    return Reasoning(thoughts(question, sentences), seal, f"rs_{draw.word('reasoning')}")


def _stopped(message: Message, stop: Sequence[str]) -> Message:
    """A message cut off before the first of the texts at which it is to stop."""
    parts: list[Part] = []
    for part in message.parts:
        if not isinstance(part, Text):
            parts.append(part)
            continue
        ends = [end for each in stop if each and (end := part.text.find(each)) >= 0]
        if not ends:
            parts.append(part)
            continue
        if min(ends):
            parts.append(Text(part.text[: min(ends)]))
        break
    return Message("assistant", parts)


@attrs.frozen
class _Logprobs:
    """Log probabilities that add up to what a sampler could have seen."""

    draw: Draw
    others: int

    def of(self, token: str, place: int) -> dict[str, Any]:
        own = -self.draw.number(f"logprob {place}", 100) / 1000
        told = [(token, own)] if self.others else []
        for rank in range(1, self.others):
            word = f" {self.draw.word(f'other {place} {rank}', 4)}"
            told.append((word, own - 2.0 - rank))
        return {**_logprob(token, own), "top_logprobs": [_logprob(*each) for each in told]}


def _logprob(token: str, value: float) -> dict[str, Any]:
    return {
        "token": token,
        "logprob": value,
        "bytes": list(token.encode("utf-8", "surrogatepass")),
    }


def _pieces(message: Message, choice: int, logprobs: _Logprobs | None) -> Iterator[Event]:
    """A message token by token."""
    calls = 0
    for index, part in enumerate(message.parts):
        match part:
            case Text():
                for place, token in enumerate(tokens(part.text)):
                    told = None if logprobs is None else (logprobs.of(token, place),)
                    yield TextDelta(token, choice, told)
            case Refusal():
                for token in tokens(part.text):
                    yield RefusalDelta(token, choice)
            case Reasoning():
                yield from _thought(part, choice, index)
            case ToolCall():
                yield ToolCallDelta(calls, part.id, part.name, "", choice, part.kind)
                for token in tokens(part.arguments):
                    yield ToolCallDelta(calls, None, None, token, choice, part.kind)
                calls += 1
            case _:
                yield from message_events(Message("assistant", part), choice)


def _thought(part: Reasoning, choice: int, index: int) -> Iterator[Event]:
    for token in tokens(part.text):
        yield ReasoningDelta(token, choice, index, None, part.id, part.redacted)
    if part.signature is not None:
        yield ReasoningDelta("", choice, index, part.signature, part.id, part.redacted)


def _cost(event: Event) -> int:
    """How many tokens of output an event stands for."""
    if isinstance(event, ToolCallDelta):
        return count(event.name or "") + bool(event.arguments)
    if isinstance(event, ReasoningDelta):
        return bool(event.text)
    return 1
