"""Trim: what is sent of a conversation fits the model, by rules that need no model."""

from __future__ import annotations

from functools import partial
from typing import Any, Final, Literal, cast

import attrs

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    ContextLengthError,
    Handler,
    Message,
    Outcome,
    middleware,
)
from lamella._keeping import of_table
from lamella._message_sizes import Measured, MessageSizes, in_thread
from lamella._options import one_of, refused
from lamella._shortening import Shortened, Shortener, Size, shortened
from lamella._shortening_strategies import (
    Strategies,
    drop_tool_results,
    sliding_window,
    strategies_of,
)
from lamella._size_limits import SizeLimits
from lamella._target_fitness import DOUBT
from lamella._tokens import TokenCounter

_MANY: Final = 200
"""Messages. Going through more of them takes longer than a thread does to begin."""
_HINT: Final = (
    "Shorten or unpin them, choose a model with a larger window, raise the trigger, or give "
    "Trim(otherwise='send')."
)
_AGENTS: Final = (
    " In a turn with many calls of tools, DropToolResults(current=3) among the strategies helps."
)
_QUICK: Final = 4_000
"""Tokens. More than that may have pieces that take long to count."""


def _strategies(given: Strategies) -> tuple[Shortener, ...]:
    return strategies_of(given, option="Trim(strategies=...)")


def _trigger(given: Any) -> Any:
    """A `Size`, or the table of one."""
    return of_table("trigger", Size, given)


def _target(given: Any) -> Any:
    """A `Size`, or the table of one."""
    return of_table("target", Size, given)


def _size(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Size):
        raise refused(layer, option, value, "a Size: Size(tokens=50_000), Size(share=0.8)")


