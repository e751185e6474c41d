"""The values of an answer as it comes, and what it amounts to in the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lamella import StructureError
from lamella._chat_answer import ChatAnswer
from lamella._events import Event, Finish
from lamella_middlewares.structured._failures import failure

if TYPE_CHECKING:
    from lamella._typed_forms import Form
    from lamella_middlewares.structured._verdicts import Verdict


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

    __slots__ = ("_reader",)

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def feed(self, event: Event) -> Iterable[Any]:
        """The values that are there now and were not before."""
        if isinstance(event, Finish):
            value = self._reader.value
            return value if self._reader.form.item() is not None else (value,)
        return ()
