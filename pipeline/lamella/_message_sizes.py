"""How long each message of a conversation is, in tokens, and how long it all may be.

A conversation comes again with each of its turns, one or two messages longer. So the count of a
message is remembered, by a hash of what it says and never by its words, and a turn costs a look-up
for each message that was there before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from lamella._chat import ChatRequest
from lamella._message_words import characters_of, hash_of
from lamella._messages import Message
from lamella._parts import Text, ToolCall, ToolResult
from lamella._remembered import Remembered, is_fixed
from lamella._target_fitness import Fitness, cards_are_read, own_card
from lamella._token_estimate import ESTIMATOR
from lamella._token_framing import ANY_MODEL, framing_of, tools_tokens
from lamella._tokenizers import counter_choice, counter_for
from lamella._tokens import INLINE_CHARACTERS, TokenCounter, input_usage

if TYPE_CHECKING:
    from lamella._cards import ModelCard

T = TypeVar("T")

_REMEMBERED: Final = 8_192
"""Messages, at least the last ones, for each counter and card."""
_MODELS: Final = 32
_TOOL_SETS: Final = 16
"""They are kept with their counts, and may be large."""
_EMPTY: Final = Message("user", "")


class Measure:
    """Counts the messages of conversations as one model reads them. Any thread may use it.

    Attributes:
        counter: Counts texts.
        card: What is known of the model; None if nothing is.
    """

    __slots__ = ("_known", "_older", "_once", "_recent", "_toolsets", "card", "counter")

    def __init__(self, counter: TokenCounter, card: ModelCard | None) -> None:
        self.counter = counter
        self.card = card
        # Two generations: when the recent one is full it becomes the older one. Each step is one
        # operation on a dict, so that no lock is needed; a race forgets a count, at worst.
        self._recent: dict[int, int] = {}
        self._older: dict[int, int] = {}
        self._toolsets: dict[tuple[int, ...], tuple[Any, int]] = {}
        self._once: int | None = None
        # The same by identity, which is told at a glance, of messages that nobody can write to.
        self._known: Remembered[int] = Remembered()

    def __call__(self, message: Message, /) -> int:
        """How many tokens a message has, its role and delimiters included."""
        at_hand = self._known.get(message)
        if at_hand is not None:
            return at_hand
        try:
            known = self._recent.get(hash(message))
        except TypeError:  # it holds a list, or a dict, where a tuple or a text should be
            return self._counted_alone(message)
        if known is None:
            known = self._look_up(message)
        if is_fixed(message):
            self._known.put(message, known)
        return known

    def overhead(self, request: ChatRequest) -> int:
        """How many tokens of a request are no message's: tools, and the format of the answer."""
        tools, wanted = request.tools, request.response_format
        if not tools and wanted is None:
            return self._frame()
        key = _besides(request)
        known = self._toolsets.get(key)
        if known is None:
            alone = ChatRequest(messages=(_EMPTY,), tools=tools, response_format=wanted)
            if len(self._toolsets) >= _TOOL_SETS:
                self._toolsets.clear()
            # What is kept with the count keeps the ids from being others'.
            known = ((tools, wanted), self._counted(alone) - self(_EMPTY))
            self._toolsets[key] = known
        return known[1]

    def takes_long(self, request: ChatRequest) -> bool:
        """Whether `overhead` would have to go through more than belongs on an event loop."""
        tools, wanted = request.tools, request.response_format
        if (not tools and wanted is None) or _besides(request) in self._toolsets:
            return False
        framing = ANY_MODEL if self.card is None else framing_of(self.card.framing)
        texts = [] if wanted is None else [str(dict(wanted))]
        unseen: Callable[[Sequence[str]], float] = getattr(self.counter, "unseen", _characters)
        found = unseen(texts)
        if tools and self.counter is not ESTIMATOR:
            found += tools_tokens(framing, tools, self.counter).unseen
        return found > INLINE_CHARACTERS

    def unseen(self, messages: Sequence[Message]) -> int:
        """How many characters would have to be gone through to count some messages."""
        return sum([characters_of(one.parts) for one in messages if not self._seen(one)])

    def count_all(self, messages: Sequence[Message]) -> int:
        """How many tokens some messages have together."""
        return sum(map(self, messages))

    def recalled(self, messages: Sequence[Message]) -> tuple[int, Sequence[Message]]:
        """What those messages have that were counted lately, and the others."""
        recent, at_hand = self._recent, self._known.get
        counted = 0
        others: list[Message] = []
        for message in messages:
            known = at_hand(message)
            if known is not None:
                counted += known
                continue
            try:
                known = recent.get(hash(message))
            except TypeError:
                known = None
            if known is None:
                others.append(message)
            else:
                counted += known
        return counted, others

    def _seen(self, message: Message) -> bool:
        try:
            key = hash_of(message)
        except TypeError:
            return False
        return key in self._recent or key in self._older

    def _look_up(self, message: Message) -> int:
        key = hash_of(message)
        found = self._recent.get(key)
        if found is not None:
            return found
        found = self._older.get(key)
        if found is None:
            found = self._counted_alone(message)
        if len(self._recent) >= _REMEMBERED:
            self._older, self._recent = self._recent, {}
        self._recent[key] = found
        return found

    def _counted_alone(self, message: Message) -> int:
        return self._counted(ChatRequest(messages=(message,))) - self._frame()

    def _frame(self) -> int:
        """What every request has besides its messages."""
        if self._once is None:
            one, two = (self._counted(ChatRequest(messages=(_EMPTY,) * many)) for many in (1, 2))
            self._once = 2 * one - two
        return self._once

    def _counted(self, request: ChatRequest) -> int:
        usage = input_usage(request, self.counter, card=self.card)
        return 0 if usage is None else usage.input_tokens


