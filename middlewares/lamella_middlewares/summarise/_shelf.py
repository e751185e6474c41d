"""Where summaries are kept: under digests of what they stand for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import anyio

from lamella import Context, Finish, Head, TextDelta
from lamella._answer_codec import KeptAnswer
from lamella._canonical import encode, form
from lamella._history import Group
from lamella._kept_answers import Found, KeptAnswers
from lamella_middlewares.summarise._flights import Made
from lamella_middlewares.summarise._names import LAYER
from lamella_middlewares.summarise._spare import LATE_SECONDS, UNFIT_SECONDS, Left, Spare

VERSION: Final = 1
"""Of what the digests are made of, and of the prompt: others' summaries are not found."""

PUT_SECONDS: Final = 0.9
"""What keeping a summary may take: somebody is waiting."""

_AT_ONCE: Final = 100
"""How many beginnings of a conversation are looked up in one question to the store."""


def digests(decisive: Sequence[Any], covered: Iterable[Group]) -> list[str]:
    """The digest of each beginning of a conversation: of the first group, of the first two ...

    Args:
        decisive: What else decides the summary: the tenant, who makes it, and how.
        covered: The groups that may be left out, the oldest first.

    Raises:
        TypeError: If something has no canonical form.
    """
    try:
        made = hashlib.sha256(encode([VERSION, *decisive]), usedforsecurity=False)
        found: list[str] = []
        for group in covered:
            made.update(encode([form(message) for message in group.messages]))
            found.append(made.copy().hexdigest())
    except (ValueError, OverflowError, RecursionError) as error:
        raise TypeError(f"what has no canonical form ({type(error).__name__})") from None
    return found


class Shelf:
    """The summaries that a call may find, and where it keeps its own.

    Args:
        kept: What the layer keeps; None while its key cannot be had.
        spare: What this process knows besides.
        context: The call's.
        near: Whether the store is in memory, so that nobody waits for it.
        ttl: Seconds for which a summary is kept; None for as long as there is room.
    """

    __slots__ = ("_context", "_kept", "_near", "_spare", "_ttl")

    def __init__(
        self,
        kept: KeptAnswers | None,
        spare: Spare,
        context: Context,
        *,
        near: bool,
        ttl: float | None,
    ) -> None:
        self._kept = kept
        self._spare = spare
        self._context = context
        self._near = near
        self._ttl = ttl

    async def find(self, digest: str) -> Made | None:
        """The summary with that digest, if there is one."""
        found = await self._found([digest])
        return found[0]

    async def longest(self, candidates: Sequence[str]) -> tuple[int, Made] | None:
        """The summary of the longest beginning that has one, and its place among the digests."""
        for stop in range(len(candidates), 0, -_AT_ONCE):
            start = max(0, stop - _AT_ONCE)
            found = await self._found(candidates[start:stop])
            for place in range(len(found) - 1, -1, -1):
                made = found[place]
                if made is not None:
                    return start + place, made
        return None

    def left(self, digest: str, seconds: float) -> str:
        """Why the model is not asked for that one if it has so long; empty if it may be."""
        return self._spare.left(digest, self._now, seconds)

    def leave_unfit(self, digest: str, why: str) -> None:
        """Do not ask the model again for what it cannot summarise."""
        self._spare.leave(digest, Left(why, self._now + UNFIT_SECONDS))

    def leave_late(self, digest: str, why: str, seconds: float) -> None:
        """Do not ask the model again for what it could not summarise in so long."""
        self._spare.leave(digest, Left(why, self._now + LATE_SECONDS, seconds))

    async def put(self, digest: str, made: Made, **about: Any) -> None:
        """Keep a summary, if that does not take long; what comes of it is noted.

        Args:
            digest: Of what it stands for.
            made: The summary.
            **about: Fields of `KeptAnswer`: what it cost, and which model was asked.
        """
        why = "it took too long"
        if self._kept is None:
            why = "its key cannot be had now"
        else:
            entry = KeptAnswer(
                events=(TextDelta(made.text), Finish("length" if made.cut else "stop")),
                head=Head(),
                operation="chat",
                tenant=self._context.tenant,
                fresh_for=self._ttl,
                **about,
            )
            try:
                with anyio.move_on_after(PUT_SECONDS):
                    why = await self._kept.put(self._address(digest), entry, ttl=self._ttl)
            except anyio.get_cancelled_exc_class():  # it has been paid for nevertheless
                self._spare.put(digest, made, self._now)
                raise
        if why:
            self._spare.put(digest, made, self._now)
            self._context.note(LAYER, "summarise.not_stored", why=why)

    @property
    def _now(self) -> float:
        return self._context.ports.monotonic()

    async def _found(self, wanted: Sequence[str]) -> list[Made | None]:
        found: list[Made | None] = [None] * len(wanted)
        kept = self._kept
        if kept is not None:
            addresses = [self._address(digest) for digest in wanted]
            ask = partial(kept.get_many, addresses, counted=False)
            answers = await (
                ask() if self._near else self._context.wait(ask, what="looking for a summary")
            )
            found = [self._made(answers[address]) for address in addresses]
        return [
            self._spare.get(digest, self._now, self._ttl) if made is None else made
            for digest, made in zip(wanted, found, strict=True)
        ]

    def _address(self, digest: str) -> str:
        assert self._kept is not None  # noqa: S101 - asked for only where there is a store
        return self._kept.address(self._context.tenant or "", digest)

    def _made(self, found: Found) -> Made | None:
        answer = found.answer
        if answer is None or (self._ttl is not None and answer.age >= self._ttl):
            return None
        text = "".join([one.text for one in answer.events if isinstance(one, TextDelta)])
        last = answer.events[-1] if answer.events else None
        cut = isinstance(last, Finish) and last.reason == "length"
        return Made(text, cut=cut, age=answer.age) if text else None
