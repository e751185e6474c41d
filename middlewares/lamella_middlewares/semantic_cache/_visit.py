"""One request on its way past the layer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import anyio

from lamella import (
    ChatRequest,
    ChatResponse,
    Context,
    Handler,
    Near,
    Response,
    StoreUnavailableError,
    ending,
)
from lamella._answer_codec import KeptAnswer
from lamella._keepable import cost_of_turn, replayed, why_not_kept
from lamella._kept_answers import Found, KeptAnswers
from lamella._responses import NO_HEAD
from lamella_middlewares.semantic_cache._control import LAYER, SemanticControl, missing
from lamella_middlewares.semantic_cache._directions import direction, likeness
from lamella_middlewares.semantic_cache._embedding import Embedder
from lamella_middlewares.semantic_cache._judging import JITTER, Judge
from lamella_middlewares.semantic_cache._places import within
from lamella_middlewares.semantic_cache._question import Question
from lamella_middlewares.semantic_cache._shelf import Shelf, Where

if TYPE_CHECKING:
    from lamella import Ending
    from lamella_middlewares.semantic_cache._middleware import SemanticCache

T = TypeVar("T")

CANDIDATES: Final = 3
"""How many similar questions are looked at: the nearest may differ in a fact, and the next not."""

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
        "_address", "_call_next", "_context", "_control", "_counted", "_direction", "_head",
        "_judge", "_kept", "_layer", "_partition", "_question", "_request", "_shelf", "_storing",
        "_tags", "_tenant", "_vector",
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
        self._judge = Judge(layer, request, question.text, control)
        self._vector: Sequence[float] = ()
        self._direction: tuple[float, ...] | None = None

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
            near = await self._nearest(vector, at_least)
        except StoreUnavailableError:
            self._storing = False  # what is out costs one wait, not two
            return "unavailable"
        why = "nothing similar"
        for one in near:
            found = Found(None, "foreign")
            if within(one.key, self._partition):
                found = await self._waited(partial(self._kept.get, one.key), near=self._shelf.near)
                self._counted = self._counted or found.answer is None
            answer = found.answer
            if answer is None or not answer.question:
                why = found.why or "foreign"
                if why == "unavailable":
                    self._storing = False
                    return why
                remove = partial(self._shelf.remove, self._partition, one.key, len(vector))
                await self._waited(remove, near=self._shelf.own)
                continue
            similarity = self._similarity(one, answer)
            why = self._judge.too_old(answer)
            if not why and one.key != self._address:  # that is the very same question
                why = await self._refused(answer, similarity, at_least)
            if not why:
                return self._hit(answer, similarity)
        return why

    async def _nearest(self, vector: Sequence[float], at_least: float) -> Sequence[Near]:
        ask = partial(
            self._shelf.nearest, self._partition, vector, most=CANDIDATES, at_least=at_least
        )
        return await self._waited(ask, near=self._shelf.own)

    def _similarity(self, one: Near, answer: KeptAnswer) -> float:
        """How near a question is: an index that others can write to may say what it likes."""
        if self._shelf.own:
            return one.similarity
        return likeness(self._pointing(), answer.vector)

    def _pointing(self) -> tuple[float, ...]:
        if self._direction is None:
            self._direction = direction(self._vector)
        return self._direction

    async def _refused(self, answer: KeptAnswer, similarity: float, at_least: float) -> str:
        """Why the answer to another question is none to this; empty if it is one."""
        if not similarity >= at_least:  # nor nan
            return "nothing similar"
        why = await self._judge.refused(answer, similarity)
        if why:
            self._context.note(LAYER, "semantic_cache.rejected", why=why, similarity=similarity)
        return why

    async def _waited(self, function: Callable[[], Awaitable[T]], *, near: bool) -> T:
        if near:
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
        self._kept.tally.not_stored(why)
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
        # One process's memory keeps the vectors by itself.
        vector = () if self._shelf.own and self._shelf.near else self._pointing()
        return KeptAnswer(
            events=tuple(end.events),
            head=self._head,
            operation=self._request.operation,
            model=self._request.model,
            tenant=self._tenant,
            tags=self._tags | {self._question.partition},
            fresh_for=fresh_for,
            cost=cost_of_turn(self._context),
            question=self._question.text,
            vector=vector,
        )

    async def _stored(self, entry: KeptAnswer, ttl: float | None) -> str:
        why = await self._kept.put(self._address, entry, ttl=ttl)
        if why:
            return why
        try:
            await self._shelf.add(self._partition, self._address, self._vector, ttl=ttl)
        except StoreUnavailableError:
            return "index unavailable"
        return ""

    def _fresh_for(self) -> float | None:
        ttl = self._judge.ttl
        if ttl is None:
            return None
        return ttl * (1 + JITTER * (2 * self._context.ports.random.random() - 1))
