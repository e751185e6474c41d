"""One look at a text for the signs of all kinds.

Most texts have nothing of most kinds. RE2 looks for the signs of all of them together, in the time
that one would take, so that a detector is asked only about texts in which its kind may be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import Any

from lamella_middlewares.pii._detect import _engine


class Sign:
    """What a text must have in it where something of a kind is to be found.

    Args:
        expression: That, for both engines, without groups that capture.
        plain: A quick look for where RE2 is not installed, as Python's own engine tries a text at
            each place; it may see the sign more often. None: that engine looks for the expression.
    """

    __slots__ = ("_compiled", "expression", "plain")

    def __init__(self, expression: str, *, plain: Callable[[str], bool] | None = None) -> None:
        self.expression = expression
        self.plain: Callable[[str], bool] = self._search if plain is None else plain
        self._compiled: dict[str, Any] = {}

    def within(self, text: str) -> bool:
        """Whether it is in a text."""
        if _engine.name() != "re2":
            return self.plain(text)
        compiled = self._compiled.get("re2")
        if compiled is None:
            compiled = self._compiled["re2"] = _engine.compile_bytes(self.expression)
        return compiled.search(text.encode("utf-8", "replace")) is not None

    def _search(self, text: str) -> bool:
        compiled = self._compiled.get("re")
        if compiled is None:
            compiled = self._compiled["re"] = re.compile(self.expression, re.ASCII)
        return compiled.search(text) is not None


class Look:
    """Several signs, looked for at once. Thread-safe.

    Args:
        signs: The signs; what is seen is told by their numbers.

    Attributes:
        quick: Whether RE2 looks, which is known as soon as somebody has looked.
    """

    def __init__(self, signs: Iterable[Sign]) -> None:
        self._signs = tuple(signs)
        self._set: Any = None
        self.quick = False

    def seen(self, text: str) -> Collection[int]:
        """The numbers of the signs that are in a text, which has no half of a surrogate pair."""
        together = self._set
        if together is None and self._signs and _engine.name() == "re2":
            together = self._set = _together(tuple([s.expression for s in self._signs]))
            self.quick = True
        if together is not None:
            found: list[int] | None = together.Match(text)
            return found or ()
        asked: dict[Callable[[str], bool], bool] = {}
        seen: list[int] = []
        for number, sign in enumerate(self._signs):
            look = sign.plain
            if look not in asked:
                asked[look] = look(text)
            if asked[look]:
                seen.append(number)
        return seen


@lru_cache(maxsize=8)
def _together(expressions: tuple[str, ...]) -> Any:
    """All of them as one set. To build it takes milliseconds, and most layers look for the same."""
    return _engine.compile_set(expressions)
