"""What can go wrong with an answer of the embedded provider: faults of bytes and faults of events.

`Faults` speaks of bytes; this adds the verbs that need to know what an event is. Both are written
in one text: ``status=429; retry-after=2``, ``truncate=5``, ``reset``, ``error=overloaded_error``.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, repeat
from typing import Any, Self, TypeAlias

import attrs

from lamella.testing import _fault_text as fault_text
from lamella.testing._faults import Faults
from lamella.testing._plan import Plan

_NO_FAULTS = Faults()
_NEVER: Any = object()


def _number(verb: str) -> Any:
    def check(_: object, __: object, value: int | None) -> None:
        if value is not None and value < 0:
            raise ValueError(f"MockFaults({verb}={value!r}): events count from 0")

    return attrs.field(default=None, validator=check, metadata={"kind": "integer"})


def _flag() -> Any:
    return attrs.field(default=False, metadata={"kind": "flag"})


def _one_of(*words: str) -> Any:
    def check(_: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
        if value is not None and value not in words:
            raise ValueError(
                f"MockFaults({attribute.name}={value!r}): it is one of {', '.join(words)}"
            )

    return attrs.field(default=None, validator=check, metadata={"kind": "text"})


@attrs.frozen(kw_only=True)
class MockFaults:
    """Everything that goes wrong with one answer; the default is nothing.

    Events count from 0, as they are sent: in a stream of the chat API event 0 is the one that says
    who speaks. An answer that is not streamed is one piece; `truncate` and `reset` then cut it off
    in its middle.

    Attributes:
        wire: What goes wrong with the bytes.
        truncate: After so many events the answer stops, without the signal that it is over. None
            never stops it.
        reset: After so many events the connection is reset. The bare verb ``reset`` resets it
            instead of answering, as ``reset_before_headers`` does.
        error_at: The provider's error comes instead of this event, with status 200, and ends the
            answer.
        error: The code of that error; alone, it comes instead of the first event. With a `status`
            of 300 or more it is the code of that answer.
        finish: The reason why the answer ends, instead of its own; ``none`` leaves it out.
        usage: ``none`` leaves out what was consumed, ``zero`` says nothing was, ``twice`` says it
            twice, ``with_finish`` says it together with the reason.
        no_done: Leave out ``[DONE]``.
        unknown: Mix in an event of a kind that nobody knows, and unknown fields.
        pings: A comment before each event, as keep-alives are.
        ids: Each event has an ``id:`` and a ``retry:`` line.
        bom: The stream begins with a byte order mark.
        no_space: ``data:`` is not followed by a space.
        multiline: The data of each event are spread over several lines.
        line_end: How lines end: ``lf``, ``crlf`` or ``cr``.

    Raises:
        ValueError: If a number is below 0 or a word is none of the known ones.
    """

    wire: Faults = _NO_FAULTS
    truncate: int | None = _number("truncate")
    reset: int | None = _number("reset")
    error_at: int | None = _number("error_at")
    error: str | None = attrs.field(default=None, metadata={"kind": "text"})
    finish: str | None = attrs.field(default=None, metadata={"kind": "text"})
    usage: str | None = _one_of("none", "zero", "twice", "with_finish")
    no_done: bool = _flag()
    unknown: bool = _flag()
    pings: bool = _flag()
    ids: bool = _flag()
    bom: bool = _flag()
    no_space: bool = _flag()
    multiline: bool = _flag()
    line_end: str | None = _one_of("lf", "crlf", "cr")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one step: the verbs of `MockFaults` and of `Faults`, mixed.

        Raises:
            ValueError: If a verb is unknown (the known ones are listed) or a value does not fit.
        """
        return cls._of_items(list(fault_text.items(text)), text)

    @classmethod
    def _of_items(cls, items: list[fault_text.Item], text: str) -> Self:
        own: dict[str, Any] = {}
        wire: list[str] = []
        for item in items:
            if item.end == "|":
                raise ValueError(f"One step has no '|' in it ({text!r}); give several to script=")
            verb = item.name.lower().replace("-", "_")
            if verb == "reset" and item.value is None:
                wire.append("reset_before_headers")
            elif verb in _KINDS:
                if verb in own:
                    raise ValueError(f"Faults verb {verb!r} is given twice; keep one")
                own[verb] = fault_text.read(verb, _KINDS[verb], item.value)
            elif verb in _WIRE or "-" in item.name or item.name.lower().startswith("header."):
                wire.append(_item_text(item))
            else:
                raise fault_text.unknown(item.name, (*_KINDS, *_WIRE))
        return cls(wire=Faults.parse("; ".join(wire)), **own)

    @classmethod
    def of(cls, given: MockFaults | Faults | str | None) -> MockFaults | None:
        """One step from what a caller may give; ``ok``, an empty text and None are no faults."""
        if given is None or isinstance(given, MockFaults):
            return given
        if isinstance(given, Faults):
            return cls(wire=given)
        return None if given.strip() in {"", "ok"} else cls.parse(given)

    def active(self) -> dict[str, Any]:
        """The verbs of events that are used, by name."""
        return {
            field.name: value
            for field in attrs.fields(type(self))
            if field.name != "wire" and (value := getattr(self, field.name)) != field.default
        }

    def __str__(self) -> str:
        """The text that `parse` reads back; empty when there are no faults."""
        parts = [str(self.wire)] if self.wire.active() else []
        for name, value in self.active().items():
            texts = fault_text.write(value)
            parts += [name if each is None else f"{name}={each}" for each in texts]
        return "; ".join(parts)

    @property
    def failing_event(self) -> int | None:
        """The event in whose place an error comes; None if none does."""
        return 0 if self.error_at is None and self.error is not None else self.error_at


