"""A row that `lamella map` reads: a prompt or a conversation, and what else is said with it.

A name that is not known is refused: a slip would change thousands of answers unnoticed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs

from lamella._errors import LamellaError
from lamella._outcomes import Outcome
from lamella.cli._map_input import LARGEST

if TYPE_CHECKING:
    from lamella import ChatRequest, Message
    from lamella.cli._asking import Asking
    from lamella.cli._map_input import Line

_LONGEST_REASON: Final = 300


class RowError(LamellaError):
    """Raised when a row is no request; nothing of it is sent."""

    code = "invalid_row"
    outcome = Outcome.NOT_SENT


@attrs.frozen
class Row:
    """A row that was read.

    Attributes:
        index: Which, from 0.
        id: What it calls itself; None if it does not.
        asked: What is asked, or why it is no request.
    """

    index: int
    id: str | int | None
    asked: ChatRequest | RowError = attrs.field(repr=False)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_table, cast("Sequence[object]", value)))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, cast("Sequence[object]", value)))


def _are_tags(value: Any) -> bool:
    found: Mapping[str, Any] = value
    return _is_table(value) and all(isinstance(tag, str) for tag in found.values())


_Check: TypeAlias = tuple[Callable[[Any], bool], str]
"""What a value must be, and that in words."""

_TEXT: Final[_Check] = (_is_text, "text that is not empty")
_NUMBER: Final[_Check] = (_is_number, "a number")
_WHOLE: Final[_Check] = (_is_whole, "a whole number")
_TABLE: Final[_Check] = (_is_table, "an object")
_TABLES: Final[_Check] = (_are_tables, "a list of objects")

_ASKED: Final[Mapping[str, _Check]] = {
    "prompt": _TEXT,
    "messages": _TABLES,
}
_FIELDS: Final[Mapping[str, _Check]] = {
    "model": _TEXT,
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "max_output_tokens": _WHOLE,
    "stop": (lambda value: _is_text(value) or _are_texts(value), "text, or a list of texts"),
    "seed": _WHOLE,
    "presence_penalty": _NUMBER,
    "frequency_penalty": _NUMBER,
    "reasoning_effort": _TEXT,
    "service_tier": _TEXT,
    "response_format": _TABLE,
    "tools": _TABLES,
    "tool_choice": (lambda value: _is_text(value) or _is_table(value), "text, or an object"),
    "parallel_tool_calls": (_is_flag, "true or false"),
    "extra": _TABLE,
}
"""What is said to the model, by the names that `ChatRequest` has."""
_CONTEXT: Final[Mapping[str, _Check]] = {
    "tenant": _TEXT,
    "user": _TEXT,
    "session": _TEXT,
    "tags": (_are_tags, "an object of texts"),
}
"""Whose it is, by the names that `Context` has."""

KNOWN: Final[Mapping[str, _Check]] = {
    "id": (lambda value: _is_text(value) or _is_whole(value), "text, or a whole number"),
    **_ASKED,
    **_FIELDS,
    **_CONTEXT,
}
"""All that may stand in a row."""


class Reader:
    """Makes requests of rows.

    Args:
        asking: What holds where a row is silent.
        has_model: Whether the transport knows a model where nobody has named one.
    """

    def __init__(self, asking: Asking, *, has_model: bool) -> None:
        base = asking.request([])
        self._base = base.evolve(context=base.context.evolve(timed=False))
        self._has_model = has_model or asking.model is not None

    def read(self, line: Line) -> Row:
        """What stands on a line, whatever that is."""
        given: Mapping[str, Any] = {}
        try:
            given = _table(line)
            return Row(line.index, given.get("id"), self._request(given))
        except RowError as error:
            named = given.get("id")
            good, _ = KNOWN["id"]
            return Row(line.index, named if good(named) else None, error)

    def _request(self, given: Mapping[str, Any]) -> ChatRequest:
        for name, value in given.items():
            _check(name, value)
        base = self._base
        if not self._has_model and given.get("model") is None:
            msg = "The row names no 'model', and neither does --model; the transport has none."
            raise RowError(msg, hint="Name one in the row, or for all rows with --model.")
        context = {name: given[name] for name in _CONTEXT if given.get(name) is not None}
        fields = {name: given[name] for name in _FIELDS if given.get(name) is not None}
        try:
            return base.evolve(
                messages=self._messages(given), context=base.context.evolve(**context), **fields
            )
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            why = str(error)
            if len(why) > _LONGEST_REASON:
                why = f"{type(error).__name__} while it was read."
            raise RowError(f"The row is no request: {why}") from None

    def _messages(self, given: Mapping[str, Any]) -> Sequence[Message]:
        from lamella import Message

        prompt, listed = given.get("prompt"), given.get("messages")
        if (prompt is None) == (not listed):
            what = "asks nothing" if prompt is None else "has a 'prompt' and 'messages'"
            raise RowError(f"The row {what}.", hint="Give one of 'prompt' and 'messages'.")
        if prompt is not None:
            return (*self._base.messages, Message.user(prompt))
        messages = [Message.of(message) for message in cast("Sequence[Any]", listed)]
        for number, message in enumerate(messages, 1):
            if not message.parts:
                msg = f"The row's message {number} (of the {message.role}) is empty."
                raise RowError(msg, hint="Give it a 'content'.")
        instructed = messages[0].role in {"system", "developer"}
        return messages if instructed else (*self._base.messages, *messages)


def _check(name: str, value: Any) -> None:
    """Refuse a name that is not known, and a value that is none for it; null is nothing said."""
    if name not in KNOWN:
        from lamella._checked_tables import close_to

        hint = (
            f"{close_to(name, list(KNOWN))} What only one provider knows goes into 'extra'.".strip()
        )
        raise RowError(f"The row has a field {name!r}, which there is not.", hint=hint)
    good, wanted = KNOWN[name]
    if value is not None and not good(value):
        raise RowError(f"The row's {name!r} is not {wanted}.")


def _table(line: Line) -> Mapping[str, Any]:
    if line.text is None:
        raise RowError(f"The row has more than {LARGEST >> 20} MiB.")
    try:
        found: object = json.loads(line.text.decode(), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise RowError(f"The row is no UTF-8 text: byte {error.start + 1} is none.") from None
    except (ValueError, RecursionError) as error:
        where = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        hint = "Each line is one object, or the prompt in quotes."
        raise RowError(f"The row is no JSON{where}.", hint=hint) from None
    if isinstance(found, str):
        return {"prompt": found}
    if not isinstance(found, dict):
        raise RowError("The row is neither an object nor text.")
    return cast("Mapping[str, Any]", found)


def _no_number(word: str) -> Any:
    raise ValueError(word)
