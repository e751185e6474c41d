"""What has become of a row: an object for programs, a line for files, bytes for journals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import attrs
import msgspec

import lamella._bulk_errors as row_errors
import lamella._errors as errors
from lamella._bulk_errors import RowError
from lamella._errors import LamellaError, StructureError
from lamella._money import Money
from lamella._responses import Response
from lamella._trace_forms import money_form, usage_form

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lamella._events import Event
    from lamella._typed_forms import Form

R_co = TypeVar("R_co", bound=Response, covariant=True)


@attrs.frozen(eq=False)
class MapResult(Generic[R_co]):
    """What has become of one row.

    Attributes:
        index: Which row, from 0.
        id: What the row calls itself; None if it does not.
        response: Its answer; None if it failed. One that comes from a journal has no `trace`.
        error: Why it failed; None if it was answered. One that comes from a journal is of the same
            class, as far as that is the library's own, and carries what its line would say.
        seconds: How long it took; None for a row that was no request.
        cost: What all its attempts have cost; None if nobody knows, or in several currencies.
        attempts: How many there were.
        restored: Whether it comes from a journal rather than from this moment's memory.
    """

    index: int
    id: str | int | None
    response: R_co | None = attrs.field(default=None, repr=False)
    error: Exception | None = None
    seconds: float | None = None
    cost: Money | None = None
    attempts: int = 0
    restored: bool = False

    @property
    def value(self) -> Any:
        """The answer's value, of the type that `returns=` asked for.

        Raises:
            Exception: What the row failed with, if it did.
        """
        if self.error is not None:
            raise errors.copy_of(self.error)
        return cast("Any", self.response).value


# --- errors as plain values ---------------------------------------------------------------------

_NAMED: Final = (
    "status", "code", "retryable", "retry_after", "request_id",
)  # fmt: skip


def error_form(error: Exception) -> dict[str, Any]:
    """An error as JSON values; never of prompts, for no message of the library has any."""
    if isinstance(error, LamellaError):
        return {
            "type": type(error).__name__,
            "message": str(error),
            "status": error.status,
            "code": error.code,
            "retryable": error.retryable,
            "retry_after": error.retry_after,
            "request_id": error.request_id,
        }
    return {
        "type": type(error).__name__,
        "message": f"An error that the library does not know: {_words(error)}.",
        **dict.fromkeys(_NAMED),
        "retryable": False,
    }


def _words(error: Exception) -> str:
    words = str(error).strip().rstrip(".")
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def error_of(form: Mapping[str, Any]) -> LamellaError:
    """The error that a form stands for, of its own class where that is the library's."""
    name = str(form["type"])
    found: Any = getattr(errors, name, None) or getattr(row_errors, name, None)
    kind: type[LamellaError] = LamellaError
    if isinstance(found, type) and issubclass(found, LamellaError):
        kind = found
    data: Any = {name: form[name] for name in _NAMED}
    return kind(str(form["message"]), **data)


# --- lines --------------------------------------------------------------------------------------


def line_form(result: MapResult[Any], fingerprint: str = "") -> dict[str, Any]:
    """A result of a chat as JSON values: the line of `lamella map`.

    `cost` is that of all attempts.
    """
    response, error = result.response, result.error
    answer = _answer_form(response) if response is not None else _partial_form(error)
    return {
        "index": result.index,
        "id": result.id,
        **answer,
        "cost": money_form(result.cost),
        "attempts": result.attempts,
        "seconds": result.seconds,
        "system_fingerprint": fingerprint or None,
        "error": None if error is None else error_form(error),
    }


def _answer_form(response: Any) -> dict[str, Any]:

    from lamella._message_dicts import tool_call_to_dict

    message = response.message
    calls = message.tool_calls
    return {
        "text": message.text,
        "refusal": message.refusal,
        "tool_calls": [tool_call_to_dict(call) for call in calls] if calls else [],
        "finish_reason": response.finish_reason,
        "model": response.model,
        "served_by": response.served_by,
        "usage": usage_form(response.usage),
    }


def _partial_form(error: Exception | None) -> dict[str, Any]:
    """What had arrived of an answer that failed."""
    known = error if isinstance(error, LamellaError) else _NO_ERROR
    partial = known.partial
    return {
        "text": "" if partial is None else partial.text,
        "refusal": None,
        "tool_calls": [],
        "finish_reason": None,
        "model": None,
        "served_by": known.provider,
        "usage": usage_form(known.usage),
    }


_NO_ERROR: Final = LamellaError()


def line_of(form: Mapping[str, Any]) -> bytes:
    """A result as one line."""
    try:
        return _encode(form) + b"\n"
    except UnicodeEncodeError:  # half a letter, as an answer that was cut may end in
        return json.dumps(form, separators=(",", ":")).encode() + b"\n"
    except (TypeError, OverflowError):  # what a provider's usage holds need not fit into JSON
        return json.dumps(form, separators=(",", ":"), default=str).encode() + b"\n"


