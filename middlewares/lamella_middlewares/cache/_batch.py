"""One request of several inputs, each looked up by itself: only the unknown ones are sent."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import anyio.lowlevel
import attrs

from lamella import (
    Event,
    Finish,
    LamellaError,
    Opaque,
    Outcome,
    ProtocolError,
    Request,
    Response,
    Usage,
    UsageReport,
)
from lamella._answer_codec import KeptAnswer
from lamella._keepable import cost_of_turn
from lamella_middlewares.cache._control import LAYER, CacheControl, missing
from lamella_middlewares.cache._lookup import EXPIRED, FRESH, SPARE, STALE, Lookup, failure, saved
from lamella_middlewares.cache._outages import outage
from lamella_middlewares.cache._refresh import refresh
from lamella_middlewares.cache._shares import shares_of_money, shares_of_usage, weights_of

if TYPE_CHECKING:
    from lamella import Ending

AT_A_TIME: Final = 32
"""Inputs that are read or kept before others get their turn on the loop."""
FROM_AFAR: Final = 128
"""The same where each time is a step across a network."""

_BESIDES: Final = (UsageReport, Finish, Opaque)
"""Events that are about no input."""


class Batch(Lookup):
    """A request whose inputs are kept under an address each."""

    __slots__ = ("_addresses", "_asked", "_first", "_found", "_spare")

    async def answer(self, keys: Sequence[str]) -> Response:
        """What is kept of its inputs, with what the handler inside says of the others."""
        self._begin([self.kept.address(self.tenant, key) for key in keys])
        mode, stale, whys = self.control.mode, set[str](), {"asked to"}
        if mode != "refresh":
            stale, whys = await self._look()
        unknown = [address for address in self._first if address not in self._found]
        if mode == "only_if_cached" and unknown:
            stale |= self._take_spares(unknown)
            unknown = [address for address in unknown if address not in self._found]
            if unknown:
                raise missing(f"{len(unknown)} of {len(self._first)} inputs are not kept")
        if stale and mode == "use":
            self._refresh(sorted(stale, key=self._first.__getitem__))
        self._hit(self._found, stale)
        if not unknown:
            await _breathe(self._first)
            return self._together(None)
        self.context.note(LAYER, "cache.miss", why=", ".join(sorted(whys)), inputs=len(unknown))
        return await self._ask(unknown)

    def _begin(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._first: dict[str, int] = {}  # where each stands first
        for place, address in enumerate(addresses):
            self._first.setdefault(address, place)
        self._found: dict[str, KeptAnswer] = {}
        self._spare: dict[str, KeptAnswer] = {}
        self._asked: Sequence[str] = ()

    # --- reading -----------------------------------------------------------------------------

    async def _look(self) -> tuple[set[str], set[str]]:
        """Find what is kept; what of it is stale, and why the rest is not there."""
        stale, whys = set[str](), set[str]()
        for some in self._chunks(list(self._first)):
            found = await self.waited(partial(self.kept.get_many, some, counted=self.counted))
            for address, one in found.items():
                why = one.why if one.answer is None else self._sorted(address, one.answer)
                if why == STALE:
                    stale.add(address)
                elif why != FRESH:
                    whys.add(why)
            if "unavailable" in whys:
                self.storing = False  # a store that is out costs one wait, and no more
                break
            await _breathe(self._first)
        return stale, whys

    def _sorted(self, address: str, answer: KeptAnswer) -> str:
        """What a kept answer is good for; it is remembered as such."""
        use = self.use_of(answer)
        if use in {FRESH, STALE}:
            self._found[address] = answer
            return use
        if use == SPARE:
            self._spare[address] = answer
            return EXPIRED
        if self.counted:
            self.kept.tally.miss(use)
        return use

    def _take_spares(self, addresses: Iterable[str]) -> set[str]:
        found = {one: self._spare[one] for one in addresses if one in self._spare}
        self._found.update(found)
        return set(found)

    def _miss(self, spares: Collection[str]) -> None:
        """Count old answers that were there and have not been used."""
        for _ in spares if self.counted else ():
            self.kept.tally.miss(EXPIRED)

    def _hit(self, found: Mapping[str, KeptAnswer], stale: Collection[str], **fields: Any) -> None:
        """Count and note answers that are used."""
        if not found:
            return
        for address, answer in found.items() if self.counted else ():
            self.kept.tally.hit(answer, stale=address in stale)
        answers = list(found.values())
        age = round(max([answer.age for answer in answers]), 3)
        fields.update(saved(answers))
        self.context.note(
            LAYER, "cache.hit", age=age, stale=bool(stale), inputs=len(found), **fields
        )

    # --- asking ------------------------------------------------------------------------------

    async def _ask(self, unknown: list[str]) -> Response:
        """The answer, after what is unknown has been asked for."""
        if self.control.answer is not None:
            return await self._take(self.control.answer, unknown)
        request, whole = self.request, len(unknown) == len(self._addresses)
        if not whole:
            request = request.evolve(inputs=self._inputs(unknown), stream=False)
        missed = spares = [address for address in unknown if address in self._spare]
        try:
            response = await self.fetch(request, unknown)
        except LamellaError as error:
            if len(spares) < len(unknown) or not outage(error):
                raise
            missed = []
            self._hit({one: self._spare[one] for one in spares}, spares, error=failure(error))
            self._take_spares(spares)
            return self._together(None)
        finally:
            self._miss(missed)
        return response if whole else self._together(response)

    async def fetch(self, request: Request[Any], addresses: Sequence[str]) -> Response:
        """Send a request for these on; its complete answer, of which each part is kept."""
        self._asked = addresses
        send = partial(self.send, request, self._end)
        response = (await self.unless_refused(_digest(addresses), send)).adopt(request)
        return await response.collect()

    def _inputs(self, addresses: Iterable[str]) -> tuple[Any, ...]:
        inputs: Sequence[Any] = cast("Any", self.request).inputs
        return tuple([inputs[self._first[address]] for address in addresses])

    async def _take(self, given: Response, unknown: list[str]) -> Response:
        """Keep an answer that came with the request, and give it."""
        self.tags = self.tags_now()
        self.head = given.head
        self._asked = self._addresses
        response: Response = self.request.answer(given.events, given.head)
        if self.storing:
            await self._put(given.events, given.usage)
        return response

    # --- putting together --------------------------------------------------------------------

    def _together(self, fresh: Response | None) -> Response:
        """The answer to the whole request, from what is kept and what has been asked for.

        It has used what was asked for. Where that is nothing it has, as every kept answer, used
        what it took to make it, and is flagged `cached`.
        """
        parts = {address: _about(answer.events) for address, answer in self._found.items()}
        usage: Usage | None = None
        if fresh is None:
            for answer in self._found.values():
                usage = _sum(usage, answer.usage)
            head = attrs.evolve(next(iter(self._found.values())).head, cached=True)
        else:
            usage, head = fresh.usage, attrs.evolve(fresh.head, raw=None, cached=False)
            parts.update(self._split(fresh.events))
        events = [_at(place, parts[address]) for place, address in enumerate(self._addresses)]
        if usage is not None:
            events.append(UsageReport(usage))
        response: Response = self.request.answer([*events, Finish("stop")], head)
        return response

    def _split(self, events: Iterable[Event]) -> Mapping[str, Event]:
        """What an answer says of each of what has been asked.

        Raises:
            ProtocolError: If it does not say something of each.
        """
        parts = _parts(events, len(self._asked))
        if parts is None:
            msg = f"The answer does not have one result for each of {len(self._asked)} inputs."
            raise ProtocolError(msg, phase="decode", outcome=Outcome.COMPLETE, layer=LAYER)
        return dict(zip(self._asked, parts, strict=True))

    # --- keeping -----------------------------------------------------------------------------

    def _end(self, end: Ending) -> Awaitable[None] | None:
        why = self.why_not(end)
        if why:
            self.left_out(why, len(self._asked))
            return None
        return self._put(end.events, end.usage)

    async def _put(self, events: Sequence[Event], usage: Usage | None) -> None:
        parts = _parts(events, len(self._asked))
        if parts is None:
            self.left_out("it does not have one result for each input", len(self._asked))
            return
        answers = await self._answers(parts, usage)
        fresh_for = next(iter(answers.values())).fresh_for
        await self.put(
            partial(self._put_many, answers, self.kept_for(fresh_for)),
            inputs=len(answers),
            fresh_for=fresh_for,
        )

    async def _put_many(self, answers: Mapping[str, KeptAnswer], ttl: float | None) -> str:
        whys: set[str] = set()
        for some in self._chunks(list(answers)):
            found = await self.kept.put_many({one: answers[one] for one in some}, ttl=ttl)
            whys.update([why for why in found.values() if why])
            await _breathe(answers)
        return ", ".join(sorted(whys))

    async def _answers(self, parts: Sequence[Event], usage: Usage | None) -> dict[str, KeptAnswer]:
        """Each part as an answer of its own, with its share of what all have used and cost."""
        weights = weights_of(self._inputs(self._asked))
        used, costs = (
            shares_of_usage(usage, weights),
            shares_of_money(cost_of_turn(self.context), weights),
        )
        fresh_for = self.fresh_for()
        answers: dict[str, KeptAnswer] = {}
        for address, part, share, cost in zip(self._asked, parts, used, costs, strict=True):
            if len(answers) % FROM_AFAR == FROM_AFAR - 1:
                await _breathe(self._asked)
            report = () if share is None else (UsageReport(share),)
            answers[address] = KeptAnswer(
                events=(part, *report, Finish("stop")),
                head=self.head,
                operation=self.request.operation,
                model=self.request.model,
                tenant=self.tenant,
                tags=self.tags,
                fresh_for=fresh_for,
                cost=cost,
            )
        return answers

    def _chunks(self, items: Sequence[str]) -> Iterator[Sequence[str]]:
        size = AT_A_TIME if self.near else FROM_AFAR
        for start in range(0, len(items), size):
            yield items[start : start + size]

    # --- refreshing --------------------------------------------------------------------------

    def _refresh(self, stale: Sequence[str]) -> None:
        request = self.request.evolve(inputs=self._inputs(stale))
        renew = partial(self._renew, stale)
        refresh(self, _digest(stale), renew, request=request)

    async def _renew(self, stale: Sequence[str], request: Request[Any]) -> bool:
        """In the background: ask anew, unless others have done so. Whether new ones are kept."""
        found = await self.kept.get_many(stale, counted=False)
        if all(
            one.answer is not None and one.answer.age < self._found[address].age
            for address, one in found.items()
        ):
            return True
        control = CacheControl("refresh", ttl=self.control.ttl, tags=self.control.tags)
        again = Batch(self.layer, self.kept, request, self.call_next, self.tenant, control)
        again._begin(stale)
        await again.fetch(request, stale)
        return again.stored


def _parts(events: Iterable[Event], count: int) -> list[Event] | None:
    """What events say of each input, as if it were the only one; None if not one of each."""
    parts: list[Event | None] = [None] * count
    for event in events:
        if isinstance(event, _BESIDES):
            continue
        place: int | None = getattr(event, "index", None)
        if place is None or not 0 <= place < count or parts[place] is not None:
            return None
        parts[place] = _at(0, event)
    found = [part for part in parts if part is not None]
    return found if len(found) == count else None


def _at(place: int, event: Any) -> Event:
    """The event as one about the input of that place."""
    moved: Event = event if event.index == place else attrs.evolve(event, index=place)
    return moved


def _about(events: Iterable[Event]) -> Event:
    """What a kept answer says of its input."""
    return next(event for event in events if not isinstance(event, _BESIDES))


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return one if other is None else other
    return one + other


def _digest(addresses: Iterable[str]) -> str:
    """A name for several."""
    found = hashlib.sha256(usedforsecurity=False)
    for address in addresses:
        found.update(f"{len(address)}:{address}".encode())
    return found.hexdigest()


async def _breathe(all_of_them: Collection[Any]) -> None:
    """Let others have their turn, if there is so much to do that they would miss it."""
    if len(all_of_them) > AT_A_TIME:
        await anyio.lowlevel.checkpoint()
