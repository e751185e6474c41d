"""A trace read from its JSON form. Every mistake says where it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import attrs

from lamella._attempts import Attempt
from lamella._money import Money
from lamella._outcomes import Outcome
from lamella._trace import Note, Span
from lamella._trace_forms import VERSION
from lamella._trace_records import AdoptedTrace, TraceRecord
from lamella._usage import Usage

if TYPE_CHECKING:
    R = TypeVar("R", bound=TraceRecord)

T = TypeVar("T")

_DEEPEST: Final = 50
_USAGE: Final = {field.name: field for field in attrs.fields(Usage) if field.name != "estimated"}
_TABLES: Final = frozenset({"cache_write", "tool_units"})


class _Table:
    """A JSON object that is taken apart, and where it stands."""

    def __init__(self, value: object, path: str, depth: int = 0) -> None:
        if not isinstance(value, Mapping):
            raise _wrong(path, value, "an object")
        if depth > _DEEPEST:
            msg = f"This is no trace: {path} is nested too deeply."
            raise ValueError(msg)
        self._values = cast("Mapping[str, Any]", value)
        self._path = path
        self.depth = depth

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _take(self, name: str, right: Callable[[Any], bool], want: str, default: Any) -> Any:
        value = self._values.get(name)
        if value is None:
            if default is _NEEDED:
                raise _wrong(self._at(name), value, want)
            return default
        if not right(value):
            raise _wrong(self._at(name), value, want)
        return value

    def text(self, name: str, default: Any = None) -> Any:
        return self._take(name, lambda value: isinstance(value, str), "a text", default)

    def number(self, name: str, default: Any = None) -> Any:
        found = self._take(name, _is_number, "a number of seconds", default)
        return found if found is default else float(found)

    def whole(self, name: str, default: Any = None) -> Any:
        return self._take(name, _is_whole, "a whole number", default)

    def flag(self, name: str) -> bool:
        return self._take(name, _is_flag, "true or false", None) is True

    def table(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._take(name, _is_table, "an object", {})
        return found

    def inner(self, name: str, read: Callable[[_Table], T]) -> T | None:
        value = self._values.get(name)
        if value is None:
            return None
        return read(_Table(value, self._at(name), self.depth + 1))

    def each(self, name: str, read: Callable[[_Table], T]) -> tuple[T, ...]:
        path = self._at(name)
        listed = self._take(name, lambda value: isinstance(value, list | tuple), "a list", ())
        tables = [
            _Table(item, f"{path}[{place}]", self.depth + 1) for place, item in enumerate(listed)
        ]
        return tuple([read(table) for table in tables])

    def outcome(self) -> Outcome | None:
        word = self.text("outcome")
        if word is None:
            return None
        try:
            return Outcome(word)
        except ValueError:
            want = f"one of {', '.join(Outcome)}"
            raise _wrong(self._at("outcome"), word, want) from None

    def made(self, make: Callable[..., T], **fields: Any) -> T:
        """An object that may still object to its values."""
        try:
            return make(**fields)
        except (TypeError, ValueError) as error:
            msg = f"This is no trace: {self._path}: {error}"
            raise ValueError(msg) from None


_NEEDED: Final = object()


def record_from(cls: type[R], form: Mapping[str, Any]) -> R:
    """See `TraceRecord.from_dict`."""
    table = _Table(form, "")
    version = table.whole("version", _NEEDED)
    if version > VERSION:
        msg = (
            f"This trace is of version {version}, and this Lamella reads those up to {VERSION}. "
            "Read it with the Lamella that has written it, or a newer one."
        )
        raise ValueError(msg)
    return _record(table, cls)


def _record(table: _Table, cls: type[R]) -> R:
    return cls(
        call_id=table.text("call_id", _NEEDED),
        parent_id=table.text("parent_id"),
        started=table.number("started", _NEEDED),
        seconds=table.number("seconds", _NEEDED),
        outcome=table.outcome(),
        attempts=table.each("attempts", _attempt),
        notes=table.each("notes", _note),
        spans=table.each("layers", _span),
        adopted=table.each("adopted", _adopted),
        content=table.table("content"),
    )


def _adopted(table: _Table) -> AdoptedTrace:
    call = table.inner("call", lambda inner: _record(inner, TraceRecord))
    return AdoptedTrace(
        branch=table.text("branch", ""),
        at=table.number("at", _NEEDED),
        began=table.number("began", _NEEDED),
        call=call if call is not None else table.text("call", _NEEDED),
    )


def _attempt(table: _Table) -> Attempt:
    return Attempt(
        index=table.whole("index", _NEEDED),
        branch=table.text("branch", ""),
        provider=table.text("provider", _NEEDED),
        model=table.text("model"),
        start=table.number("start", _NEEDED),
        first_event=table.number("first_event"),
        end=table.number("end"),
        outcome=table.outcome(),
        committed=table.flag("committed"),
        usage=table.inner("usage", _usage),
        cost=table.inner("cost", _money),
        cause=table.text("cause"),
        status=table.whole("status"),
        request_id=table.text("request_id"),
        substitute=table.flag("substitute"),
        asked_by=table.text("asked_by", ""),
    )


def _note(table: _Table) -> Note:
    return Note(
        layer=table.text("layer", ""),
        name=table.text("name", _NEEDED),
        fields=table.table("fields"),
        at=table.number("at", _NEEDED),
    )


def _span(table: _Table) -> Span:
    return Span(
        layer=table.text("layer", _NEEDED),
        depth=table.whole("depth", _NEEDED),
        start=table.number("start", _NEEDED),
        end=table.number("end", _NEEDED),
        error=table.text("error"),
        attempt=table.whole("attempt"),
    )


def _money(table: _Table) -> Money:
    return Money(table.whole("nano", _NEEDED), table.text("currency", _NEEDED))


def _usage(table: _Table) -> Usage:
    parts = table.inner("parts", _parts) or {}
    return table.made(Usage, estimated=table.flag("estimated"), **parts)


def _parts(table: _Table) -> dict[str, Any]:
    """The parts of usage that this version knows."""
    found: dict[str, Any] = {}
    for name in _USAGE:
        if name in _TABLES:
            units = table.table(name)
            found[name] = {unit: _Table(units, name).whole(unit, 0) for unit in units}
        else:
            found[name] = table.whole(name, 0)
    return found


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _wrong(path: str, value: object, want: str) -> ValueError:
    shown = "missing" if value is None else repr(value)[:60]
    return ValueError(f"This is no trace: {path or 'it'} is {shown}, where {want} is needed.")
