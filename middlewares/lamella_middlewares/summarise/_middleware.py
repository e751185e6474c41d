"""The layer: its options, and which conversations are too long."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any, Final, Literal

import attrs

from lamella import (
    ChatRequest,
    ChatResponse,
    Context,
    Handler,
    Message,
    MisuseError,
    Packing,
    PartHealth,
    Pipeline,
    Ports,
    SecretError,
    Target,
    _keeping,
    inside,
    middleware,
)
from lamella._answer_shelves import kept_answers
from lamella._canonical import form
from lamella._fingerprints import digest, transport_inside
from lamella._guarded_blobs import shown
from lamella._kept_answers import KeptAnswers
from lamella._message_sizes import Measure, Measured, MessageSizes, in_thread
from lamella._options import one_of, optional_seconds, seconds, span, span_or_none, whole
from lamella._own_store import OwnStore
from lamella._ports import default_ports
from lamella._shortening import Shortener, Size
from lamella._shortening_strategies import drop_tool_results
from lamella._size_limits import SizeLimits
from lamella._tenants import must_choose
from lamella._token_estimate import ESTIMATOR
from lamella._tokens import TokenCounter
from lamella_middlewares.summarise import _choices
from lamella_middlewares.summarise._names import LAYER
from lamella_middlewares.summarise._plan import Plan, plan, takes_long
from lamella_middlewares.summarise._shelf import Shelf
from lamella_middlewares.summarise._spare import spare_of
from lamella_middlewares.summarise._texts import FRAME_TOKENS
from lamella_middlewares.summarise._visit import Visit
from lamella_middlewares.summarise._writer import Writer

_BY_MESSAGES: Final = Measured(Measure(ESTIMATOR, None), 0, None)
"""What counts where only the number of messages decides."""


def _sizes_wanted(layer: Any) -> tuple[Size, Size]:
    trigger: Size = layer.trigger
    target: Size | None = layer.target
    return trigger, trigger.scaled(_choices.TARGET) if target is None else target


def _limits_of(layer: Any) -> SizeLimits:
    return SizeLimits(*_sizes_wanted(layer))


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
    outside={
        "trim": "the turns that Trim leaves out would never be summarised, and be lost to the model"
    },
)
@attrs.frozen(eq=False)
class Summarise(OwnStore):
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
        max_input_tokens: The most tokens of the conversation that one child call reads, 500 or
            more; what is more is summarised in several. None is what the model's window has room
            for.
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
    model: Any = attrs.field(default=None, repr=_choices.shown_model, kw_only=True)
    prompt: str | None = attrs.field(default=None, validator=_choices.prompt, kw_only=True)
    timeout: float | timedelta = attrs.field(
        default=30.0, converter=seconds, validator=span, kw_only=True
    )
    max_output_tokens: int = attrs.field(default=1_000, validator=whole(1), kw_only=True)
    max_input_tokens: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(whole(500)), kw_only=True
    )
    before: tuple[Shortener, ...] = attrs.field(
        default=(drop_tool_results,), converter=_choices.before, kw_only=True
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
    _wanted: tuple[Size, Size] = attrs.field(
        init=False, repr=False, default=attrs.Factory(_sizes_wanted, takes_self=True)
    )
    _limits: SizeLimits = attrs.field(
        init=False, repr=False, default=attrs.Factory(_limits_of, takes_self=True)
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
        if not _may_change(request):
            return await call_next(request)
        trigger, target = self._wanted
        if self._limits.surely_hold(self._sizes, request, _note_skipped):
            return await call_next(request)
        measured = _BY_MESSAGES
        limits: tuple[Size, Size] | None = trigger, target
        if _counts(trigger) or _counts(target):
            measured = await self._sizes.measure(request)
            limits = self._limits.within(measured.window)
        if limits is None:
            _note_skipped(request)
        elif not limits[0].holds(measured.tokens, len(request.messages)):
            found = await self._planned(request, limits, measured)
            sent = await self._sent(request, call_next, found, measured.measure)
            if sent is not request.messages:
                request = request.evolve(messages=sent)
        return await call_next(request)

    async def _planned(
        self, request: ChatRequest, limits: tuple[Size, Size], measured: Measured
    ) -> Plan:
        planned = partial(
            plan,
            request.messages,
            self.before,
            limits,
            count=measured.measure,
            overhead=measured.measure.overhead(request),
            allowance=self.allowance,
        )
        if takes_long(measured.tokens, len(request.messages)):
            return await in_thread(request, planned)
        return planned()

    async def _sent(
        self, request: ChatRequest, call_next: Handler, found: Plan, measure: Measure
    ) -> tuple[Message, ...]:
        """What is sent of a conversation that is too long."""
        context = request.context
        if not found.fits:
            context.note(LAYER, "summarise.too_long", before=found.before, after=found.after)
        if found.gap is None:
            if found.used:
                sizes = {"before": found.before, "after": found.after}
                context.note(LAYER, "summarise.shortened", strategies=found.used, **sizes)
            return found.messages
        ports = context.ports
        visit = Visit(
            self,
            request,
            call_next,
            found,
            count=measure,
            shelf=await self._shelf(context),
            writer=self._writer(ports),
            decisive=(context.tenant, request.model, inside(call_next), *self._decisive),
        )
        return await visit.messages()

    @property
    def allowance(self) -> int:
        """Tokens that are set aside for a summary."""
        return self.max_output_tokens + FRAME_TOKENS

    # --- what it works with ------------------------------------------------------------------

    async def _shelf(self, context: Context) -> Shelf:
        ports = context.ports
        kept: KeptAnswers | None = None
        try:
            kept = await self._kept(ports)
        except SecretError as error:
            if not error.retryable:
                raise
        store = ports.stores.blobs if self.store is None else self.store
        near = getattr(store, "instant", False)
        spare = spare_of(ports, self.namespace)
        return Shelf(kept, spare, context, near=near, ttl=self.ttl)  # type: ignore[arg-type]

    async def _kept(self, ports: Ports) -> KeptAnswers:
        return await kept_answers(LAYER, self.namespace, self.store, self.packing, ports)

    def _writer(self, ports: Ports) -> Writer:
        name = self.targets[0].name if self.targets else "the conversation's own model"
        told = digest(form([self.targets[0].name, self._decisive[0]])) if self.targets else ""
        home = (self.namespace or "shared", LAYER, "writer", told)
        return ports.stores.local.get(home, lambda: Writer(name, ports.monotonic))

    # --- acting by hand ----------------------------------------------------------------------

    async def purge(self, pipeline: Pipeline, *, tenant: str) -> int:
        """Forget the summaries of a tenant; how many were kept.

        Args:
            pipeline: The one that this layer is in.
            tenant: Whose, as in `Context(tenant=...)`.

        Raises:
            MisuseError: If it is no text, or empty.
            StoreUnavailableError: If the store does not answer: then some may be left.
        """
        must_choose(LAYER, "Summarise", tenant=tenant, tag=None)
        return await self._forget(pipeline, tenant)

    async def clear(self, pipeline: Pipeline) -> int:
        """Forget all summaries of this namespace; how many were kept.

        Args:
            pipeline: The one that this layer is in.

        Raises:
            StoreUnavailableError: If the store does not answer: then some may be left.
        """
        return await self._forget(pipeline, None)

    async def _forget(self, pipeline: Pipeline, tenant: str | None) -> int:
        spare_of(pipeline.ports, self.namespace).clear()
        kept = await self._kept(pipeline.ports)
        return await kept.purge(tenant=tenant)

    def health(self, ports: Ports | None = None) -> PartHealth:
        """Whether who summarises answers. `Pipeline.health()` asks for it."""
        return self._writer(ports or default_ports()).health()


def _note_skipped(request: ChatRequest) -> None:
    why = "nobody knows the context window of this model"
    request.context.trace.note(LAYER, "summarise.skipped", why=why, model=request.model)


def _counts(size: Size) -> bool:
    return size.tokens is not None or size.share is not None


def _may_change(request: ChatRequest) -> bool:
    """Whether the request may be changed: unless it says that it may not.

    Raises:
        MisuseError: If what it says makes no sense.
    """
    said = request.context.attributes.get(LAYER, True)
    if not isinstance(said, bool):
        msg = f"Context(attributes={{'summarise': ...}}) was given a {type(said).__name__}."
        raise MisuseError(msg, hint="Give False to send the conversation as it is.", layer=LAYER)
    return said
