"""Rows, each to be a request: what may stand in one, and why one is none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs
import msgspec

from lamella._bulk_errors import RowError
from lamella._requests import Request

if TYPE_CHECKING:
    from lamella._chat import ChatRequest
    from lamella._messages import Message

LARGEST: Final = 16 * 1024 * 1024
"""Bytes that a line may have; a longer one is refused and not kept in memory."""

_LONGEST_REASON: Final = 300


@attrs.define(eq=False)
class Row:
    """A row that was read.

    Attributes:
        index: Which, from 0.
        id: What it calls itself; None if it does not.
        asked: What is asked, or why it is no request.
        given: What stood there, as it was given.
    """

    index: int
    id: str | int | None
    asked: Request[Any] | RowError = attrs.field(repr=False)
    given: Any = attrs.field(repr=False)


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


def is_id(value: Any) -> bool:
    """Whether a row may call itself that."""
    return _is_text(value) or _is_whole(value)


Check: TypeAlias = tuple[Callable[[Any], bool], str]
"""What a value must be, and that in words."""

TEXT: Final[Check] = (_is_text, "text that is not empty")
NUMBER: Final[Check] = (_is_number, "a number")
WHOLE: Final[Check] = (_is_whole, "a whole number")
FLAG: Final[Check] = (_is_flag, "true or false")
TABLE: Final[Check] = (_is_table, "an object")
TABLES: Final[Check] = (_are_tables, "a list of objects")
_STOP: Final[Check] = (
    lambda value: _is_text(value) or _are_texts(value),
    "text, or a list of texts",
)
_CHOICE: Final[Check] = (lambda value: _is_text(value) or _is_table(value), "text, or an object")
_TAGS: Final[Check] = (_are_tags, "an object of texts")
_ID: Final[Check] = (is_id, "text, or a whole number")

_FIELDS: Final[Mapping[str, Check]] = {
    "model": TEXT,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "max_output_tokens": WHOLE,
    "stop": _STOP,
    "seed": WHOLE,
    "presence_penalty": NUMBER,
    "frequency_penalty": NUMBER,
    "reasoning_effort": TEXT,
    "service_tier": TEXT,
    "response_format": TABLE,
    "tools": TABLES,
    "tool_choice": _CHOICE,
    "parallel_tool_calls": FLAG,
    "extra": TABLE,
}
"""What is said to the model, by the names that `ChatRequest` has."""
_CONTEXT: Final[Mapping[str, Check]] = {
    "tenant": TEXT,
    "user": TEXT,
    "session": TEXT,
    "tags": _TAGS,
}
"""Whose it is, by the names that `Context` has."""

KNOWN: Final[Mapping[str, Check]] = {
    "id": _ID,
    "prompt": TEXT,
    "messages": TABLES,
    **_FIELDS,
    **_CONTEXT,
}
"""All that may stand in a row."""


class RowReader:
    """Makes requests of rows.

    A row is a request, a pair of an id and one, a mapping or a text as a line of `lamella map` has
    them, or the bytes of such a line. Whatever else it is becomes a row that says what is wrong.

    Args:
        defaults: What holds where a row is silent; its messages stand before a row's, unless the
            row has instructions of its own. None for nothing.
        has_model: Whether the transport knows a model where nobody has named one.
        hint: What to do where no model is named.
    """

    def __init__(
        self,
        defaults: ChatRequest | None = None,
        *,
        has_model: bool = True,
        hint: str = "Name one in the row, or in the defaults for all rows.",
    ) -> None:
        from lamella._chat import ChatRequest
        from lamella._messages import Message

        self._base = ChatRequest(messages=[]) if defaults is None else defaults
        self._has_model = has_model or self._base.model is not None
        self._hint = hint
        self._message_of = Message.of
        self._message = Message.user

    def read(self, index: int, given: Any) -> Row:
        """What a row asks, whatever it is."""
        whole: Any = given
        if isinstance(given, Request):
            return Row(index, None, whole, whole)
        if isinstance(given, RowError):  # as who has read it from a table found it
            return Row(index, None, given, str(given))
        named: Any = None
        try:
            if type(given) is tuple:
                named, given = _pair(whole)
                whole = given
                if isinstance(given, Request):
                    return Row(index, named, whole, whole)
            table = _table(given)
            if named is None:
                named = table.get("id")
            return Row(index, named, self._request(table), table)
        except RowError as error:
            if named is None and isinstance(given, Mapping):
                named = cast("Mapping[str, Any]", given).get("id")
            return Row(index, named if is_id(named) else None, error, given)

    def _request(self, given: Mapping[str, Any]) -> ChatRequest:
        fields: dict[str, Any] = {}
        context: dict[str, Any] = {}
        for name, value in given.items():
            check(name, value)
            if value is None:
                continue
            if name in _FIELDS:
                fields[name] = value
            elif name in _CONTEXT:
                context[name] = value
        base = self._base
        if not self._has_model and "model" not in fields:
            msg = "The row names no 'model', and the transport has none."
            raise RowError(msg, hint=self._hint)
        try:
            fields["messages"] = self._messages(given)
            if context:
                fields["context"] = base.context.evolve(**context)
            return base.evolve(**fields)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            why = str(error)
            if len(why) > _LONGEST_REASON:
                why = f"{type(error).__name__} while it was read."
            raise RowError(f"The row is no request: {why}") from None

    def _messages(self, given: Mapping[str, Any]) -> Sequence[Message]:
        prompt, listed = given.get("prompt"), given.get("messages")
        if (prompt is None) == (not listed):
            what = "asks nothing" if prompt is None else "has a 'prompt' and 'messages'"
            raise RowError(f"The row {what}.", hint="Give one of 'prompt' and 'messages'.")
        if prompt is not None:
            return (*self._base.messages, self._message(prompt))
        messages = [self._message_of(message) for message in cast("Sequence[Any]", listed)]
        for number, message in enumerate(messages, 1):
            if not message.parts:
                msg = f"The row's message {number} (of the {message.role}) is empty."
                raise RowError(msg, hint="Give it a 'content'.")
        instructed = messages[0].role in {"system", "developer"}
        return messages if instructed else (*self._base.messages, *messages)


def check(name: str, value: Any) -> None:
    """Refuse a name that is not known, and a value that is none for it; null is nothing said."""
    known = KNOWN.get(name)
    if known is None:
        from lamella._checked_tables import close_to

        hint = (
            f"{close_to(name, list(KNOWN))} What only one provider knows goes into 'extra'.".strip()
        )
        raise RowError(f"The row has a field {name!r}, which there is not.", hint=hint)
    if value is not None and not known[0](value):
        raise RowError(f"The row's {name!r} is not {known[1]}.")


def _pair(given: tuple[Any, ...]) -> tuple[Any, Any]:
    if len(given) != 2 or not is_id(given[0]):
        msg = "The row is a tuple, and no pair of an id (text, or a whole number) and a request."
        raise RowError(msg)
    return given[0], given[1]


def _table(given: Any) -> Mapping[str, Any]:
    """A row's fields by name."""
    if given is None:
        raise RowError(f"The row has more than {LARGEST >> 20} MiB.")
    if isinstance(given, bytes):
        given = _parsed(given)
    if isinstance(given, str):
        return {"prompt": given}
    names: Any = given
    if isinstance(given, Mapping) and all(type(name) is str for name in names):
        return cast("Mapping[str, Any]", names)
    raise RowError("The row is neither an object nor text.")


def _parsed(line: bytes) -> Any:
    """What a line of JSON stands for. A quick reader first; the careful one knows what is wrong."""
    try:
        return _DECODER.decode(line)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(line.decode(), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise RowError(f"The row is no UTF-8 text: byte {error.start + 1} is none.") from None
    except (ValueError, RecursionError) as error:
        where = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        hint = "Each line is one object, or the prompt in quotes."
        raise RowError(f"The row is no JSON{where}.", hint=hint) from None


_DECODER: Final = msgspec.json.Decoder()


def _no_number(word: str) -> Any:
    raise ValueError(word)
