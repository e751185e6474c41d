"""Whether a regular expression can take a backtracking engine exponential time.

It can where a loop may be gone round in two ways by the same text: (a+)+ reads "aaaa" in as many
ways as there are to cut it up, and all are tried before giving up. So the expression is made an
automaton of its characters (Glushkov), in which each way is a path, and two paths are walked side
by side: if from one place both can come back to it with the same text, having been apart, there is
such a loop (Weber and Seidl, "On the degree of ambiguity of finite automata", 1991: criterion EDA).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, TypeAlias, TypeVar

import attrs

N = TypeVar("N", bound=Hashable)

Ranges: TypeAlias = tuple[tuple[int, int], ...]

_LAST: Final = 0x10FFFF
_MOST_PLACES: Final = 5_000
_WRITTEN_OUT: Final = 500
_MOST_STEPS: Final = 1_000_000
_FEW: Final = 8
"""Counted repeats up to here are written out; above, they count as loops."""

_CATEGORIES: Final[dict[str, Ranges]] = {
    "DIGIT": ((48, 57),),
    "SPACE": ((9, 13), (32, 32)),
    "WORD": ((48, 57), (65, 90), (95, 95), (97, 122)),
}


def ambiguity(expression: str, flags: int) -> str | None:
    """Why an expression may take exponential time; None if it cannot.

    Args:
        expression: One that `re` compiles.
        flags: Of `re`.
    """
    parser: Any = importlib.import_module("re._parser")
    automaton = _Automaton(parser.parse(expression, flags))
    try:
        automaton.build()
        return automaton.loops_twice()
    except _Refused as refusal:
        return str(refusal)


class _Refused(Exception):
    """What is wrong with the expression."""


Ways: TypeAlias = Mapping[int, int]
"""Places, and in how many ways one gets there: 1, or 2 for several."""


@attrs.frozen
class _Piece:
    """A part of an expression: where it may begin and end, and in how many ways it may be empty."""

    first: Ways = attrs.field(factory=dict[int, int])
    last: Ways = attrs.field(factory=dict[int, int])
    empty: int = 1


class _Automaton:
    """The places of an expression, one for each character that it reads."""

    def __init__(self, parsed: Any) -> None:
        self._parsed = parsed
        self._ignore_case = bool(parsed.state.flags & 2)
        self._reads: list[Ranges] = []
        self._follow: list[dict[int, int]] = []  # to which place, in how many ways
        self._steps = 0

    def build(self) -> None:
        """Makes the automaton."""
        self._sequence(self._parsed)

    # --- from the parsed expression ------------------------------------------------------------

    def _sequence(self, items: Iterable[tuple[Any, Any]]) -> _Piece:
        whole = _Piece()
        for operation, argument in items:
            whole = self._then(whole, self._piece(str(operation), argument))
        return whole

    def _piece(self, operation: str, argument: Any) -> _Piece:
        if operation in {"MAX_REPEAT", "MIN_REPEAT"}:
            least, most, body = argument
            return self._repeat(int(least), int(most), body)
        if operation == "SUBPATTERN":
            return self._sequence(argument[3])
        if operation == "BRANCH":
            pieces = [self._sequence(branch) for branch in argument[1]]
            return _Piece(
                _all([piece.first for piece in pieces]),
                _all([piece.last for piece in pieces]),
                min(2, sum(piece.empty for piece in pieces)),
            )
        if operation == "AT":
            return _Piece()
        if operation in {"LITERAL", "NOT_LITERAL", "IN", "ANY", "RANGE", "CATEGORY"}:
            return self._place(self._ranges(operation, argument))
        raise _Refused(f"it uses {operation.lower().replace('_', ' ')}, which RE2 has not")

    def _place(self, reads: Ranges) -> _Piece:
        if len(self._reads) >= _MOST_PLACES:
            raise _Refused(f"it is too long to be checked (over {_MOST_PLACES} characters)")
        self._reads.append(reads)
        self._follow.append({})
        place = {len(self._reads) - 1: 1}
        return _Piece(place, place, empty=0)

    def _then(self, one: _Piece, other: _Piece) -> _Piece:
        self._join(one.last, other.first)
        return _Piece(
            _all([one.first, *[other.first] * one.empty]),
            _all([other.last, *[one.last] * other.empty]),
            min(2, one.empty * other.empty),
        )

    def _join(self, last: Ways, first: Ways) -> None:
        for place, ways in last.items():
            follow = self._follow[place]
            for following, more in first.items():
                follow[following] = min(2, follow.get(following, 0) + ways * more)

    def _repeat(self, least: int, most: int, body: Any) -> _Piece:
        if most == 0:
            return _Piece()
        if most <= _FEW and len(self._reads) + most * len(body) < _WRITTEN_OUT:
            whole = _Piece()
            for _ in range(least):
                whole = self._then(whole, self._sequence(body))
            return self._then(whole, self._optional(most - least, body))
        piece = self._sequence(body)
        if piece.empty and least > 1:
            raise _Refused("it repeats something that may be empty a number of times")
        self._join(piece.last, piece.first)
        return attrs.evolve(piece, empty=min(2, piece.empty + (least == 0)))

    def _optional(self, count: int, body: Any) -> _Piece:
        """(body (body (body)?)?)?"""
        whole = _Piece()
        for _ in range(count):
            inner = self._then(self._sequence(body), whole)
            whole = attrs.evolve(inner, empty=min(2, inner.empty + 1))
        return whole

    # --- what a place reads ----------------------------------------------------------------------

    def _ranges(self, operation: str, argument: Any) -> Ranges:
        if operation == "ANY":
            return _without(((10, 10),))
        if operation == "NOT_LITERAL":
            return _without(self._cased([(argument, argument)]))
        if operation == "LITERAL":
            return self._cased([(argument, argument)])
        if operation == "RANGE":
            return self._cased([argument])
        if operation == "CATEGORY":
            name = str(argument).removeprefix("CATEGORY_")
            known = _CATEGORIES.get(name.removeprefix("NOT_"))
            if known is None:
                raise _Refused(f"it uses {name.lower()}, which is not known here")
            return _without(known) if name.startswith("NOT_") else known
        items = [(str(kind), value) for kind, value in argument]
        negated = bool(items) and items[0][0] == "NEGATE"
        found = [
            one for kind, value in items if kind != "NEGATE" for one in self._ranges(kind, value)
        ]
        merged = _merged(found)
        return _without(merged) if negated else merged

    def _cased(self, ranges: list[tuple[int, int]]) -> Ranges:
        if not self._ignore_case:
            return _merged(ranges)
        both = list(ranges)
        for low, high in ranges:
            if high - low > 512:  # a range of scripts: letters of any case
                both.append((0, _LAST))
                continue
            for code in range(low, high + 1):
                for other in (chr(code).lower(), chr(code).upper(), chr(code).casefold()):
                    both += [(ord(one), ord(one)) for one in other]
        return _merged(both)

    # --- two walks side by side ------------------------------------------------------------------

    def loops_twice(self) -> str | None:
        """Whether a loop may be gone round in two ways by one text."""
        loops: _Loops[int] = _Loops(lambda place: list(self._follow[place]))
        loop_of: dict[int, int] = {}
        for number, places in enumerate(loops.found(range(len(self._reads)))):
            loop_of.update(dict.fromkeys(places, number))
        for place, number in loop_of.items():
            for following, ways in self._follow[place].items():
                if ways > 1 and loop_of.get(following) == number:
                    return "a repeat stands directly within a repeat"
        pairs = _Loops(lambda pair: self._together(pair, loop_of))
        for loop in pairs.found([(place, place) for place in loop_of]):
            if any(one == other for one, other in loop) and any(a != b for a, b in loop):
                return "a text can be read in two ways within a repeat"
        return None

    def _together(self, pair: tuple[int, int], loop_of: dict[int, int]) -> list[tuple[int, int]]:
        """Where two walks may be after one further character."""
        within = loop_of[pair[0]]
        one, other = [
            [place for place in self._follow[at] if loop_of.get(place) == within] for at in pair
        ]
        self._steps += 1 + len(one) * len(other)
        if self._steps > _MOST_STEPS:
            raise _Refused("it is too complex to be checked")
        return [(a, b) for a in one for b in other if _meet(self._reads[a], self._reads[b])]


class _Loops(Generic[N]):
    """Where one can walk on for ever: the strongly connected components of a graph (Tarjan)."""

    def __init__(self, following: Callable[[N], list[N]]) -> None:
        self._following = following
        self._index: dict[N, int] = {}
        self._low: dict[N, int] = {}
        self._path: list[N] = []
        self._on_path: set[N] = set()
        self._work: list[tuple[N, list[N]]] = []

    def found(self, starts: Iterable[N]) -> Iterator[list[N]]:
        """All that can be reached."""
        for start in starts:
            if start not in self._index:
                self._enter(start)
            while self._work:
                if not self._further():
                    yield from self._leave()

    def _enter(self, node: N) -> None:
        self._index[node] = self._low[node] = len(self._index)
        self._path.append(node)
        self._on_path.add(node)
        self._work.append((node, self._following(node)))

    def _further(self) -> bool:
        """Goes to a node that was not seen; False if there is none from here."""
        node, left = self._work[-1]
        while left:
            other = left.pop()
            if other not in self._index:
                self._enter(other)
                return True
            if other in self._on_path:
                self._low[node] = min(self._low[node], self._index[other])
        return False

    def _leave(self) -> Iterator[list[N]]:
        node, _ = self._work.pop()
        if self._work:
            above = self._work[-1][0]
            self._low[above] = min(self._low[above], self._low[node])
        if self._low[node] != self._index[node]:
            return
        component: list[N] = []
        while not component or component[-1] != node:
            component.append(self._path.pop())
        self._on_path.difference_update(component)
        if len(component) > 1 or node in self._following(node):
            yield component


def _all(tables: Iterable[Ways]) -> Ways:
    """Places of several parts: who is in two of them is got to in several ways."""
    found: dict[int, int] = {}
    for table in tables:
        for place, ways in table.items():
            found[place] = min(2, found.get(place, 0) + ways)
    return found


def _merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _without(ranges: Ranges) -> Ranges:
    left: list[tuple[int, int]] = []
    after = 0
    for low, high in ranges:
        if low > after:
            left.append((after, low - 1))
        after = high + 1
    if after <= _LAST:
        left.append((after, _LAST))
    return tuple(left)


def _meet(one: Ranges, other: Ranges) -> bool:
    """Whether there is a character in both."""
    a = b = 0
    while a < len(one) and b < len(other):
        if one[a][1] < other[b][0]:
            a += 1
        elif other[b][1] < one[a][0]:
            b += 1
        else:
            return True
    return False
