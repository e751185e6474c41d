"""Whether the answer to a similar question is one to this question."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from lamella import ChatRequest, ClosedError, DeadlineExceeded
from lamella._answer_codec import KeptAnswer
from lamella_middlewares.semantic_cache._control import SemanticControl
from lamella_middlewares.semantic_cache._facts import Facts, difference, facts_of
from lamella_middlewares.semantic_cache._records import Similar

if TYPE_CHECKING:
    from lamella_middlewares.semantic_cache._middleware import SemanticCache

JITTER: Final = 0.1
"""By how much of itself the time to live of each answer is longer or shorter, by chance."""

LONG: Final = 2_000
"""Characters of a text from which on its facts are looked for off the event loop."""


class Judge:
    """Looks at kept answers for one request.

    Args:
        layer: The layer, with its options.
        request: What is asked.
        asked: The text that is compared.
        control: What the request says.
    """

    __slots__ = ("_asked", "_context", "_control", "_facts", "_layer", "_request")

    def __init__(
        self, layer: SemanticCache, request: ChatRequest, asked: str, control: SemanticControl
    ) -> None:
        self._layer = layer
        self._request = request
        self._context = request.context
        self._asked = asked
        self._control = control
        self._facts: Facts | None = None

    @property
    def ttl(self) -> float | None:
        """Seconds for which an answer may be given, before chance."""
        own = self._control.ttl
        return cast("float | None", self._layer.ttl if own is None else own)

    def too_old(self, answer: KeptAnswer) -> str:
        """Why an answer is too old; empty if it is not."""
        limit, ttl = cast("float | None", self._control.max_age), self.ttl
        if limit is not None and answer.age >= limit:
            return "too old for the request"
        if not answer.fresh or (ttl is not None and answer.age >= ttl * (1 + JITTER)):
            return "expired"
        return ""

    async def refused(self, answer: KeptAnswer, similarity: float) -> str:
        """Why the answer to another question is none to this; empty if it is one."""
        if self._layer.facts:
            by = await self._different(answer.question)
            if by:
                return f"different {by}"
        if self._layer.verify is None:
            return ""
        text = self._request.answer(answer.events).text
        shown = Similar(self._asked, answer.question, text, similarity, answer.age)
        return await self._unverified(shown)

    async def _different(self, question: str) -> str:
        """In which kind of fact the two questions differ."""
        if question == self._asked:
            return ""
        if self._facts is None:  # for all candidates
            self._facts = await self._facts_of(self._asked)
        return difference(await self._facts_of(question), self._facts)

    async def _facts_of(self, text: str) -> Facts:
        if len(text) < LONG:
            return facts_of(text)
        return await self._context.ports.thread(facts_of, text)

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
