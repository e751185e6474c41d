"""One request on its way past the layer."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import anyio

from lamella import (
    CacheMissError,
    ChatRequest,
    ChatResponse,
    ClosedError,
    Context,
    DeadlineExceeded,
    Handler,
    Money,
    Near,
    Outcome,
    Response,
    StoreUnavailableError,
    ending,
)
from lamella._answer_codec import KeptAnswer, merged
from lamella._kept_answers import KeptAnswers, replayed, why_not_kept
from lamella._responses import NO_HEAD
from lamella_middlewares.semantic_cache._control import LAYER, SemanticControl
from lamella_middlewares.semantic_cache._embedding import Embedder
from lamella_middlewares.semantic_cache._entries import (
    packed_vector,
    with_question,
    without_question,
)
from lamella_middlewares.semantic_cache._facts import different_facts
from lamella_middlewares.semantic_cache._question import Question
from lamella_middlewares.semantic_cache._records import Similar
from lamella_middlewares.semantic_cache._shelf import Shelf, Where

if TYPE_CHECKING:
    from lamella import Ending
    from lamella_middlewares.semantic_cache._middleware import SemanticCache

T = TypeVar("T")

CANDIDATES: Final = 3
"""How many similar questions are looked at: the nearest may differ in a fact, and the next not."""

JITTER: Final = 0.1
"""By how much of itself the time to live of each answer is longer or shorter, by chance."""

PUT_SECONDS: Final = 0.9
"""What keeping an answer may take: less than the core gives to what is told of an ending."""


class Visit:
    """A request whose question is compared with earlier ones.

    Args:
        layer: The layer, with its options.
        kept: What it keeps.
        shelf: The index of it.
        request: What is asked.
        call_next: The handler inside.
        tenant: Whose it is.
        control: What the request says.
        question: What is compared of it.
        tags: Words by which its answer can be purged.
    """

    __slots__ = (
        "_address", "_call_next", "_context", "_control", "_counted", "_head", "_kept", "_layer",
        "_partition", "_question", "_request", "_shelf", "_storing", "_tags", "_tenant", "_vector",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what a call is made of
        self,
        layer: SemanticCache,
        kept: KeptAnswers,
        shelf: Shelf,
        request: ChatRequest,
        call_next: Handler,
        *,
        tenant: str,
        control: SemanticControl,
        question: Question,
        tags: frozenset[str],
    ) -> None:
        self._layer = layer
        self._shelf = shelf
        self._kept = kept
        self._request = request
        self._context: Context = request.context
        self._call_next = call_next
        self._tenant = tenant
        self._control = control
        self._question = question
        self._tags = tags
        self._partition = kept.address(tenant, question.partition)
        self._address = kept.address(tenant, question.key)
        self._storing = control.mode != "no_store"
        self._counted = False
        self._head = NO_HEAD
        self._vector: Sequence[float] = ()

    async def answer(self, embedder: Embedder) -> ChatResponse:
        """The answer to a similar question, or the one that the handler inside gives."""
        mode = self._control.mode
        where = Where(self._kept, self._tenant, self._question.partition)
        self._shelf.look(self._context, self._partition, where)
        vector, why = await embedder.vector(
            self._request,
            self._question.text,
            self._layer.targets[0],
            self._call_next,
            cast("float", self._layer.timeout),
        )
        if vector is None:
            self._context.note(LAYER, "semantic_cache.embedding_failed", why=why)
            why, self._storing = "no vector", False
        else:
            self._vector = vector
            if mode == "refresh":
                why = "asked to"
            else:
                found = await self._find(vector)
                if not isinstance(found, str):
                    return found
                why = found
        if not self._counted:
            self._kept.tally.miss(why)
        self._kept.publish_soon(self._context.background)
        self._context.note(LAYER, "semantic_cache.miss", why=why)
        if mode == "only_if_cached":
            raise missing(why)
        if not self._storing:
            return await self._call_next(self._request)
        return await ending(self._call_next, self._request, self._end, answered=self._answered)

    # --- finding -----------------------------------------------------------------------------

    async def _find(self, vector: Sequence[float]) -> ChatResponse | str:
        """The answer to a question that is near enough, or why there is none."""
        await self._shelf.ready(self._context, self._partition)
        at_least = max(self._layer.threshold, self._control.threshold or 0.0)
        try:
            near = await self._shelf.nearest(
                self._partition, vector, count=CANDIDATES, at_least=at_least
            )
        except StoreUnavailableError:
            self._storing = False  # what is out costs one wait, not two
            return "unavailable"
        why = "nothing similar"
        for one in near:
            found = await self._waited(partial(self._kept.get, one.key))
            entry = None if found.answer is None else without_question(found.answer)
            if entry is None:
                why = found.why or "foreign"
                self._counted = self._counted or found.answer is None
                if why == "unavailable":
                    self._storing = False
                    return why
                await self._shelf.remove(self._partition, one.key)
                continue
            answer, question, _ = entry
            why = self._too_old(answer) or await self._refused(one, answer, question)
            if not why:
                return self._hit(answer, one.similarity)
        return why

    def _too_old(self, answer: KeptAnswer) -> str:
        age, limit = answer.age, self._control.max_age
        if limit is not None and age > cast("float", limit):
            return "too old for the request"
        ttl = cast(
            "float | None", self._layer.ttl if self._control.ttl is None else self._control.ttl
        )
        if not answer.fresh or (ttl is not None and age >= ttl * (1 + JITTER)):
            return "expired"
        return ""

    async def _refused(self, near: Near, answer: KeptAnswer, question: str) -> str:
        """Why the answer to a similar question is none to this; empty if it is one."""
        if near.key == self._address:
            return ""  # it is the same question
        by = different_facts(question, self._question.text) if self._layer.facts else ""
        why = f"different {by}" if by else ""
        if not why and self._layer.verify is not None:
            text = self._request.answer(answer.events).text
            shown = Similar(self._question.text, question, text, near.similarity, answer.age)
            why = await self._unverified(shown)
        if why:
            self._context.note(
                LAYER, "semantic_cache.rejected", why=why, similarity=near.similarity
            )
        return why

    async def _unverified(self, shown: Similar) -> str:
        """Why the caller's own check does not let an answer pass; what fails does not."""
        verify: Any = self._layer.verify
        bound = min(cast("float", self._layer.timeout), max(self._context.left(), 0.0) / 2)
        with anyio.move_on_after(bound):
            try:
                said = verify(self._request, shown)
                if inspect.isawaitable(said):
                    said = await self._awaited(said)
            except Exception as error:
                if isinstance(error, DeadlineExceeded | ClosedError) and self._over():
                    raise  # the call is over, and not only the check
                return f"verify failed: {type(error).__name__}"
            if said is True:
                return ""
            return "verify" if said is False else f"verify gave {type(said).__name__}"
        return "verify took too long"

    async def _awaited(self, said: Awaitable[Any]) -> Any:
        try:
            return await self._context.wait(lambda: said, what="verifying an answer")
        finally:
            if isinstance(said, Coroutine):
                said.close()  # that of a call which was over before it could begin

    def _over(self) -> bool:
        return self._context.call.closing or self._context.left() <= 0

    async def _waited(self, function: Callable[[], Awaitable[T]]) -> T:
        if self._shelf.near:
            return await function()
        return await self._context.wait(function, what="looking into the cache")

    def _hit(self, answer: KeptAnswer, similarity: float) -> ChatResponse:
        self._kept.tally.hit(answer)
        self._kept.publish_soon(self._context.background)
        usage, cost = answer.usage, answer.cost
        saved: dict[str, Any] = {"saved_tokens": 0 if usage is None else usage.total_tokens}
        if cost is not None:
            saved["saved_nano"] = {cost.currency: cost.nano}
        self._context.note(
            LAYER,
            "semantic_cache.hit",
            similarity=similarity,
            age=round(answer.age, 3),
            **saved,
        )
        response: ChatResponse = replayed(self._request, answer, piece=self._layer.piece)
        return response

    # --- keeping -----------------------------------------------------------------------------

    def _answered(self, response: Response) -> None:
        self._head = response.head

    def _end(self, end: Ending) -> Awaitable[None] | None:
        keep = self._layer.keep
        why = why_not_kept(
            self._request, end, truncated=keep.truncated, substitutes=keep.substitutes
        )
        if not why:
            return self._put(end)
        self._context.note(LAYER, "semantic_cache.not_stored", why=why)
        return None

    async def _put(self, end: Ending) -> None:
        fresh_for = self._fresh_for()
        why = "it took too long"
        with anyio.move_on_after(PUT_SECONDS):
            why = await self._stored(self._entry(end, fresh_for), fresh_for)
        if why:
            self._context.note(LAYER, "semantic_cache.not_stored", why=why)
        else:
            self._context.note(LAYER, "semantic_cache.stored", fresh_for=fresh_for)

    def _entry(self, end: Ending, fresh_for: float | None) -> KeptAnswer:
        answer = KeptAnswer(
            events=merged(end.events),
            head=self._head,
            operation=self._request.operation,
            model=self._request.model,
            tenant=self._tenant,
            tags=self._tags | {self._question.partition},
            fresh_for=fresh_for,
            cost=self._cost(),
        )
        vector = packed_vector(self._vector) if self._shelf.mirrors else b""
        return with_question(answer, self._question.text, vector)

    async def _stored(self, entry: KeptAnswer, ttl: float | None) -> str:
        why = await self._kept.put(self._address, entry, ttl=ttl)
        if why:
            return why
        try:
            await self._shelf.add(self._partition, self._address, self._vector, ttl=ttl)
        except StoreUnavailableError:
            return "index unavailable"
        except ValueError:
            return "not comparable with what is there"
        return ""

    def _ttl(self) -> float | None:
        own = self._control.ttl
        return cast("float | None", self._layer.ttl if own is None else own)

    def _fresh_for(self) -> float | None:
        ttl = cast(
            "float | None", self._layer.ttl if self._control.ttl is None else self._control.ttl
        )
        if ttl is None:
            return None
        return ttl * (1 + JITTER * (2 * self._context.ports.random.random() - 1))

    def _cost(self) -> Money | None:
        """What the attempts of this model turn cost; None if nobody knows."""
        total: Money | None = None
        for attempt in self._context.trace.of_turn(self._context.bound):
            if attempt.outcome is Outcome.NOT_SENT:
                continue
            cost = attempt.cost
            if cost is None or (total is not None and total.currency != cost.currency):
                return None
            total = cost if total is None else total + cost
        return total


def missing(why: str) -> CacheMissError:
    """The error of a request that only wanted a kept answer."""
    return CacheMissError(
        f"No kept answer to a similar question could be given ({why}), and only one was wanted.",
        hint='Leave out "only_if_cached" to have the model asked.',
        layer=LAYER,
        code="cache_miss",
    )
