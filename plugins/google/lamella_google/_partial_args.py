"""Arguments of a call that come in pieces, each with the path to its place.

Vertex AI sends them so if `streamFunctionCallArguments` is asked for: `$.address.street[0]` with a
piece of a text, a number, a truth value or null (RFC 9535, paths to one place only).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from lamella._errors import ProtocolError
from lamella.transports._wire_json import is_list, is_object, nonsense

_STEP: Final = re.compile(
    r"""\.(?P<name>[^.\[\]'"]+)|\[(?P<at>\d{1,6})\]|\['(?P<one>(?:[^'\\]|\\.)*)'\]"""
    r"""|\["(?P<two>(?:[^"\\]|\\.)*)"\]"""
)
_ESCAPED: Final = re.compile(r"\\(.)")
_MOST_PLACES: Final = 10_000
"""No list of arguments is longer; a larger index is nonsense."""


class PartialArguments:
    """The arguments of one call in the making."""

    __slots__ = ("_open", "_provider", "whole")

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._open: dict[str, list[str]] = {}
        self.whole: dict[str, Any] = {}

    def add(self, piece: Mapping[str, Any]) -> None:
        """Put one piece into its place; pieces of one text are joined.

        Raises:
            ProtocolError: If its path makes no sense.
        """
        path = piece.get("jsonPath")
        if not isinstance(path, str):
            raise self._nonsense("no path")
        if isinstance(piece.get("stringValue"), str):
            words = self._open.setdefault(path, [])
            words.append(piece["stringValue"])
            value: Any = "".join(words)
        elif "nullValue" in piece:
            value = None
        else:
            value = piece.get("boolValue", piece.get("numberValue"))
            if value is None:
                return  # the announcement of a value that is still to come
        self._put(self._steps(path), value)

    def text(self) -> str:
        """All of them as JSON."""
        return msgspec.json.encode(self.whole).decode()

    def _put(self, steps: list[str | int], value: Any) -> None:
        place: Any = self.whole
        for step, following in itertools.pairwise(steps):
            empty: Any = [] if isinstance(following, int) else {}
            inner = self._at(place, step)
            if inner is None:
                inner = empty
                self._set(place, step, inner)
            place = inner
        self._set(place, steps[-1], value)

    def _at(self, place: Any, step: str | int) -> Any:
        if is_list(place) and isinstance(step, int):
            return place[step] if step < len(place) else None
        return place.get(step) if is_object(place) and isinstance(step, str) else None

    def _set(self, place: Any, step: str | int, value: Any) -> None:
        if is_list(place) and isinstance(step, int):
            place.extend([None] * (step + 1 - len(place)))
            place[step] = value
        elif is_object(place) and isinstance(step, str):
            place[step] = value
        else:
            raise self._nonsense("a path through something else")

    def _steps(self, path: str) -> list[str | int]:
        steps: list[str | int] = []
        at = 1
        while at < len(path) and path[0] == "$":
            found = _STEP.match(path, at)
            if found is None:
                break
            at = found.end()
            index = found["at"]
            name = found["name"] or _ESCAPED.sub(r"\1", found["one"] or found["two"] or "")
            steps.append(name if index is None else int(index))
        too_far = any(isinstance(step, int) and step > _MOST_PLACES for step in steps)
        if not steps or at != len(path) or too_far:
            raise self._nonsense("a path that is none")
        return steps

    def _nonsense(self, found: str) -> ProtocolError:
        return nonsense("a piece of a call's arguments", found, provider=self._provider)
