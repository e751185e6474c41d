"""Requests with no text but that of their messages, as most are: told at a glance, without a walk.

What walks a request (`map_texts`) goes through every field of it. Who looks for something in texts
on every call can first ask here whether there is anything to walk besides the messages.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, cast

from lamella._chat import ChatRequest
from lamella._nothing import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable

_NOT_WALKED: Final = frozenset({"messages", "model", "context", "target", "stream", "returns"})
_LONG_NUMBER: Final = 100_000
"""Numbers of fewer digits identify nobody, and are not looked at by `map_texts` either."""

_FIELDS: Final = tuple([name for name in ChatRequest.of("").__dict__ if name not in _NOT_WALKED])
_others = cast("Callable[[Any], tuple[Any, ...]]", itemgetter(*_FIELDS))
_NONE: Final = _others(ChatRequest.of("").__dict__)


_EMPTY: Final[tuple[Any, ...]] = ((), {})


def has_only_messages(request: object) -> bool:
    """Whether `map_texts` finds no text in a request but in its messages; False says nothing."""
    if type(request) is not ChatRequest:
        return False
    values = _others(request.__dict__)
    return values == _NONE or _are_wordless(values)


def _are_wordless(values: tuple[Any, ...]) -> bool:
    for value in values:
        if value is None or value is NOTHING or value in _EMPTY:
            continue
        kind = value.__class__
        if kind is int:
            if not 0 <= value < _LONG_NUMBER:
                return False
        elif kind is not bool and kind is not float:
            return False
    return True
