"""The values of an answer as it comes, and what it amounts to in the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from lamella import StructureError
from lamella._chat_answer import ChatAnswer
from lamella._events import Event, Finish, TextDelta, Turn
from lamella._partial_json import ClosedItems
from lamella_middlewares.structured._failures import failure

if TYPE_CHECKING:
    from lamella._typed_forms import Form
    from lamella_middlewares.structured._verdicts import Verdict

_NONE_YET: Final = object()


class Reader:
    """What turns one answer into values; its value is known once the answer is complete.

    Args:
        form: What was asked for.
    """

    def __init__(self, form: Form[Any]) -> None:
        self.form = form
        self._value: Any = None
        self._error: StructureError | None = None

    def settle(self, verdict: Verdict, answer: ChatAnswer) -> None:
        """Take the verdict on the complete answer."""
        self._value = verdict.value
        self._error = None if verdict.good else failure(self.form, answer, verdict)

    @property
    def value(self) -> Any:
        """What the complete answer amounts to.

        Raises:
            StructureError: If the model asks for the caller's tools first.
        """
        if self._error is not None:
            raise self._error.copy()
        return self._value

    def begin(self) -> Decoder:
        """Start at the first event."""
        return Decoder(self)


class Decoder:
    """One reader's way through the events of an answer."""

    __slots__ = ("_given", "_growing", "_items", "_last", "_reader")

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._growing = reader.form.growing()
        self._items = isinstance(self._growing, ClosedItems)  # each is given, also twice the same
        self._given = 0
        self._last: Any = _NONE_YET

    def feed(self, event: Event) -> Iterable[Any]:
        """The values that are there now and were not before."""
        if isinstance(event, TextDelta):
            return self._new(self._growing.feed(event.text)) if event.choice == 0 else ()
        if isinstance(event, Turn):  # what came before it was not the answer
            self._growing = self._reader.form.growing()
            self._given, self._last = 0, _NONE_YET
        elif isinstance(event, Finish):
            return self._rest()
        return ()

    def _new(self, values: list[Any]) -> list[Any]:
        """What has not been given: more text may be no more of the value, as `[]` that was left."""
        if not values:
            return values
        if not self._items and _same(self._last, values[-1]):
            return []
        self._given += len(values)
        self._last = values[-1]
        return values

    def _rest(self) -> Iterable[Any]:
        """What the complete answer has besides; where it had to be mended, that may be all."""
        value = self._reader.value
        if self._items:
            rest: list[Any] = value[self._given :]
            return rest
        return () if _same(self._last, value) else (value,)


def _same(one: Any, other: Any) -> bool:
    """Whether a value has been given already; if the program's type cannot tell, it has not."""
    try:
        return one is not _NONE_YET and bool(one == other)
    except Exception:  # noqa: BLE001 - of somebody else's __eq__, which may raise anything
        return False
