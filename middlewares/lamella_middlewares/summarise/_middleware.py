"""The layer: its options, and which conversations are too long."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Any, Final, Literal

import attrs

from lamella import (
    ChatRequest,
    ChatResponse,
    Handler,
    MisuseError,
    Packing,
    PartHealth,
    Pipeline,
    Ports,
    SecretError,
    Stores,
    Target,
    _keeping,
    inside,
    middleware,
)
from lamella._answer_shelves import check_key, kept_answers, refuse_unsigned
from lamella._fingerprints import transport_inside
from lamella._guarded_blobs import shown
from lamella._kept_answers import KeptAnswers
from lamella._message_sizes import Measure, MessageSizes, in_thread, window_of
from lamella._options import one_of, optional_seconds, seconds, span, span_or_none, whole
from lamella._ownership import release, use
from lamella._ports import default_ports
from lamella._shortening import Shortener, Size, sizes_within
from lamella._target_forms import shown as shown_target
from lamella._tenants import must_choose
from lamella._token_estimate import ESTIMATOR
from lamella._tokens import TokenCounter
from lamella_middlewares.summarise import _choices
from lamella_middlewares.summarise._names import LAYER
from lamella_middlewares.summarise._plan import Plan, plan
from lamella_middlewares.summarise._shelf import Shelf
from lamella_middlewares.summarise._texts import FRAME_TOKENS
from lamella_middlewares.summarise._visit import Visit
from lamella_middlewares.summarise._writer import Writer

_MANY: Final = 200
"""Messages. Going through more of them takes longer than a thread does to begin."""


def _decisive(layer: Any) -> tuple[Any, ...]:
    """What decides a summary, of the options: who makes it, and how."""
    made_by = [
        (transport_inside(target.transport).digest, dict(target.changes))
        for target in layer.targets
    ]
    return (*made_by, layer.prompt, layer.max_output_tokens, layer.max_input_tokens)


@middleware(
    phase="shape",
    rank=30,
    requests=ChatRequest,
    effects=("changes requests", "asks a child"),
    inside={
        "pii": "Summarise would keep summaries of raw personal data, and have them written",
        "cache": "a summary would be paid for where Cache has the answer",
    },
)
@attrs.frozen(eq=False)
class Summarise:
    """Sends a summary in the place of the oldest turns of a conversation that has become too long.

    Only what is sent is changed: the caller's request and history stay whole. Instructions, pinned
    messages, and the user's last message with all that follows it are sent as they are, and an
    assistant's calls of tools stay together with their results. The summary is written by a child
    call, kept, and found again with the next turns, until the conversation has grown beyond the
    trigger again: then it becomes part of a new one. It stands in a user's message that says what
    it is: what others have written gains no rank by being summarised.

    Args:
        trigger: What makes it too long: tokens of all that is sent (tools too), messages, or a
            share of the model's context window. For a model of which nobody knows the window a
            share counts for nothing.
        target: How long it is afterwards, a summary of the greatest length included. None is half
            of the trigger; what it leaves open is four fifths of it.
        model: Who summarises, as for the targets of `Route`: a model's name (through the pipeline's
            own transport and the layers inside), a transport, a pipeline, or a table such as
            `{"model": "gpt-4o-mini", "temperature": 0}`. None is the conversation's own model.
        prompt: What it is told instead of the usual: a system message. The messages come after it
            as lines of JSON, and then how many words it may have.
        timeout: Seconds, or a timedelta, that making a summary may take, above 0; at most half of
            what is left of the call's deadline.
        max_output_tokens: The most tokens of a summary, 1 or more, reasoning included. So much is
            set aside for it.
        max_input_tokens: The most tokens of the conversation that one child call reads, 1 or more;
            what is more is summarised in several. None is what the model's window has room for.
        before: What is tried first, in this order: `"drop_tool_results"`, `"truncate"`, or objects
            with a name and `shorten(history)` that replace messages and leave none out.
        otherwise: What happens where a summary is needed and cannot be had: `"sliding_window"`
            leaves the turns out (an earlier summary stays), `"pass"` sends all of them, `"raise"`
            refuses the request.
        counter: Counts tokens: a `TokenCounter`, a tokenizer's name, `"auto"` for that of the
            request's model, or None for the estimator.
        ttl: Seconds, or a timedelta, for which a summary is kept, above 0; None for as long as
            there is room.
        store: Where: a blob store, a registered name, or a table with `use` and options. None is
            the pipeline's own, `ports.stores.blobs`.
        namespace: Another one sees nothing of what was kept under this one.
        packing: How summaries are packed, and signed where others can write to the store.

    `Context(attributes={"summarise": False})` sends a conversation as it is.

    Raises:
        ConfigurationError: If an option is wrong, or others can write to the `store` and there is
            no key.
    """

    trigger: Size = attrs.field(
        default=Size(share=0.7), converter=_choices.size, validator=_choices.is_size
    )
    target: Size | None = attrs.field(
        default=None, converter=_choices.target_size, validator=_choices.is_size_or_none
    )
    model: Any = attrs.field(default=None, repr=shown_target, kw_only=True)
    prompt: str | None = attrs.field(default=None, validator=_choices.prompt, kw_only=True)
    timeout: float | timedelta = attrs.field(
        default=30.0, converter=seconds, validator=span, kw_only=True
    )
    max_output_tokens: int = attrs.field(default=1_000, validator=whole(1), kw_only=True)
    max_input_tokens: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(whole(1)), kw_only=True
    )
    before: tuple[Shortener, ...] | Iterable[Shortener | str] | Shortener | str | None = (
        attrs.field(
            default=("drop_tool_results",), converter=_choices.before, kw_only=True
        )
    )
    otherwise: Literal["sliding_window", "pass", "raise"] = attrs.field(
        default="sliding_window",
        validator=one_of("sliding_window", "pass", "raise"),
        kw_only=True,
    )
    counter: TokenCounter | str | None = attrs.field(
        default="auto", validator=_choices.counter, kw_only=True
    )
    ttl: float | timedelta | None = attrs.field(
        default=7 * 86_400.0, converter=optional_seconds, validator=span_or_none, kw_only=True
    )
    store: Any = attrs.field(  # pyright: ignore[reportUnknownVariableType]
        default=None, converter=_choices.store, kw_only=True, repr=shown
    )
    namespace: str = attrs.field(default="", validator=_keeping.namespace, kw_only=True)
    packing: Packing = attrs.field(
        factory=Packing,
        converter=_choices.packing,
        validator=_keeping.must_be(Packing),
        kw_only=True,
    )

    targets: tuple[Target, ...] = attrs.field(
        init=False, repr=False, default=attrs.Factory(_choices.writer, takes_self=True)
    )
    _sizes: MessageSizes = attrs.field(
        init=False, repr=False, default=attrs.Factory(_choices.sizes, takes_self=True)
    )
    _decisive: tuple[Any, ...] = attrs.field(
        init=False, repr=False, default=attrs.Factory(_decisive, takes_self=True)
    )

    async def __call__(self, request: ChatRequest, call_next: Handler) -> ChatResponse:
        """Send the request on, with a summary of its oldest turns if it is too long.

        Raises:
            SummariseError: If it cannot be summarised, and `otherwise` is `"raise"`.
            ConfigurationError: If model cards, a vocabulary or the key cannot be read.
        """
        if not _wanted(request):
            return await call_next(request)
        trigger, target = self._wanted_sizes
        measure = _UNCOUNTED
        window: int | None = None
        if _counts(trigger) or _counts(target):
            measure = await self._sizes.measure(request)
            if trigger.share is not None or target.share is not None:
                window = window_of(request, measure.card)
        limits = sizes_within(trigger, target, window)
        if limits is None:
            why = "nobody knows the context window of this model"
            request.context.note(LAYER, "summarise.skipped", why=why, model=request.model)
            return await call_next(request)
        messages = request.messages
        overhead = measure.overhead(request) if limits[0].tokens is not None else 0
        tokens = overhead + measure.count_all(messages) if limits[0].tokens is not None else 0
        if limits[0].holds(tokens, len(messages)):
            return await call_next(request)
        found = await self._plan(request, limits, measure, overhead)
        sent = await self._sent(request, call_next, found, measure)
        if sent is not messages:
            request = request.evolve(messages=sent)
        return await call_next(request)

    async def _sent(
        self, request: ChatRequest, call_next: Handler, found: Plan, measure: Measure
    ) -> Any:
        """What is sent of a conversation that is too long."""
        context = request.context
        if not found.fits:
            why = "what has to stay is too long by itself"
            context.note(LAYER, "summarise.too_long", why=why, after=found.after)
        if found.gap is None:
            if found.used:
                sizes = {"before": found.before, "after": found.after}
                context.note(LAYER, "summarise.shortened", strategies=found.used, **sizes)
            return found.messages
        ports = context.ports
        try:
            kept = await self._kept(ports)
        except SecretError as error:
            if not error.retryable:
                raise
            kept = None
        shelf = Shelf(
            kept, context, near=self._near(ports), ttl=self.ttl, namespace=self.namespace
        )  # type: ignore[arg-type]
        visit = Visit(
            self,
            request,
            call_next,
            found,
            count=measure,
            shelf=shelf,
            writer=self._writer(ports),
            decisive=(context.tenant, self._own_model(request), inside(call_next), *self._decisive),
        )
        return await visit.messages()

    @property
    def allowance(self) -> int:
        """Tokens that are set aside for a summary."""
        return self.max_output_tokens + FRAME_TOKENS
