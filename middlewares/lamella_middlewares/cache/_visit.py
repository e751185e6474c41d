"""One request looked up as a whole."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lamella import Event, Head, LamellaError, Request, Response
from lamella._answer_codec import KeptAnswer
from lamella._evolve import made
from lamella._held_answers import kept_head
from lamella._keepable import cost_of_turn, replayed, why_not_kept
from lamella._kept_answers import Found
from lamella_middlewares.cache._control import LAYER, CacheControl, missing
from lamella_middlewares.cache._lookup import EXPIRED, FRESH, SPARE, STALE, Lookup, failure
from lamella_middlewares.cache._outages import outage
from lamella_middlewares.cache._refresh import refresh

if TYPE_CHECKING:
    from lamella import Ending
    from lamella._attempts import OpenAttempt
    from lamella._held_answers import HeldAnswer


class Visit(Lookup):
    """A request whose answer is kept under one address."""

    __slots__ = ("_address",)

    _address: str

    async def answer(self, key: str) -> Response:
        """The kept answer, or the one that the handler inside gives."""
        address = self._address = self.kept.address(self.tenant, key)
        mode, spare, why = self.control.mode, None, "asked to"
        if mode != "refresh":
            looked = self._look(address)
            found = looked if isinstance(looked, Found) else await looked
            answer, why, held = found.answer, found.why, found.held
            if answer is not None:
                why = self.use_of(answer)
                if why == FRESH:
                    return self._hit(answer, held)
                if why == STALE:
                    if mode == "use":
                        self._refresh(answer)
                    return self._hit(answer, held, stale=True)
                if why == SPARE:
                    if mode == "only_if_cached":
                        return self._hit(answer, held, stale=True)
                    spare, why = answer, EXPIRED
                if self.counted and spare is None:
                    self.kept.tally.miss(why)
            elif why == "unavailable":
                self.storing = False  # a store that is out costs one wait, not two
        if mode == "only_if_cached":
            raise missing(why)
        self.context.trace.note(LAYER, "cache.miss", why=why)
        if spare is None and self.control.answer is None and self.layer.keep.refusals_for is None:
            return await self.send(self.request, self._end)  # as nearly always
        return await self.ask(spare)

    def _look(self, address: str) -> Found | Coroutine[Any, Any, Found]:
        if self.near:
            return self.kept.look(address, counted=self.counted)
        return self.waited(partial(self.kept.get, address, counted=self.counted))

    async def ask(self, spare: KeptAnswer | None = None) -> Response:
        """The answer of the handler inside, which is kept if it may be.

        Args:
            spare: What is answered if the model cannot be asked.
        """
        given = self.control.answer
        if given is not None:
            return await self._take(given)
        send = partial(self.send, self.request, self._end)
        missed = self.counted and spare is not None  # unless it is used after all
        try:
            return await self.unless_refused(self._address, send)
        except LamellaError as error:
            if spare is None or not outage(error):
                raise
            missed = False
            return self._hit(spare, stale=True, error=failure(error))
        finally:
            if missed:
                self.kept.tally.miss(EXPIRED)

    def _hit(
        self,
        answer: KeptAnswer,
        held: HeldAnswer | None = None,
        *,
        stale: bool = False,
        **fields: Any,
    ) -> Response:
        tokens = answer.tokens if held is None else held.tokens
        if self.counted:
            self.kept.tally.hit(answer, stale=stale, tokens=tokens)
        age = round(answer.age, 3)
        saves: dict[str, Any] = {"saved_tokens": tokens[0] + tokens[1]}
        if answer.cost is not None:
            saves["saved_nano"] = {answer.cost.currency: answer.cost.nano}
        self.context.trace.note(LAYER, "cache.hit", age=age, stale=stale, **saves, **fields)
        return self._replayed(answer, None if held is None else held.head)

    def _replayed(self, answer: KeptAnswer, head: Head | None = None) -> Response:
        response: Response = replayed(self.request, answer, piece=self.layer.piece, head=head)
        return response

    async def _take(self, given: Response) -> Response:
        """Keep an answer that came with the request, and give it."""
        self.tags = self.tags_now()
        self.head = given.head
        answer = self._answer(given.events)
        if self.storing:
            await self._put(answer)
        return self._replayed(answer)

    # --- keeping -----------------------------------------------------------------------------

    def _end(self, end: Ending) -> Awaitable[None] | None:
        context = self.context
        attempts = context.trace.of_turn(context.bound)
        keep = self.layer.keep
        why = why_not_kept(
            self.request,
            end,
            truncated=keep.truncated,
            substitutes=keep.substitutes,
            attempts=attempts,
        )
        if why:
            self.left_out(why)
            return None
        answer = self._answer(end.events, attempts)
        if self.near:
            said = self.kept.put_now(self._address, answer, ttl=self.kept_for(answer.fresh_for))
            if said is not None:
                self.told(said, fresh_for=answer.fresh_for)
                return None
        return self._put(answer)

    def _answer(
        self, events: Sequence[Event], attempts: Sequence[OpenAttempt] | None = None
    ) -> KeptAnswer:
        return made(
            KeptAnswer,
            {
                "events": tuple(events),
                "head": kept_head(self.head),
                "operation": self.request.operation,
                "model": self.request.model,
                "tenant": self.tenant,
                "tags": self.tags,
                "fresh_for": self.fresh_for(),
                "cost": cost_of_turn(self.context, attempts),
                "question": "",
                "vector": (),
                "age": 0.0,
            },
        )

    async def _put(self, answer: KeptAnswer) -> None:
        address, ttl = self._address, self.kept_for(answer.fresh_for)
        await self.put(lambda: self.kept.put(address, answer, ttl=ttl), fresh_for=answer.fresh_for)

    # --- refreshing --------------------------------------------------------------------------

    def _refresh(self, old: KeptAnswer) -> None:
        refresh(self, self._address, partial(self._renew, old.age))

    async def _renew(self, age: float, request: Request[Any]) -> bool:
        """In the background: ask anew, unless others have done so. Whether a new one is kept."""
        control = CacheControl("refresh", ttl=self.control.ttl, tags=self.control.tags)
        visit = Visit(self.layer, self.kept, request, self.call_next, self.tenant, control)
        visit._address = self._address
        found = await self.kept.get(self._address, counted=False)
        if found.answer is not None and found.answer.age < age:
            return True
        response = (await visit.ask()).adopt(request)
        await response.collect()
        return visit.stored