_KINDS: dict[str, str] = {
    field.name: field.metadata["kind"] for field in attrs.fields(MockFaults) if field.metadata
}
_WIRE = sorted({field.name for field in attrs.fields(Faults)} - {"headers"})

Step: TypeAlias = MockFaults | Faults | str | None
"""What may be given as the faults of one request: a text, or None for none."""

Steps: TypeAlias = "Plan | str | Iterable[Step] | MockFaults | Faults"
"""What may be given for one request after the other; a text separates them by bars."""


def _item_text(item: fault_text.Item) -> str:
    return item.name if item.value is None else f"{item.name}={item.value}"


def split_steps(text: str) -> list[MockFaults | None]:
    """The steps that stand between bars in a text: ``status=429; retry-after=1 | ok | reset``.

    Raises:
        ValueError: If a step is not the text of faults.
    """
    steps: list[MockFaults | None] = []
    current: list[str] = []
    for item in fault_text.items(text):
        current.append(_item_text(item))
        if item.end == "|":
            steps.append(MockFaults.of("; ".join(current)))
            current = []
    if current:
        steps.append(MockFaults.of("; ".join(current)))
    return steps


class Script:
    """Which faults meet which request: some in turn, then the same for all.

    Args:
        script: The faults of the first request, the second, and so on.
        faults: What every later request meets. A text or faults are for all of them; several, in
            whatever form, come in turn after the script.

    Raises:
        ValueError: If a text is not that of faults.
    """

    def __init__(self, script: Steps | None = None, faults: Steps | None = None) -> None:
        always = _always(faults)
        in_turn = [script, None if always is not None else faults]
        steps: list[Iterable[Step]] = [_in_turn(given) for given in in_turn if given is not None]
        self._draw = chain(*steps, repeat(always)).__next__

    def next(self) -> MockFaults | None:
        """The faults of the next request; None for none. Never runs out."""
        return MockFaults.of(self._draw())


def _always(given: Steps | None) -> MockFaults | None:
    if isinstance(given, str):
        steps = split_steps(given)
        return steps[0] if len(steps) == 1 else None
    return MockFaults.of(given) if isinstance(given, MockFaults | Faults) else None


def _in_turn(given: Steps) -> Iterable[Step]:
    if isinstance(given, str):
        return split_steps(given)
    if isinstance(given, MockFaults | Faults):
        return [given]
    if isinstance(given, Plan):
        return iter(given.next, _NEVER)
    if isinstance(given, list | tuple):  # mistakes are told here and not at the request
        return [MockFaults.of(step) for step in given]
    return given
