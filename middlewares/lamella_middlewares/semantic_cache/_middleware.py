"""The layer: its options, and which requests it compares."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import attrs

from lamella import (
    ChatRequest,
    ChatResponse,
    Context,
    Handler,
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
from lamella._answer_shelves import Counting, kept_answers
from lamella._fingerprints import transport_inside
from lamella._guarded_blobs import shown
from lamella._kept_answers import CacheStats, KeptAnswers
from lamella._options import flag, optional_seconds, seconds, span, span_or_none, whole
from lamella._own_store import OwnStore
from lamella._ports import default_ports
from lamella._tenants import must_choose, tenant_of
from lamella._warm import Warm
from lamella_middlewares.semantic_cache import _choices
from lamella_middlewares.semantic_cache._control import (
    LAYER,
    SemanticControl,
    control_of,
    missing,
)
from lamella_middlewares.semantic_cache._embedding import Embedder
from lamella_middlewares.semantic_cache._question import question_of, text_of
from lamella_middlewares.semantic_cache._records import Keep
from lamella_middlewares.semantic_cache._shelf import Shelf
from lamella_middlewares.semantic_cache._shelves import shelf_of
from lamella_middlewares.semantic_cache._visit import Visit

THRESHOLD: Final = 0.9

_UNSEEN: Final = "{} would not see the answers that need no call"
_DOES: Final = "{}, and a kept answer would not do it again"


def _numpy() -> None:
    from lamella._vector_rows import numpy

    numpy()  # loaded where no event loop waits for it


_warm: Final = Warm(_numpy)


def _decisive(layer: Any) -> tuple[Any, ...]:
    """What makes vectors comparable: who embeds, and as what."""
    target: Target = layer.targets[0]
    return (transport_inside(target.transport).digest, dict(target.changes))


@middleware(
    phase="remember",
    rank=50,
    requests=ChatRequest,
    effects=("short-circuits", "asks a child"),
    inside={
        "pii": "SemanticCache would keep, and have embedded, raw personal data",
        "guard": _UNSEEN.format("Guard"),
        "audit": _UNSEEN.format("Audit"),
        "tools": _DOES.format("tools act"),
        "cache": "what Cache has under the same words would be embedded first, and paid for",
    },
    outside={
        "cost": "answers that nobody pays for would be priced",
    },
)
@attrs.frozen(eq=False)
class SemanticCache(OwnStore):
    """Answers a question with what was answered when it was asked in other words.

    Only the text of the last message, the user's, is compared, by the vectors that an embedding
    model makes of it. All else has to be the same: tenant, model, instructions, tools, parameters,
    what was said before, pictures, and the layers inside that have a say in the answer.

    What the embedder, the index or the store do wrong is never the caller's error: it is a miss.

    Args:
        embed: Who embeds, as for the targets of `Route`: a model's name (through the pipeline's own
            transport and the layers inside), a transport, a pipeline, or a table such as
            `{"use": "openai", "model": "text-embedding-3-small"}`.
        threshold: How near a question must be, above 0, at most 1.
        ttl: Seconds, or a timedelta, for which an answer may be given, above 0, give or take a
            tenth; None for as long as there is room. A shorter one holds for what was kept before.
        when: Which requests: `"deterministic"` ones (temperature 0 or a seed), `"all"`, or a plain
            function of the request. Never those that leave something behind at the provider.
        tenant: The tenant of requests that name none. None refuses to compare those.
        facts: Whether questions must have the same numbers, names, quotations, placeholders and
            negations, as far as `different_facts` can tell.
        verify: Asked besides whether an answer may be given: a function of the request and a
            `Similar`, plain or async. Only True lets it pass.
        store: Where answers are kept: a blob store, a registered name, or a table with `use` and
            options. None is the pipeline's own, `ports.stores.blobs`.
        index: Where vectors are compared, likewise. None is in this process's memory.
        namespace: Another one sees nothing of what was kept under this one.
        vary: What of the context separates answers besides the tenant: names out of `"user"`,
            `"session"`, `"priority"` and `"tags"`.
        tags: Words by which answers can be purged, or a plain function of the request that returns
            some.
        keep: What is kept besides answers that ended well.
        packing: How answers are packed, and signed where others can write to the store.
        timeout: Seconds, or a timedelta, that embedding may take, and likewise `verify`, above 0.
        max_characters: The longest text that is compared, 1 or more; longer ones pass.
        piece: Characters of each piece of a kept answer that is streamed, 1 or more.

    A request says more with `Context(attributes={"semantic_cache": ...})`; see `SemanticControl`.

    Raises:
        ConfigurationError: If an option is wrong, or numpy is needed and not installed.
    """

    embed: Any = attrs.field(repr=False)
    threshold: float = attrs.field(default=THRESHOLD, validator=_choices.threshold, kw_only=True)
    ttl: float | timedelta | None = attrs.field(
        default=3600.0, converter=optional_seconds, validator=span_or_none, kw_only=True
    )
    when: _keeping.When = attrs.field(
        default="deterministic", validator=_keeping.when, kw_only=True
    )
    tenant: str | None = attrs.field(default=None, validator=_keeping.tenant, kw_only=True)
    facts: bool = attrs.field(default=True, validator=flag, kw_only=True)
    verify: _choices.Verify | None = attrs.field(
        default=None, validator=_choices.verify, kw_only=True
    )
    store: Any = attrs.field(  # pyright: ignore[reportUnknownVariableType]
        default=None, converter=_choices.store, kw_only=True, repr=shown
    )
    index: Any = attrs.field(  # pyright: ignore[reportUnknownVariableType]
        default=None, converter=_choices.index, kw_only=True, repr=False
    )
    namespace: str = attrs.field(default="", validator=_keeping.namespace, kw_only=True)
    vary: tuple[str, ...] = attrs.field(
        default=(), converter=_keeping.listed, validator=_keeping.vary, kw_only=True
    )
    tags: _keeping.Tags = attrs.field(
        default=(), converter=_keeping.listed, validator=_keeping.tags, kw_only=True
    )
    keep: Keep = attrs.field(
        factory=Keep, converter=_choices.keep, validator=_keeping.must_be(Keep), kw_only=True
    )
    packing: Packing = attrs.field(
        factory=Packing,
        converter=_choices.packing,
        validator=_keeping.must_be(Packing),
        kw_only=True,
    )
    timeout: float | timedelta = attrs.field(
        default=2.0, converter=seconds, validator=span, kw_only=True
    )
    max_characters: int = attrs.field(default=8_000, validator=whole(1), kw_only=True)
    piece: int = attrs.field(default=64, validator=whole(1), kw_only=True)

    targets: tuple[Target, ...] = attrs.field(
        init=False, default=attrs.Factory(_choices.embedder, takes_self=True)
    )
    _decisive: tuple[Any, ...] = attrs.field(
        init=False, repr=False, default=attrs.Factory(_decisive, takes_self=True)
    )
    # What has counts that other processes can read; they are written down when it is closed.
    _counting: Counting = attrs.field(init=False, factory=Counting, repr=False, eq=False)

    async def __call__(self, request: ChatRequest, call_next: Handler) -> ChatResponse:
        """Answer a request with what is kept, or send it on and keep the answer.

        Raises:
            CacheMissError: If only a kept answer was wanted, and there is none.
            MisuseError: If the request names no tenant, and the layer neither; or if what it says
                about caching makes no sense.
        """
        context = request.context
        control = control_of(context)
        why = self._passes(request, control)
        texts: Any = why or text_of(request, self.max_characters)
        if isinstance(texts, str):
            return await self._pass(request, call_next, control, texts)
        tenant = self._tenant_of(context)
        tags = _keeping.tags_of(
            request, self.tags, control.tags, layer=LAYER, called="SemanticCache"
        )
        decisive = (
            inside(call_next),
            *self._decisive,
            *[getattr(context, name) for name in self.vary],
        )
        try:
            question = question_of(request, texts, tenant, decisive=decisive)
            kept = await self._kept(context)
        except TypeError as error:
            return await self._pass(request, call_next, control, str(error))
        except SecretError as error:
            if not error.retryable:
                raise
            return await self._pass(request, call_next, control, "its key cannot be had now")
        self._counting.add(kept)
        visit = Visit(
            self, kept, self._shelf(context.ports), request, call_next,
            tenant=tenant, control=control, question=question, tags=tags,
        )  # fmt: skip
        return await visit.answer(self._embedder(context.ports))

    def _passes(self, request: ChatRequest, control: SemanticControl) -> str:
        """Why the request passes without being compared; empty if it does not."""
        if control.mode == "bypass":
            return "asked to"
        return _keeping.why_passed(request, self.when, always=control.always)

    async def _pass(
        self, request: ChatRequest, call_next: Handler, control: SemanticControl, why: str
    ) -> ChatResponse:
        if control.mode == "only_if_cached":
            raise missing(f"the request is not compared: {why}")
        request.context.note(LAYER, "semantic_cache.bypassed", why=why)
        return await call_next(request)

    def _tenant_of(self, context: Context) -> str:
        return tenant_of(context, self.tenant, LAYER, "SemanticCache")

    # --- what it works with ------------------------------------------------------------------

    async def _kept(self, context: Context) -> KeptAnswers:
        while self.index is None and not _warm.done:
            await _warm.ready(context)
            if not _warm.done:  # the deadline has left no time for it
                await context.sleep(0, what="loading numpy")
        return await self._kept_in(context.ports)

    async def _kept_in(self, ports: Ports) -> KeptAnswers:
        return await kept_answers(LAYER, self.namespace, self.store, self.packing, ports)

    def _shelf(self, ports: Ports) -> Shelf:
        return shelf_of(ports.stores.blobs if self.store is None else self.store, self.index, ports)

    def _embedder(self, ports: Ports) -> Embedder:
        name = self.targets[0].name
        home = (self.namespace or "shared", LAYER, "embedder", name, self._decisive[0])
        return ports.stores.local.get(home, lambda: Embedder(name, ports.monotonic))

    # --- acting by hand ----------------------------------------------------------------------

    async def stats(self, pipeline: Pipeline) -> CacheStats:
        """What has been counted: hits, misses, what was kept and what that has saved.

        It is what this process has counted and, where others use the same store, what they had
        written down some seconds ago; those that have ended are among them for 30 days.

        Args:
            pipeline: The one that this layer is in.

        Raises:
            StoreUnavailableError: If the store does not answer.
        """
        return await (await self._kept_in(pipeline.ports)).stats()

    async def purge(
        self, pipeline: Pipeline, *, tenant: str | None = None, tag: str | None = None
    ) -> int:
        """Forget the answers of a tenant, those with a tag, or those of the tenant with the tag.

        Args:
            pipeline: The one that this layer is in.
            tenant: Whose, as in `Context(tenant=...)`.
            tag: One of the words in `SemanticCache(tags=...)` or `SemanticControl(tags=...)`.

        Returns:
            How many that were.

        Raises:
            MisuseError: If neither is given, or one is no text, or empty.
            StoreUnavailableError: If the store, or the index, does not answer: then some may be
                left.
        """
        must_choose(LAYER, "SemanticCache", tenant=tenant, tag=tag)
        return await self._forget(pipeline, tenant, tag)

    async def clear(self, pipeline: Pipeline) -> int:
        """Forget all answers of this namespace; how many.

        Args:
            pipeline: The one that this layer is in.

        Raises:
            StoreUnavailableError: As for `purge`.
        """
        return await self._forget(pipeline, None, None)

    async def _forget(self, pipeline: Pipeline, tenant: str | None, tag: str | None) -> int:
        kept = await self._kept_in(pipeline.ports)
        count = await kept.purge(tenant=tenant, tag=tag)
        unused = self.index is None and not _warm.done
        if tag is None and not unused:  # of tags the index knows nothing: it finds what is gone
            await self._shelf(pipeline.ports).purge(kept.prefix(tenant))
        return count

    def health(self, ports: Ports | None = None) -> PartHealth:
        """Whether the embedder answers. `Pipeline.health()` asks for it."""
        return self._embedder(ports or default_ports()).health()

    @property
    def own_stores(self) -> tuple[Any, ...]:
        """The store and the index that it was given."""
        return tuple([one for one in (self.store, self.index) if one is not None])

    async def aclose(self) -> None:
        """Write down what was counted; close a store and an index given, if none uses them now."""
        await self._counting.publish()
        await super().aclose()
