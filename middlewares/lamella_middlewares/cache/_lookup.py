"""What looking up one answer and looking up several have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from lamella import Context, Handler, Head, LamellaError, Outcome, Request, Response, ending
from lamella._answer_codec import KeptAnswer
from lamella._keepable import why_not_kept
from lamella._keeping import tags_of
from lamella._kept_answers import KeptAnswers
from lamella._responses import NO_HEAD
from lamella_middlewares.cache._control import LAYER, CacheControl, WarmingUp
from lamella_middlewares.cache._refusals import Refusals, lasting

if TYPE_CHECKING:
    from lamella import Ending
    from lamella_middlewares.cache._middleware import Cache

T = TypeVar("T")

PUT_SECONDS: Final = 0.9
"""What keeping an answer may take: less than the core gives to what is told of an ending."""

FRESH: Final = "fresh"
STALE: Final = "stale"
SPARE: Final = "spare"
"""What a kept answer is good for: at once; while a new one is asked for; if asking fails."""

EXPIRED: Final = "expired"

NO_TAGS: Final[frozenset[str]] = frozenset()


class Lookup:
    """A request on its way past the cache.

    Args:
        layer: The layer, with its options.
        kept: What it keeps.
        request: What is asked.
        call_next: The handler inside.
        tenant: Whose it is.
        control: What the request says about caching.
    """

    __slots__ = (
        "call_next", "context", "control", "counted", "head", "kept", "layer", "near", "request",
        "stored", "storing", "tags", "tenant",
    )  # fmt: skip

    def __init__(
        self,
        layer: Cache,
        kept: KeptAnswers,
        request: Request[Any],
        call_next: Handler,
        tenant: str,
        control: CacheControl,
    ) -> None:
        self.layer = layer
        self.kept = kept
        self.request = request
        self.context: Context = request.context
        self.call_next = call_next
        self.tenant = tenant
        self.control = control
        self.head: Head = NO_HEAD
        self.tags: frozenset[str] = NO_TAGS
        self.storing = control.mode != "no_store"
        self.stored = False
        self.counted = control.__class__ is not WarmingUp
        self.near = kept.near

    # --- reading -----------------------------------------------------------------------------

    async def waited(self, function: Callable[[], Awaitable[T]]) -> T:
        """What the store says; where it is elsewhere, ended by the deadline and by closing."""
        if self.near:
            return await function()
        return await self.context.wait(function, what="looking into the cache")

    def use_of(self, answer: KeptAnswer) -> str:
        """What a kept answer is good for: `FRESH`, `STALE`, `SPARE`, or why for nothing."""
        age, control, layer = answer.age, self.control, self.layer
        if control.max_age is not None and age >= control.max_age:  # type: ignore[operator]
            return "too old"
        ttl: Any = layer.ttl if control.ttl is None else control.ttl
        fresh_for = answer.fresh_for
        if ttl is not None:
            longest = ttl * (1 + layer.jitter)
            if fresh_for is None or fresh_for > longest:
                fresh_for = longest
        if fresh_for is None or age < fresh_for:
            return FRESH
        stale: Any = layer.stale
        if age < fresh_for + stale.while_revalidate:
            return STALE
        return SPARE if age < fresh_for + stale.if_error else EXPIRED

    # --- asking ------------------------------------------------------------------------------

    def send(
        self, request: Request[Any], told: Callable[[Ending], Awaitable[None] | None]
    ) -> Awaitable[Response]:
        """Send a request on; what it ends with is told if it may be kept."""
        if not self.storing:
            response: Awaitable[Response] = self.call_next(request)
            return response
        if self.layer.tags or self.control.tags:
            self.tags = self.tags_now()
        return ending(self.call_next, request, told, answered=self._answered)

    def _answered(self, response: Response) -> None:
        self.head = response.head

    async def unless_refused(self, name: str, send: Callable[[], Awaitable[Response]]) -> Response:
        """Send it, unless this process has refused the same before and remembers that.

        Args:
            name: Of what is sent.
            send: Does it.
        """
        seconds: Any = self.layer.keep.refusals_for
        if seconds is None:
            return await send()
        ports = self.context.ports
        home = (self.layer.namespace or "shared", LAYER, "refusals")
        refusals = ports.stores.local.get(home, Refusals)
        refusal = refusals.find(name, ports.monotonic())
        if refusal is not None and self.control.mode != "refresh":
            self.context.note(LAYER, "cache.refused", error=failure(refusal))
            raise refusal
        try:
            return await send()
        except LamellaError as error:
            if self.storing and lasting(error) and not self._asked_somebody():
                refusals.keep(name, error, ports.monotonic() + seconds)
            raise

    def _asked_somebody(self) -> bool:
        """Whether anything of the request may have left this process."""
        attempts = self.context.trace.of_turn(self.context.bound)
        return any(attempt.outcome is not Outcome.NOT_SENT for attempt in attempts)

    # --- keeping -----------------------------------------------------------------------------

    def tags_now(self) -> frozenset[str]:
        """The words by which the answer can be purged."""
        chosen = self.layer.tags
        if not chosen and not self.control.tags:
            return NO_TAGS
        return tags_of(self.request, chosen, self.control.tags, layer=LAYER, called="Cache")

    def why_not(self, end: Ending) -> str:
        """Why an answer is not kept; empty if it may be."""
        keep = self.layer.keep
        return why_not_kept(
            self.request, end, truncated=keep.truncated, substitutes=keep.substitutes
        )

    def left_out(self, why: str, answers: int = 1) -> None:
        """Count and note answers that are not offered to the store, with the reason."""
        self.kept.tally.not_stored(why, answers)
        self.context.note(LAYER, "cache.not_stored", why=why)

    def fresh_for(self) -> float | None:
        """Seconds for which an answer that is kept now is fresh: the layer's, give or take."""
        ttl: Any = self.layer.ttl if self.control.ttl is None else self.control.ttl
        if ttl is None:
            return None
        jitter = self.layer.jitter
        chance = self.context.ports.random.random() if jitter else 0.5
        return float(ttl * (1 + jitter * (2 * chance - 1)))

    def kept_for(self, fresh_for: float | None) -> float | None:
        """Seconds for which the store keeps it."""
        if fresh_for is None:
            return None
        stale: Any = self.layer.stale
        return float(fresh_for + max(stale.while_revalidate, stale.if_error))

    async def put(self, function: Callable[[], Awaitable[str]], **fields: Any) -> None:
        """Keep something, not for long: whoever waits for the answer waits for this as well."""
        why = ""
        with anyio.move_on_after(PUT_SECONDS) as scope:
            why = await function()
        if scope.cancelled_caught:
            self.left_out("it took too long", fields.get("inputs", 1))
        else:
            self.told(why, **fields)

    def told(self, why: str, **fields: Any) -> None:
        """Note what the store has done: nothing, if there is a reason, which it has counted."""
        note = self.context.trace.note
        if why:
            note(LAYER, "cache.not_stored", why=why)
        else:
            self.stored = True
            note(LAYER, "cache.stored", **fields)


def saved(answers: list[KeptAnswer]) -> dict[str, Any]:
    """What kept answers save, for the trace: tokens, and money by currency."""
    tokens = 0
    money: dict[str, int] = {}
    for answer in answers:
        usage = answer.usage
        if usage is not None:
            tokens += usage.total_tokens
        cost = answer.cost
        if cost is not None:
            money[cost.currency] = money.get(cost.currency, 0) + cost.nano
    fields: dict[str, Any] = {"saved_tokens": tokens}
    if money:
        fields["saved_nano"] = money
    return fields


def failure(error: LamellaError) -> str:
    """An error in a word, for the trace."""
    return type(error).__name__
