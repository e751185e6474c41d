"""Where summaries are kept: under digests of what they stand for."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import anyio

from lamella import Context, Finish, Head, TextDelta
from lamella._answer_codec import KeptAnswer
from lamella._canonical import encode, form
from lamella._history import Group
from lamella._kept_answers import Found, KeptAnswers
from lamella_middlewares.summarise._flights import Made
from lamella_middlewares.summarise._names import LAYER

T = TypeVar("T")

VERSION: Final = 1
"""Of what the digests are made of, and of the prompt: others' summaries are not found."""

PUT_SECONDS: Final = 0.9
"""What keeping a summary may take: somebody is waiting."""

_AT_ONCE: Final = 64
"""How many beginnings of a conversation are looked up in one question to the store."""


def digests(decisive: Sequence[Any], covered: Sequence[Group]) -> list[str]:
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
    """The summaries of one tenant.

    Args:
        kept: What the layer keeps.
        tenant: Whose.
        near: Whether the store is in memory, so that nobody waits for it.
        ttl: Seconds for which a summary is kept; None for as long as there is room.
        context: The call's.
    """

    __slots__ = ("_context", "_kept", "_near", "_tenant", "_ttl")

    def __init__(
        self,
        kept: KeptAnswers,
        tenant: str | None,
        context: Context,
        *,
        near: bool,
        ttl: float | None,
    ) -> None:
        self._kept = kept
        self._tenant = tenant
        self._near = near
        self._ttl = ttl
        self._context = context

    def address(self, digest: str) -> str:
        """Where the summary with that digest is kept."""
        return self._kept.address(self._tenant or "", digest)

    async def find(self, digest: str) -> Made | None:
        """The summary with that digest, if there is one."""
        address = self.address(digest)
        found = await self._waited(partial(self._kept.get, address, counted=False))
        return self._made(found)

    async def longest(self, candidates: Sequence[str]) -> tuple[int, Made] | None:
        """The summary of the longest beginning that has one, and its place among the digests."""
        for stop in range(len(candidates), 0, -_AT_ONCE):
            start = max(0, stop - _AT_ONCE)
            wanted = [self.address(digest) for digest in candidates[start:stop]]
            found = await self._waited(partial(self._kept.get_many, wanted, counted=False))
            for place in range(len(wanted) - 1, -1, -1):
                made = self._made(found[wanted[place]])
                if made is not None:
                    return start + place, made
            if any(one.why == "unavailable" for one in found.values()):
                return None
        return None

    async def put(self, digest: str, made: Made, **about: Any) -> None:
        """Keep a summary, if that does not take long; what comes of it is noted.

        Args:
            digest: Of what it stands for.
            made: The summary.
            **about: Fields of `KeptAnswer`: what it cost, and which model was asked.
        """
        reason = "length" if made.cut else "stop"
        entry = KeptAnswer(
            events=(TextDelta(made.text), Finish(reason)),
            head=Head(),
            operation="chat",
            tenant=self._tenant,
            fresh_for=self._ttl,
            **about,
        )
        why = "it took too long"
        with anyio.move_on_after(PUT_SECONDS):
            why = await self._kept.put(self.address(digest), entry, ttl=self._ttl)
        if why:
            self._context.note(LAYER, "summarise.not_stored", why=why)

    def _made(self, found: Found) -> Made | None:
        answer = found.answer
        if answer is None or (self._ttl is not None and answer.age >= self._ttl):
            return None
        text = "".join([one.text for one in answer.events if isinstance(one, TextDelta)])
        last = answer.events[-1] if answer.events else None
        cut = isinstance(last, Finish) and last.reason == "length"
        return Made(text, cut=cut, age=answer.age) if text else None

    async def _waited(self, function: Callable[[], Awaitable[T]]) -> T:
        if self._near:
            return await function()
        return await self._context.wait(function, what="looking for a summary")