def _size_or_none(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        _size(layer, option, value)


def _counter(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    # Lists have a count() too, and so has an empty name.
    counts = callable(getattr(value, "count", None)) and not isinstance(value, str | list | tuple)
    named = isinstance(value, str) and value != ""
    if value is not None and not counts and not named:
        want = "a TokenCounter (an object with count(texts)), a tokenizer's name, 'auto' or None"
        raise refused(layer, option, cast("object", value), want)


def _sizes(layer: Any) -> MessageSizes:
    attrs.validate(layer)  # attrs itself does so only once all fields are there
    trigger, target = layer.trigger, layer.target
    for name in ("tokens", "messages", "share"):
        most, least = getattr(trigger, name), getattr(target, name, None)
        if most is not None and least is not None and least > most:
            msg = f"Trim(trigger={trigger!r}, target={target!r}): the target's {name} are more."
            hint = "A cut goes down to the target: give less than the trigger, or leave it out."
            raise ConfigurationError(msg, hint=hint)
    return MessageSizes(layer.counter)


def _limits_of(layer: Any) -> SizeLimits:
    return SizeLimits(layer.trigger, layer.target)


@middleware(phase="shape", rank=50, requests=ChatRequest, effects=("changes requests",))
@attrs.frozen
class Trim:
    """Sends less of a conversation that has become too long for its model.

    Only what is sent is shortened: the caller's request and history stay whole. Instructions,
    pinned messages, and the user's last question with all that follows it are never touched, and an
    assistant's calls of tools stay together with their results. A conversation is shortened in the
    same way with each of its turns, and anew only when it has grown beyond the trigger again, so
    that providers' prompt caches find its beginning.

    Args:
        trigger: What makes it too long: tokens of all that is sent (tools too), messages, or a
            share of the model's context window. Of that window the request's
            `max_output_tokens` are taken off first. For a model of which nobody knows the window a
            share counts for nothing.
        target: How long it is after a cut; what it leaves open, and None, is four fifths of the
            trigger. The further below the trigger, the more seldom the sent beginning changes.
        strategies: What makes it shorter, in this order, until the target is met:
            `"drop_tool_results"` (old results of tools become a line), `"truncate"` (of long texts
            the beginning and the end stay), `"sliding_window"` (the oldest turns go), or objects
            with a name and `shorten(history)`.
        otherwise: What happens to what cannot be made to fit: `"raise"` refuses it, `"send"` sends
            what is left. Of a share alone, only what would not fit the whole window is refused.
        counter: Counts tokens: a `TokenCounter`, a tokenizer's name, `"auto"` for that of the
            request's model, or None for the estimator.
    """

    trigger: Size = attrs.field(default=Size(share=0.8), converter=_trigger, validator=_size)
    target: Size | None = attrs.field(default=None, converter=_target, validator=_size_or_none)
    strategies: tuple[Shortener, ...] = attrs.field(
        default=(drop_tool_results, sliding_window), converter=_strategies
    )
    otherwise: Literal["raise", "send"] = attrs.field(
        default="raise", validator=one_of("raise", "send")
    )
    counter: TokenCounter | str | None = attrs.field(default="auto", validator=_counter)
    _sizes: MessageSizes = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_sizes, takes_self=True)
    )

    _limits: SizeLimits = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_limits_of, takes_self=True)
    )

    async def __call__(self, request: ChatRequest, call_next: Handler) -> ChatResponse:
        """Send the request on, shortened if it is too long.

        Raises:
            ContextLengthError: If it cannot be made to fit, before anything is sent.
            ConfigurationError: If a file of model cards or a vocabulary cannot be read.
        """
        if self._limits.surely_hold(self._sizes, request, _note_skipped):
            return await call_next(request)
        trigger, target = self.trigger, self.target
        measured: Measured | None = None
        if _counts(trigger) or (target is not None and _counts(target)):
            measured = await self._sizes.measure(request)
        tokens, window = (0, None) if measured is None else (measured.tokens, measured.window)
        limits = self._limits.within(window)
        if limits is None:
            _note_skipped(request)
        elif not limits[0].holds(tokens, len(request.messages)):
            return await call_next(await self._trimmed(request, limits, measured))
        return await call_next(request)

    async def _trimmed(
        self, request: ChatRequest, limits: tuple[Size, Size], measured: Measured | None
    ) -> ChatRequest:
        """The request with a conversation that is short enough."""
        messages = request.messages
        cut = partial(
            shortened,
            messages,
            self.strategies,
            trigger=limits[0],
            target=limits[1],
            count=_nothing if measured is None else measured.measure,
            overhead=0 if measured is None else measured.measure.overhead(request),
        )
        long = measured is not None and measured.tokens > _QUICK
        found = await in_thread(request, cut) if long or len(messages) > _MANY else cut()
        if found.used or not found.fits:
            _note(request, found)
        if not found.fits and self.otherwise == "raise":
            self._must_fit(request, found, measured)
        return request.evolve(messages=found.messages) if found.used else request

    def _must_fit(self, request: ChatRequest, found: Shortened, measured: Measured | None) -> None:
        """Refuse what nothing can make short enough; what only passes a share may yet fit."""
        trigger, count = self.trigger, len(found.messages)
        window = None if measured is None or trigger.share is None else measured.window
        if trigger.tokens is not None and found.after > trigger.tokens:
            size = f"about {found.after:,} tokens, where {trigger.tokens:,} are the most"
        elif trigger.messages is not None and count > trigger.messages:
            size = f"{count:,} messages, where {trigger.messages:,} are the most"
        elif window is not None and _sure(found.after, measured) > window:
            size = f"about {found.after:,} tokens, and its context window leaves {window:,}"
            if request.max_output_tokens is not None:
                size += f" besides max_output_tokens={request.max_output_tokens:,}"
        else:
            return
        msg = (
            f"The conversation cannot be made to fit model {request.model!r}: instructions, pinned "
            f"messages, tools and the last question alone are {size}."
        )
        agent = found.messages[-1].role == "tool" and found.after > 0  # which is 0 uncounted
        hint = _HINT + (_AGENTS if agent else "")
        raise ContextLengthError(
            msg, phase="local", outcome=Outcome.NOT_SENT, layer="trim", hint=hint
        )


def _note_skipped(request: ChatRequest) -> None:
    why = "nobody knows the context window of this model"
    request.context.note("trim", "trim.skipped", model=request.model, why=why)


def _counts(size: Size) -> bool:
    """Whether tokens have to be counted to know it."""
    return size.tokens is not None or size.share is not None


def _sure(tokens: int, measured: Measured | None) -> float:
    """How many tokens there are at least: estimates lean upwards."""
    if measured is None or getattr(measured.measure.counter, "exact", False):
        return tokens
    return tokens * DOUBT


def _nothing(_: Message) -> int:
    """The size of a message where only their number matters."""
    return 0


def _note(request: ChatRequest, found: Shortened) -> None:
    """Say what was done: sizes and names, and none of the words."""
    tokens = {"before": found.before, "after": found.after} if found.before else {}
    request.context.note(
        "trim",
        "trim.shortened",
        **tokens,
        messages=len(request.messages),
        kept=len(found.messages),
        strategies=found.used,
        fits=found.fits,
    )
