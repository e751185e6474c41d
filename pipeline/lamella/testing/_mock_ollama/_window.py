"""What a model of Ollama's sees of a conversation that is longer than its window.

A server leaves out the oldest messages, except the system's, until the rest fits. The last message
stays, and with it the calls that it answers. If that is still too long, its middle is cut out: some
tokens from the beginning of the prompt stay and the end of it, so that half of the window is free.
The client is told nothing of this, except that `prompt_eval_count` is what was left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from lamella._chat import ChatRequest
from lamella._messages import Message
from lamella._mock_rejections import Rejection
from lamella._mock_tokens import count, input_usage, tokens
from lamella._parts import Image, Part, Text, ToolResult
from lamella.testing._mock_ollama._options import option, window_of

TOO_LONG = "the input length exceeds the context length"
NUM_KEEP = 4


def seen(request: ChatRequest) -> ChatRequest:
    """The request with what the model sees of it.

    Raises:
        Rejection: If it does not fit and must not be cut, or cannot be.
    """
    window = window_of(request)
    if size(request) <= window:
        return _bounded(request, window)
    if request.extra.get("truncate") is False:
        raise Rejection(400, "context_length_exceeded", TOO_LONG, "messages")
    left = request.evolve(messages=_latest(request, window))
    if size(left) > window:
        left = _without_middle(left, window)
    return _bounded(left, window)


def size(request: ChatRequest) -> int:
    """How many tokens a request has."""
    return input_usage(request).input_tokens


def _bounded(request: ChatRequest, window: int) -> ChatRequest:
    """Where the window must not be shifted, the answer ends with it."""
    if request.extra.get("shift") is not False:
        return request
    left = max(window - size(request), 1)
    most = request.max_output_tokens
    return request.evolve(max_output_tokens=left if most is None else min(most, left))


def _latest(request: ChatRequest, window: int) -> Sequence[Message]:
    messages = request.messages
    sizes = [size(ChatRequest(messages=[message])) for message in messages]
    rest = size(request) - sum(sizes)
    last = len(messages) - 1
    for start in range(len(messages)):
        first = _with_its_calls(messages, start)
        kept = [place for place, each in enumerate(messages[:first]) if each.role == "system"]
        kept += range(first, len(messages))
        if start == last or rest + sum(sizes[place] for place in kept) <= window:
            return [messages[place] for place in kept]
    return messages


def _with_its_calls(messages: Sequence[Message], place: int) -> int:
    """Where the calls stand that a tool's result answers; the place itself for other messages."""
    start = place
    while start > 0 and messages[start].role == "tool":
        start -= 1
    return start if messages[start].tool_calls else place


def _without_middle(request: ChatRequest, window: int) -> ChatRequest:
    if any(isinstance(part, Image) for message in request.messages for part in message.parts):
        raise Rejection(400, "context_length_exceeded", TOO_LONG, "messages")
    if request.extra.get("shift") is False:
        message = "the prompt is longer than the context length currently available to the model"
        raise Rejection(400, "context_length_exceeded", message, "messages")
    keep = option(request, "num_keep", NUM_KEEP)
    keep = min(keep if keep >= 0 else window, window - 1)
    # Half of what need not stay is freed, so that there is room for the answer.
    limit = window - max((window - keep) // 2, 1)
    whole = size(request)
    words = sum(count(text) for text in _texts(request))
    cut = _Cut(whole - limit, max(min(keep, limit - (whole - words)), 0))
    messages = [cut.message(message) for message in request.messages]
    left = request.evolve(messages=messages)
    if size(left) >= window:
        raise Rejection(400, "context_length_exceeded", TOO_LONG, "messages")
    return left


def _texts(request: ChatRequest) -> Iterator[str]:
    for message in request.messages:
        for part in message.parts:
            inner = part.content if isinstance(part, ToolResult) else (part,)
            yield from [each.text for each in inner if isinstance(each, Text)]


@attrs.define
class _Cut:
    """Cuts tokens out of a conversation's texts, after some that stay.

    Attributes:
        surplus: How many are still to go.
        keep: How many still stay.
    """

    surplus: int
    keep: int

    def message(self, message: Message) -> Message:
        """A message without what goes."""
        return attrs.evolve(message, parts=tuple([self._part(part) for part in message.parts]))

    def _part(self, part: Part) -> Part:
        if isinstance(part, ToolResult):
            return attrs.evolve(part, content=tuple([self._part(each) for each in part.content]))
        if not isinstance(part, Text):
            return part
        found = tokens(part.text)
        kept = min(self.keep, len(found))
        self.keep -= kept
        # Where a cut joins two pieces they may be one token: that is never more than before.
        gone = min(self.surplus, len(found) - kept)
        self.surplus -= gone
        return Text("".join([*found[:kept], *found[kept + gone :]]))