@attrs.frozen
class Measured:
    """What is known of a request's length.

    Attributes:
        measure: Counts its messages, and others of the conversation.
        tokens: All that is sent: messages, tools, and the format of the answer.
        window: How many tokens it may have so that its answer has room; None if nobody says.
    """

    measure: Measure
    tokens: int
    window: int | None


class MessageSizes:
    """Measures the conversations of requests, each as the model that it is for would read it.

    Args:
        choice: Counts texts; see `counter_choice`: a counter, a tokenizer's name, `"auto"` for that
            of each request's model, or None for the estimator.

    Raises:
        ConfigurationError: If the counter cannot be had; so with the errors of `exact_counter`.
    """

    __slots__ = ("_choice", "_fixed", "_measures", "_own")

    def __init__(self, choice: TokenCounter | str | None = "auto") -> None:
        self._choice = choice
        self._fixed = None if choice == "auto" else counter_choice(choice)
        self._own = choice is not None and choice != "auto"  # whose counts nobody knows here
        # What is measured with is kept, so that its id is nobody else's.
        self._measures: dict[tuple[int, int], Measure] = {}

    def __reduce__(self) -> tuple[type[MessageSizes], tuple[Any]]:
        return MessageSizes, (self._choice,)

    def at_most(self, request: ChatRequest, *, shares: bool) -> tuple[int, int | None] | None:
        """As many tokens as a request can have, told from its characters, and its model's window.

        No text has more tokens than bytes. So most conversations are known to be short enough, and
        nothing of them is counted.

        Args:
            request: Any.
            shares: Whether the window is wanted, which takes the model's card.

        Returns:
            None if it takes `measure` to know: for there is more than text in it, somebody's own
            counter counts, or no model cards have been read.
        """
        if self._own:
            return None
        most = _most_tokens(request)
        if most is None or not shares:
            return None if most is None else (most, None)
        return (most, window_of(request, own_card(request))) if cards_are_read() else None

    async def measure(self, request: ChatRequest) -> Measured:
        """How long a request is, and how long it may be.

        A thread counts where more than 16,000 characters are new.

        Raises:
            DeadlineExceeded: If the call's deadline passes meanwhile.
            ClosedError: If the pipeline closes meanwhile.
            ConfigurationError: If model cards of the user's cannot be read, or the counter finds
                its vocabulary gone or damaged.
        """
        fitness = Fitness(request)
        if not fitness.at_hand:
            await fitness.ready()
        card = fitness.card(None)
        fixed = self._fixed
        counter = counter_for(card) if fixed is None else fixed(request)
        key = (id(counter), id(card))
        measure = self._measures.get(key)
        if measure is None:
            if len(self._measures) >= _MODELS:
                self._measures.clear()
            measure = self._measures.setdefault(key, Measure(counter, card))
        counted, others = measure.recalled(request.messages)
        if others:
            counted += await _counted(request, measure, others)
        if measure.takes_long(request):
            counted += await in_thread(request, measure.overhead, request)
        else:
            counted += measure.overhead(request)
        return Measured(measure, counted, window_of(request, card))


_FRAME: Final = 16
"""More tokens than a role, delimiters, a name's mark or the beginning of an answer take."""
_BYTES: Final = 4
"""The most that a character has in UTF-8."""


def _most_tokens(request: ChatRequest) -> int | None:
    """As many tokens as a request can have; None where there is more in it than text."""
    if type(request) is not ChatRequest or request.tools or request.response_format is not None:
        return None
    found = _FRAME
    for message in request.messages:
        found += _FRAME
        if message.name is not None:
            found += _BYTES * len(message.name)
        for part in message.parts:
            if type(part) is Text:
                text = part.text
            elif type(part) is ToolCall:
                found += _FRAME + _BYTES * len(part.name)
                text = part.arguments
            elif type(part) is ToolResult and len(part.content) == 1:
                inner = part.content[0]
                if type(inner) is not Text:
                    return None
                text = inner.text
            else:
                return None
            found += _FRAME + (len(text) if text.isascii() else _BYTES * len(text))
    return found


def window_of(request: ChatRequest, card: ModelCard | None) -> int | None:
    """How many tokens a conversation may have so that its answer has room; None if nobody says.

    Args:
        request: Its `max_output_tokens` is the room that is wanted.
        card: What is known of the model.
    """
    if card is None:
        return None
    most, window = card.max_input_tokens, card.context_window
    if window is None:
        return most
    room = max(1, window - (request.max_output_tokens or 0))
    return room if most is None or room < most else most


async def in_thread(request: ChatRequest, function: Callable[..., T], *args: Any) -> T:
    """Work that takes the processor for long, done where it holds up no event loop."""
    context = request.context
    return await context.wait(
        lambda: context.ports.thread(function, *args), what="measuring the conversation"
    )


async def _counted(request: ChatRequest, measure: Measure, messages: Sequence[Message]) -> int:
    """Counts messages; in a thread if that takes long, or may have a vocabulary read."""
    ready: Callable[[Sequence[str]], float] | None = getattr(measure.counter, "unseen", None)
    cold = ready is not None and ready(("",)) > INLINE_CHARACTERS
    if cold or measure.unseen(messages) > INLINE_CHARACTERS:
        return await in_thread(request, measure.count_all, messages)
    return measure.count_all(messages)


def _characters(texts: Sequence[str]) -> int:
    return sum(map(len, texts))


def _besides(request: ChatRequest) -> tuple[int, ...]:
    """What a request has besides its messages, as long as somebody keeps it."""
    return (id(request.response_format), *map(id, request.tools))
