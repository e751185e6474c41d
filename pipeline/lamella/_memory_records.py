"""Append-only records in memory: the newest of each stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeGuard

from lamella._errors import MisuseError
from lamella._fork_locks import fork_safe_lock


class _Stream:
    """Records by number and numbers by id, as JSON texts: small, and nobody can change them."""

    __slots__ = ("first", "ids", "last", "numbers", "texts")

    def __init__(self) -> None:
        self.first = 1
        self.last = 0
        self.texts: dict[int, str] = {}
        self.ids: dict[int, str] = {}
        self.numbers: dict[str, int] = {}


class MemoryRecords:
    """The memory default of `RecordStore`: thread-safe, for any number of event loops.

    It is bounded, so the oldest record of a full stream is dropped for a new one, and its id is
    forgotten with it. Numbers are never given twice, so a reader sees the gap; `dropped` counts.

    Args:
        max_records: How many records of a stream are kept; at least 1.
        max_streams: How many streams there may be; appending to one more raises MisuseError.
    """

    def __init__(self, *, max_records: int, max_streams: int = 1024) -> None:
        if max_records < 1 or max_streams < 1:
            raise ValueError(
                f"MemoryRecords: max_records {max_records!r} and max_streams {max_streams!r} must "
                "be at least 1."
            )
        self._max_records = max_records
        self._max_streams = max_streams
        self._lock = fork_safe_lock()
        self._streams: dict[str, _Stream] = {}

    async def append(self, stream: str, records: Sequence[tuple[str, Mapping[str, Any]]]) -> int:
        """Append (id, record) pairs; see `RecordStore.append`.

        Raises:
            MisuseError: If the stream is new and there are `max_streams` already.
        """
        texts = [(record_id, _json_text(record)) for record_id, record in records]
        if not texts:
            return 0
        new = 0
        with self._lock:
            kept = self._streams.get(stream)
            if kept is None:
                kept = self._begin(stream)
            for record_id, text in texts:
                if record_id in kept.numbers:
                    continue
                kept.last += 1
                kept.texts[kept.last] = text
                kept.ids[kept.last] = record_id
                kept.numbers[record_id] = kept.last
                new += 1
                if len(kept.texts) > self._max_records:
                    del kept.texts[kept.first]
                    del kept.numbers[kept.ids.pop(kept.first)]
                    kept.first += 1
        return new

    def read(self, stream: str, *, after: int = 0) -> AsyncIterator[tuple[int, Mapping[str, Any]]]:
        """The records above `after` in order; see `RecordStore.read`.

        Ends where the stream ends at that moment; what is appended meanwhile is read too.
        """
        return _Reader(self, stream, after)

    def dropped(self, stream: str) -> int:
        """How many records of the stream have been dropped to keep it bounded."""
        with self._lock:
            kept = self._streams.get(stream)
            return 0 if kept is None else kept.first - 1

    async def aclose(self) -> None:
        """Nothing is held open. What is kept stays, for others may use the same store."""

    def next_after(self, stream: str, after: int) -> tuple[int, str] | None:
        """Number and JSON text of the first record above `after`; None at the end."""
        with self._lock:
            kept = self._streams.get(stream)
            if kept is None:
                return None
            number = max(after + 1, kept.first)
            return None if number > kept.last else (number, kept.texts[number])

    def _begin(self, stream: str) -> _Stream:
        if len(self._streams) >= self._max_streams:
            raise MisuseError(
                f"MemoryRecords: stream {stream!r} would be one more than max_streams "
                f"{self._max_streams}.",
                hint="Use fewer streams with a field that tells their records apart, or a store "
                "that keeps them outside memory.",
            )
        new = self._streams[stream] = _Stream()
        return new


class _Reader:
    """An iterator and no generator: one that is dropped half-way leaves nothing to finalise."""

    __slots__ = ("_after", "_records", "_stream")

    def __init__(self, records: MemoryRecords, stream: str, after: int) -> None:
        self._records = records
        self._stream = stream
        self._after = after

    def __aiter__(self) -> _Reader:
        return self

    async def __anext__(self) -> tuple[int, Mapping[str, Any]]:
        found = self._records.next_after(self._stream, self._after)
        if found is None:
            raise StopAsyncIteration
        self._after, text = found
        return self._after, json.loads(text)


def _json_text(record: Mapping[str, Any]) -> str:
    try:
        _check_keys(record)
        return json.dumps(dict(record), allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        # The record's content is left out of the message: it may be personal.
        raise type(error)(
            f"RecordStore.append: a record holds what JSON cannot ({error}); give None, bool, int, "
            "finite float, str, lists, and mappings with str keys."
        ) from None


def _check_keys(value: object) -> None:
    """Refuse keys that JSON would turn into text without a word."""
    if _is_mapping(value):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a key of type {type(key).__name__}")
            _check_keys(item)
    elif _is_list(value):
        for item in value:
            _check_keys(item)


def _plain(value: object) -> dict[Any, Any]:
    """Mappings that are no dict, inside a record."""
    if _is_mapping(value):
        return dict(value)
    raise TypeError(f"a value of type {type(value).__name__}")


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (list, tuple))
