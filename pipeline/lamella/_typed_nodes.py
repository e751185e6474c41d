"""What a type reads from JSON: one node for each type, in a tree with shared records.

A node reads a plain value, as a JSON parser gives it, and makes the typed one. What does not fit is
raised as a `Misfit`; arrays and objects go on reading their other items, so that every problem is
found in one pass. A node also says its JSON Schema, and in words what it expects.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs
import msgspec

from lamella._schema_book import SchemaBook
from lamella._typed_problems import Findings, Key, Misfit, misfit

KINDS: Final = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
"""The kinds of JSON; an `integer` is a number that is written without a fraction."""

NUMBERS: Final = frozenset({"integer", "number"})

Tag = tuple[bool, Any]
"""A scalar of JSON, by which it equals only what JSON has equal: 1 is 1.0, and true is neither."""


def tag_of(value: Any) -> Tag:
    """A scalar, to compare it with others."""
    return value.__class__ is bool, value


class Node:
    """A type, as JSON sees it.

    Attributes:
        kinds: Which kinds of JSON it can be read from.
        rank: Its turn among the members of a union that take the same kind; the pickiest first.
        words: What it expects, in a few words.
    """

    __slots__ = ()
    kinds: frozenset[str] = KINDS
    rank: int = 0
    words: str = "value"

    def read(self, value: Any) -> Any:
        """The typed value of a plain one.

        Raises:
            Misfit: If it does not fit.
        """
        raise NotImplementedError

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """Its JSON Schema; records stand in the book and are referred to."""
        raise NotImplementedError


class Anything(Node):
    """`Any`: the plain value as it is."""

    __slots__ = ()
    rank = 9
    words = "any value"

    def read(self, value: Any) -> Any:
        """The value."""
        return value

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """A schema that takes everything."""
        return {}


@attrs.frozen
class Bounds:
    """How many items an array or a mapping may have; None is no bound."""

    least: int | None = None
    most: int | None = None

    def check(self, value: Collection[Any], words: str) -> None:
        """Refuse a value with fewer or more.

        Raises:
            Misfit: If it has.
        """
        size = len(value)
        if (self.least is not None and size < self.least) or (
            self.most is not None and size > self.most
        ):
            raise misfit(words, value, ("array", "object"))

    def keywords(self, what: str) -> dict[str, int]:
        """As keywords of a schema: `what` is `Items` or `Properties`."""
        pairs = (("min" + what, self.least), ("max" + what, self.most))
        return {name: bound for name, bound in pairs if bound is not None}


NO_BOUNDS: Final = Bounds()


class Array(Node):
    """`list`, `set`, `frozenset`, and `tuple[X, ...]`."""

    __slots__ = ("_bounds", "_item", "_make", "_unique", "words")
    kinds = frozenset({"array"})

    def __init__(self, item: Node, make: Callable[[list[Any]], Any], bounds: Bounds) -> None:
        self._item = item
        self._make = make
        self._bounds = bounds
        self._unique = make in {set, frozenset}
        self.words = " ".join(["array", *_sizes(bounds)])

    @property
    def item(self) -> Node:
        """What each of them is."""
        return self._item

    @property
    def bounds(self) -> Bounds:
        """How many there may be."""
        return self._bounds

    def read(self, value: Any) -> Any:
        """The items, each read."""
        if value.__class__ is not list:
            raise misfit(self.words, value)
        self._bounds.check(value, self.words)
        read = self._item.read
        items: list[Any] = []
        findings: Findings | None = None
        for place, each in enumerate(value):
            try:
                items.append(read(each))
            except Misfit as wrong:
                findings = findings or Findings()
                findings.add(place, wrong)
        if findings is not None:
            raise Misfit(findings.problems)
        try:
            return items if self._make is list else self._make(items)
        except TypeError:  # a set of what has no hash
            raise misfit(self.words, value, self.kinds, "its items cannot stand in a set") from None

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """Of an array of such items."""
        found = {
            "type": "array",
            "items": self._item.schema(book),
            **self._bounds.keywords("Items"),
        }
        if self._unique:
            found["uniqueItems"] = True
        return found


class Row(Node):
    """`tuple[X, Y]`: an array of fixed length."""

    __slots__ = ("_items", "words")
    kinds = frozenset({"array"})

    def __init__(self, items: Sequence[Node]) -> None:
        self._items = tuple(items)
        self.words = f"array of {len(self._items)} items"

    def read(self, value: Any) -> tuple[Any, ...]:
        """The items, each read by its own type."""
        if value.__class__ is not list or len(value) != len(self._items):
            raise misfit(self.words, value, self.kinds)
        items: list[Any] = []
        findings = Findings()
        for place, (node, each) in enumerate(zip(self._items, value, strict=True)):
            try:
                items.append(node.read(each))
            except Misfit as wrong:
                findings.add(place, wrong)
        if findings.problems:
            raise Misfit(findings.problems)
        return tuple(items)

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """Of an array whose items have types of their own."""
        size = len(self._items)
        fixed = {"type": "array", "minItems": size, "maxItems": size, "items": False}
        if not size:
            return fixed
        return {**fixed, "prefixItems": [node.schema(book) for node in self._items]}


class Map(Node):
    """`dict[K, V]`: an object with any keys."""

    __slots__ = ("_bounds", "_key", "_value", "words")
    kinds = frozenset({"object"})
    rank = 1

    def __init__(self, key: Node | None, value: Node, bounds: Bounds) -> None:
        self._key = key
        self._value = value
        self._bounds = bounds
        self.words = " ".join(["object", *_sizes(bounds, "properties")])

    def read(self, value: Any) -> dict[Any, Any]:
        """The values, each read, by their keys."""
        if value.__class__ is not dict:
            raise misfit(self.words, value)
        self._bounds.check(value, self.words)
        found: dict[Any, Any] = {}
        findings = Findings()
        key, read = self._key, self._value.read
        for name, each in value.items():
            try:
                typed = read(each)
                place = name if key is None else _read_key(key, name)
                if place in found:
                    raise misfit("a key that no other equals", name, ("string",))
                found[place] = typed
            except Misfit as wrong:
                findings.add(Key(name), wrong)
        if findings.problems:
            raise Misfit(findings.problems)
        return found

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """Of an object with any names."""
        found: dict[str, Any] = {"type": "object", **self._bounds.keywords("Properties")}
        values = self._value.schema(book)
        if values:
            found["additionalProperties"] = values
        if self._key is not None:
            names = self._key.schema(book)
            if names.get("type") == "string":
                found["propertyNames"] = names
        return found


class Described(Node):
    """A node with words of the program about it."""

    __slots__ = ("_keywords", "inner")

    def __init__(self, inner: Node, keywords: Mapping[str, Any]) -> None:
        self.inner = inner
        self._keywords = dict(keywords)

    @property
    def kinds(self) -> frozenset[str]:  # type: ignore[override]
        """As the node in it: which may only know them when all nodes are there."""
        return self.inner.kinds

    @property
    def rank(self) -> int:  # type: ignore[override]
        """As the node in it."""
        return self.inner.rank

    @property
    def words(self) -> str:  # type: ignore[override]
        """As the node in it."""
        return self.inner.words

    def read(self, value: Any) -> Any:
        """As the node in it."""
        return self.inner.read(value)

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """As the node in it, with the words."""
        return {**self.inner.schema(book), **self._keywords}


class Named(Node):
    """A type alias, which may refer to itself."""

    __slots__ = ("inner", "name", "words")

    def __init__(self, name: str) -> None:
        self.name = self.words = name
        self.inner: Node = Anything()

    def stand_for(self, inner: Node) -> bool:
        """Say what it stands for, once that is known; false if that is itself."""
        within = inner
        while isinstance(within, Described | Named):
            if within is self:
                return False
            within = within.inner
        self.inner = inner
        return True

    @property
    def kinds(self) -> frozenset[str]:  # type: ignore[override]
        """Of what it stands for."""
        return self.inner.kinds

    @property
    def rank(self) -> int:  # type: ignore[override]
        """Of what it stands for."""
        return self.inner.rank

    def read(self, value: Any) -> Any:
        """As what it stands for."""
        return self.inner.read(value)

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """A reference."""
        return book.refer(self, self.name, lambda: self.inner.schema(book))


def bare(node: Node) -> Node:
    """The node without words around it."""
    while isinstance(node, Described | Named):
        node = node.inner
    return node


def _sizes(bounds: Bounds, what: str = "items") -> list[str]:
    if bounds.least is not None and bounds.most is not None:
        return [f"of {bounds.least} to {bounds.most} {what}"]
    if bounds.least is not None:
        return [f"of >= {bounds.least} {what}"]
    return [] if bounds.most is None else [f"of <= {bounds.most} {what}"]


def _read_key(node: Node, name: str) -> Any:
    """A key by its type: JSON writes numbers as text there."""
    try:
        return node.read(name)
    except Misfit:
        if node.kinds & NUMBERS:
            with suppress(msgspec.DecodeError):
                return node.read(msgspec.json.decode(name, type=int | float))
        raise
