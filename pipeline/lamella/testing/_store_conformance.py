"""The rules that every store obeys, as checks that any implementation can be run through.

Each rule gets a store of its own. A broken one ends the check with an AssertionError that says the
rule and what was seen instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeAlias, TypeVar

import attrs


class Closable(Protocol):
    """What all stores have in common."""

    async def aclose(self) -> None:
        """Release what the store holds open."""
        ...


S = TypeVar("S", bound=Closable)

Make: TypeAlias = Callable[[], S | Awaitable[S]]
"""Makes an empty store; may be a plain or an asynchronous function."""

Advance: TypeAlias = Callable[[float], Awaitable[None] | None]
"""Moves the store's clock by seconds; for a store that reads a real clock it may simply sleep."""


def expect(saw: object, expected: object, what: str) -> None:
    """Raise an AssertionError unless the two are equal."""
    if saw != expected:
        raise AssertionError(f"{what}: expected {expected!r}, saw {saw!r}.")


def yes(saw: object, what: str) -> None:
    """Raise an AssertionError unless it is True."""
    expect(saw, what=what, expected=True)


def no(saw: object, what: str) -> None:
    """Raise an AssertionError unless it is False."""
    expect(saw, what=what, expected=False)


async def expect_value_error(result: Awaitable[object], what: str) -> None:
    """Raise an AssertionError unless awaiting `result` raises a ValueError."""
    try:
        saw = await result
    except ValueError:
        return
    raise AssertionError(f"{what}: expected a ValueError, saw {saw!r}.")


@attrs.frozen
class _Rule(Generic[S]):
    sentence: str
    check: Callable[[S, Callable[[float], Awaitable[None]]], Awaitable[None]]
    timed: bool


class Rules(Generic[S]):
    """The rules of one kind of store.

    Args:
        kind: What the store is called in errors.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._rules: list[_Rule[S]] = []

    def rule(
        self, sentence: str
    ) -> Callable[[Callable[[S], Awaitable[None]]], Callable[[S], Awaitable[None]]]:
        """Add the decorated function, which gets a store, as a rule."""

        def add(check: Callable[[S], Awaitable[None]]) -> Callable[[S], Awaitable[None]]:
            self._rules.append(_Rule(sentence, lambda store, _: check(store), timed=False))
            return check

        return add

    def timed_rule(
        self, sentence: str
    ) -> Callable[
        [Callable[[S, Callable[[float], Awaitable[None]]], Awaitable[None]]],
        Callable[[S, Callable[[float], Awaitable[None]]], Awaitable[None]],
    ]:
        """Add the decorated function, which gets a store and its clock's `advance`, as a rule."""

        def add(
            check: Callable[[S, Callable[[float], Awaitable[None]]], Awaitable[None]],
        ) -> Callable[[S, Callable[[float], Awaitable[None]]], Awaitable[None]]:
            self._rules.append(_Rule(sentence, check, timed=True))
            return check

        return add

    async def check(self, make: Make[S], advance: Advance | None) -> None:
        """Check every rule, those about time only if the clock can be moved.

        Raises:
            AssertionError: If the store breaks a rule; it says which.
        """

        async def move(seconds: float) -> None:
            moved = None if advance is None else advance(seconds)
            if moved is not None:
                await moved

        for rule in self._rules:
            if advance is None and rule.timed:
                continue
            made = make()
            store = await made if inspect.isawaitable(made) else made
            try:
                await rule.check(store, move)
            except AssertionError as error:
                raise AssertionError(f"{self._kind}: {rule.sentence} {error}") from None
            except Exception as error:
                error.add_note(f"{self._kind}: raised while checking that: {rule.sentence}")
                raise
            finally:
                await store.aclose()
            await store.aclose()  # closing twice is closing once
