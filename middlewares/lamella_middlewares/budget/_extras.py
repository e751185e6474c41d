"""What a request has that its fields do not show: `extra`, which wins over them, and references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from lamella import Audio, File, Request, ToolResult

_BOUNDS: Final = frozenset({"maxtokens", "maxcompletiontokens", "maxoutputtokens", "numpredict"})
_ANSWERS: Final = frozenset({"n", "candidatecount", "bestof"})
_MORE: Final = frozenset(
    {
        "cachedcontent",
        "container",
        "conversation",
        "mcpservers",
        "plugins",
        "prediction",
        "previousresponseid",
        "prompt",
        "tools",
        "websearchoptions",
    }
)
"""What makes a model read or do more than the request shows: kept by the provider, or its tools."""

_DEPTH: Final = 4
"""How deep APIs put any of these."""


@attrs.frozen
class Extra:
    """What `extra` says that changes the worst case.

    Attributes:
        most: The most tokens of an answer that it allows; None if it says nothing.
        answers: How many answers it asks for.
        words: Its texts, in small letters: one may be a class of service.
        unbounded: Why there is no bound all the same; empty if there is one.
    """

    most: int | None = None
    answers: int = 1
    words: frozenset[str] = frozenset()
    unbounded: str = ""


NO_EXTRA: Final = Extra()


def extra_of(extra: Mapping[str, Any]) -> Extra:
    """What `extra` says: in the words of all providers, for any of them may be asked."""
    most, answers, words, unbounded = None, 1, set[str](), ""
    for name, value in _fields(extra, _DEPTH):
        if isinstance(value, str):
            words.add(value.lower())
        if name in _BOUNDS:
            if type(value) is int and value > 0:
                most = max(most or 0, value)
            elif value is not None:
                unbounded = "its `extra` takes the bound from the answer"
        elif name in _ANSWERS and type(value) is int:
            answers = max(answers, value)
        elif name in _MORE and value:
            unbounded = "its `extra` makes the model read or do more than can be counted"
    return Extra(most, answers, frozenset(words), unbounded)


def _fields(table: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        yield str(name).replace("_", "").lower(), value
        if depth and isinstance(value, Mapping):
            yield from _fields(value, depth - 1)  # pyright: ignore[reportUnknownArgumentType]


def referred(request: Request[Any]) -> str:
    """Why nobody can count what a request makes the model read; empty if that can be counted."""
    for message in getattr(request, "messages", ()):
        if _refers(message.parts):
            return "it refers to a document or to sound that is kept elsewhere"
    return ""


def _refers(parts: Iterable[object]) -> bool:
    return any(
        (isinstance(part, File | Audio) and part.data is None)
        or (isinstance(part, ToolResult) and _refers(part.content))
        for part in parts
    )