_encode: Final = msgspec.json.encode


# --- what a journal keeps ------------------------------------------------------------------------


class Lines:
    """Results are kept, and given, as the lines of `lamella map`."""

    name = "lines"

    def write(self, result: MapResult[Any], fingerprint: str) -> bytes:
        """The bytes that are kept."""
        return line_of(line_form(result, fingerprint))

    def given(self, result: MapResult[Any], fingerprint: str) -> bytes:
        """What is given where nothing was kept."""
        return self.write(result, fingerprint)

    def live(self, result: MapResult[Any], data: bytes) -> bytes:
        """What is given of a row that was kept just now."""
        return data

    def read(self, index: int, data: bytes) -> bytes:
        """What is given of a row that was kept: its line, under the index that it has now."""
        begin, end = b'{"index":', data.find(b",")
        return begin + str(index).encode() + data[end:] if data.startswith(begin) else data


class Answers:
    """Results are kept so that answers of any operation come back as they were.

    Args:
        returns: The form of the values that are asked for; None for none.
    """

    def __init__(self, returns: Form[Any] | None = None) -> None:
        from lamella._answer_codec import VERSION

        self.name = f"answers {VERSION.hex()}"
        self._returns = returns

    def write(self, result: MapResult[Any], fingerprint: str) -> bytes:
        """The bytes that are kept.

        Raises:
            RowError: If the answer has no form to be kept in.
        """
        del fingerprint
        response, error, cost = result.response, result.error, result.cost
        body: Any
        value = None
        if response is None:
            body = error_form(cast("Exception", error))
        else:
            body, value = self._answer(response)
        money = None if cost is None else (cost.nano, cost.currency)
        row = (result.id, result.seconds, money, result.attempts, value, body)
        try:
            return _pack(row)
        except UnicodeEncodeError:  # an id or a message with half a letter
            return _pack(("", *row[1:5], error_form(RowError("The row's id is not Unicode."))))

    def _answer(self, response: Response) -> tuple[bytes, str | None]:
        from lamella._answer_codec import KeptAnswer, encode_answer

        try:
            value = None
            if self._returns is not None:
                value = self._returns.encode(cast("Any", response).value)
            kept = KeptAnswer(response.events, response.head, type(response).operation)
            return encode_answer(kept), value
        except StructureError:  # the model asks for tools first: the answer has no value
            kept = KeptAnswer(response.events, response.head, type(response).operation)
            return encode_answer(kept), None
        except (TypeError, ValueError) as error:
            msg = f"The row's answer cannot be kept: it holds {error}."
            raise RowError(msg, code="unkeepable", hint="Run it without a journal.") from None

    def given(self, result: MapResult[Any], fingerprint: str) -> MapResult[Any]:
        """What is given where nothing was kept."""
        return result

    def live(self, result: MapResult[Any], data: bytes) -> MapResult[Any]:
        """What is given of a row that was kept just now."""
        return result

    def read(self, index: int, data: bytes) -> MapResult[Any]:
        """The result that was kept, under the index that it has now."""
        id_, seconds, money, attempts, value, body = _unpack(data)
        cost = None if money is None else Money(*money)
        if isinstance(body, Mapping):
            error = error_of(cast("Mapping[str, Any]", body))
            return MapResult(index, id_, None, error, seconds, cost, attempts, restored=True)
        response = self._response(body, value)
        return MapResult(index, id_, response, None, seconds, cost, attempts, restored=True)

    def _response(self, body: bytes, value: str | None) -> Response:
        from lamella._answer_codec import decode_answer

        kept = decode_answer(body, 0.0)
        response = _kind_of(kept.operation)(kept.events, kept.head)
        if self._returns is not None and value is not None:
            cast("Any", response).read_values_by(KeptValue(self._returns, value))
        return response


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder().decode


def _kind_of(operation: str) -> type[Response]:
    """The class of an operation's responses."""
    found = list(Response.__subclasses__())
    for kind in found:
        if kind.operation == operation:
            return kind
        found.extend(kind.__subclasses__())
    return Response


class KeptValue:
    """Reads the value of an answer from what was kept of it.

    Args:
        form: What it is to be.
        text: Its JSON.
    """

    __slots__ = ("_form", "_text")

    def __init__(self, form: Form[Any], text: str) -> None:
        self._form = form
        self._text = text

    @property
    def value(self) -> Any:
        """The value; a new object each time."""
        return self._form.decode(self._text)

    def begin(self) -> KeptValue:
        """Start at the first event: a kept answer is complete, and has its value at its end."""
        return self

    def feed(self, event: Event) -> Iterable[Any]:
        """The value, once."""
        from lamella._events import Finish

        return (self.value,) if isinstance(event, Finish) else ()
