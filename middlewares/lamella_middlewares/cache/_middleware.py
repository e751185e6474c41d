"""The layer: its options, and which requests it looks up."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import attrs

from lamella import (
    Context,
    Handler,
    Packing,
    PartHealth,
    Pipeline,
    Ports,
    Request,
    Response,
    SecretError,
    _keeping,
    middleware,
)
from lamella._answer_shelves import Counting, kept_answers
from lamella._guarded_blobs import guarded, shown
from lamella._kept_answers import KeptAnswers
from lamella._options import number, optional_seconds, span_or_none, whole
from lamella._own_store import OwnStore
from lamella._tenants import must_choose, tenant_of
from lamella_middlewares.cache import _choices
from lamella_middlewares.cache._batch import Batch
from lamella_middlewares.cache._control import LAYER, CacheControl, control_of, missing
from lamella_middlewares.cache._keys import batches, key_of, keys_of_inputs
from lamella_middlewares.cache._records import Keep, Stale
from lamella_middlewares.cache._refusals import Refusals
from lamella_middlewares.cache._visit import Visit

if TYPE_CHECKING:
    from lamella._tally import CacheStats
    from lamella_middlewares.cache._warmed import Warmed, WarmProgress

R = TypeVar("R", bound=Response)

_UNSEEN: Final = "{} would not see the answers that need no call"
_DOES: Final = "{}, and a kept answer would not do it again"


@middleware(
    phase="remember",
    rank=30,
    effects=("short-circuits", "calls again"),
    inside={
        "pii": "Cache would keep raw personal data, under keys made of it",
        "guard": _UNSEEN.format("Guard"),
        "audit": _UNSEEN.format("Audit"),
        "tools": _DOES.format("tools act"),
    },
    outside={
        "cost": "answers that nobody pays for would be priced",
    },
)
@attrs.frozen(eq=False)
class Cache(OwnStore):
    """Answers a request with what was answered when the same was asked before.

    The same is what has the same key: every field of the request, the tenant, and the layers inside
    that have a say in the answer. Kept are whole answers that ended well, streamed or not, and they
    come back streamed or not. Of embeddings and moderations each input is kept by itself.

    What a store does wrong is never the caller's error: what cannot be read is a miss.

    Args:
        ttl: Seconds, or a timedelta, for which an answer is fresh, above 0; None for as long as
            there is room. A shorter one holds for what was kept before as well.
        when: Which requests: `"deterministic"` ones (temperature 0 or a seed; embeddings,
            moderation), `"all"`, or a plain function of the request. Never those that leave
            something behind at the provider.
        tenant: The tenant of requests that name none. None refuses to cache those.
        store: Where: a blob store, a registered name, or a table with `use` and options. None is
            the pipeline's own, `ports.stores.blobs`.
        namespace: Another one sees nothing of what was kept under this one.
        vary: What of the context separates answers besides the tenant: names out of `"user"`,
            `"session"`, `"priority"` and `"tags"`.
        tags: Words by which answers can be purged, or a plain function of the request that returns
            some.
        stale: What is done with answers that are no longer fresh.
        keep: What is kept besides answers that ended well.
        packing: How answers are packed, and signed where others can write to the store.
        jitter: By how much of itself the `ttl` of each answer is longer or shorter, by chance, so
            that what was kept together does not end together: 0 to 0.9.
        piece: Characters of each piece of a kept answer that is streamed, 1 or more.

    A request says more with `Context(attributes={"cache": ...})`; see `CacheControl`.

    Raises:
        ConfigurationError: If an option is wrong, or others can write to the `store` and there is
            no key.
    """

    ttl: float | timedelta | None = attrs.field(
        default=3600.0, converter=optional_seconds, validator=span_or_none
    )
    when: _keeping.When = attrs.field(
        default="deterministic", validator=_keeping.when, kw_only=True
    )
    tenant: str | None = attrs.field(default=None, validator=_keeping.tenant, kw_only=True)
    store: Any = attrs.field(  # pyright: ignore[reportUnknownVariableType]
        default=None, converter=_choices.store, kw_only=True, repr=shown
    )
    namespace: str = attrs.field(default="", validator=_keeping.namespace, kw_only=True)
    vary: tuple[str, ...] = attrs.field(
        default=(), converter=_keeping.listed, validator=_keeping.vary, kw_only=True
    )
    tags: _keeping.Tags = attrs.field(
        default=(), converter=_keeping.listed, validator=_keeping.tags, kw_only=True
    )
    stale: Stale = attrs.field(
        factory=Stale,
        converter=_choices.stale,
        validator=_keeping.must_be(Stale),
        kw_only=True,
    )
    keep: Keep = attrs.field(
        factory=Keep,
        converter=_choices.keep,
        validator=_keeping.must_be(Keep),
        kw_only=True,
    )
    packing: Packing = attrs.field(
        factory=Packing,
        converter=_choices.packing,
        validator=_keeping.must_be(Packing),
        kw_only=True,
    )
    jitter: float = attrs.field(default=0.1, validator=number(0, 0.9), kw_only=True)
    piece: int = attrs.field(default=64, validator=whole(1), kw_only=True)
    # What has counts that other processes can read; they are written down when it is closed.
    _counting: Counting = attrs.field(init=False, factory=Counting, repr=False, eq=False)
    # Of whom it was asked last: without a key it is the same for each of a pipeline's calls.
    _last: list[tuple[Ports, KeptAnswers]] = attrs.field(
        init=False, factory=list[tuple[Ports, KeptAnswers]], repr=False
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Answer a request with what is kept, or send it on and keep the answer.

        Raises:
            CacheMissError: If only a kept answer was wanted, and there is none.
            MisuseError: If the request names no tenant, and the layer neither; or if what it says
                about caching makes no sense.
        """
        context = request.context
        control = control_of(context)
        if control.mode == "bypass":
            why = "asked to"
        else:
            why = _keeping.why_passed(request, self.when, always=control.always)
        if why:
            return await self._pass(request, call_next, control, why)
        tenant = tenant_of(context, self.tenant, LAYER, "Cache")
        several = batches(request)
        find: Any = keys_of_inputs if several else key_of
        ports = context.ports
        try:
            for known, kept in self._last:  # noqa: B007 - one at most, and used below
                if known is ports:
                    break
            else:
                kept = await self._kept(ports)
            found = find(request, call_next, tenant, self.vary)
        except TypeError as error:
            return await self._pass(request, call_next, control, str(error))
        except SecretError as error:
            if not error.retryable:
                raise
            return await self._pass(request, call_next, control, "its key cannot be had now")
        kind = Batch if several else Visit
        visit = kind(self, kept, request, call_next, tenant, control)
        if not visit.near:
            self._count(kept, context)
        return cast("R", await visit.answer(found))

    async def _pass(
        self, request: Request[R], call_next: Handler, control: CacheControl, why: str
    ) -> R:
        if control.mode == "only_if_cached":
            raise missing(f"the request is not cached: {why}")
        request.context.note(LAYER, "cache.bypassed", why=why)
        return await call_next(request)

    def _count(self, kept: KeptAnswers, context: Context) -> None:
        """Have counts written down every few seconds, and when the layer is closed."""
        self._counting.add(kept)
        kept.publish_soon(context.background)

    async def _kept(self, ports: Ports) -> KeptAnswers:
        for known, kept in self._last:
            if known is ports:
                return kept
        kept = await kept_answers(LAYER, self.namespace, self.store, self.packing, ports)
        if self.packing.key is None:  # another may be there at any time
            self._last[:] = [(ports, kept)]
        return kept

    # --- what is kept ------------------------------------------------------------------------

    async def stats(self, pipeline: Pipeline) -> CacheStats:
        """What has been counted: hits, misses, what was kept and what that has saved.

        It is what this process has counted and, where others use the same store, what they had
        written down some seconds ago; those that have ended are among them for 30 days.

        Args:
            pipeline: The one that this layer is in.

        Raises:
            StoreUnavailableError: If the store does not answer.
        """
        kept = await self._kept(pipeline.ports)
        return await kept.stats()

    async def purge(
        self, pipeline: Pipeline, *, tenant: str | None = None, tag: str | None = None
    ) -> int:
        """Forget the answers of a tenant, those with a tag, or those of the tenant with the tag.

        Args:
            pipeline: The one that this layer is in.
            tenant: Whose, as in `Context(tenant=...)`.
            tag: One of the words in `Cache(tags=...)` or `CacheControl(tags=...)`.

        Returns:
            How many that were.

        Raises:
            MisuseError: If neither is given, or one is no text, or empty.
            StoreUnavailableError: If the store does not answer: then some may be left.
        """
        must_choose(LAYER, "Cache", tenant=tenant, tag=tag)
        return await self._forget(pipeline, tenant=tenant, tag=tag)

    async def clear(self, pipeline: Pipeline) -> int:
        """Forget all answers of this namespace; how many.

        Args:
            pipeline: The one that this layer is in.

        Raises:
            StoreUnavailableError: If the store does not answer: then some may be left.
        """
        return await self._forget(pipeline)

    async def _forget(self, pipeline: Pipeline, **what: str | None) -> int:
        ports = pipeline.ports
        ports.stores.local.get((self.namespace or "shared", LAYER, "refusals"), Refusals).clear()
        kept = await self._kept(ports)
        return await kept.purge(**what)

    async def warm(
        self,
        pipeline: Pipeline,
        path: str | os.PathLike[str],
        *,
        tenant: str | None = None,
        concurrency: int = 8,
        refresh: bool = False,
        on_progress: Callable[[WarmProgress], object] | None = None,
    ) -> Warmed:
        """Run the requests of a file, so that their answers are kept; what is fresh is left alone.

        Args:
            pipeline: The one that this layer is in.
            path: A file of JSON lines: each a request as the API takes it, and perhaps `operation`,
                `tenant`, `tags`, `ttl`, and an `answer`, which is then kept without a call.
            tenant: Whose those lines are that do not say.
            concurrency: How many are under way at once, 1 or more.
            refresh: Whether what is fresh is asked for again.
            on_progress: Told after each line, on the event loop; it should return quickly.

        Returns:
            What has become of the lines. A line that fails keeps no other from its turn.

        Raises:
            ConfigurationError: If the file cannot be read.
            MisuseError: If the pipeline has no `Cache`.
        """
        from lamella_middlewares.cache._warming import warm

        return await warm(
            pipeline,
            path,
            tenant=tenant,
            concurrency=concurrency,
            refresh=refresh,
            on_progress=on_progress,
        )

    # --- the store ---------------------------------------------------------------------------

    def health(self, ports: Ports | None = None) -> PartHealth:
        """Whether its own store answers; the pipeline's speaks for itself."""
        store = self.store
        if store is None or ports is None:
            return PartHealth(well=None)
        if not getattr(store, "instant", False):
            store = guarded(store, ports.monotonic)
        ask = getattr(store, "health", None)
        return PartHealth(well=None) if ask is None else ask()

    async def aclose(self) -> None:
        """Write down what was counted; close a store of its own, once no other layer uses it."""
        self._last.clear()
        await self._counting.publish()
        await super().aclose()
