"""Types without parts: numbers, texts, dates and the like, and fixed sets of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import msgspec

from lamella._safe_patterns import compile_pattern
from lamella._schema_book import SchemaBook
from lamella._typed_nodes import NUMBERS, Node, Tag, tag_of
from lamella._typed_problems import kind_of, misfit


class Leaf(Node):
    """A type without parts, which msgspec reads: text, numbers, dates and the like."""

    __slots__ = (
        "_as_it_is",
        "_convert",
        "_same",
        "_schema",
        "_type",
        "_whole",
        "kinds",
        "rank",
        "words",
    )

    def __init__(
        self, given: Any, schema: Mapping[str, Any], kinds: Collection[str], rank: int
    ) -> None:
        self._type = given
        self._schema = dict(schema)
        self._as_it_is = given if given in (str, int, float, bool) else None
        self._convert = msgspec.convert
        self._same = (schema["type"],)
        self._whole = schema["type"] == "integer"
        self.kinds = frozenset(kinds)
        self.rank = rank
        self.words = schema_words(schema)

    def read(self, value: Any) -> Any:
        """The value, in its range and form."""
        if value.__class__ is self._as_it_is:
            return value
        try:
            return self._convert(value, self._type)
        except msgspec.ValidationError:
            if self._whole and value.__class__ is float and value.is_integer():
                return self.read(int(value))  # 1.0 is an integer to JSON Schema
            raise misfit(self.words, value, self._same) from None

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """Its type, format and bounds."""
        return dict(self._schema)


class Exact(Leaf):
    """`Decimal`: what is written as text to its last digit, a number as far as that is exact."""

    __slots__ = ()

    def read(self, value: Any) -> Any:
        """The number."""
        found = super().read(value)
        if not found.is_finite() or abs(found.adjusted()) > _MOST_EXPONENT:
            raise misfit(self.words, value, self._same)
        if value.__class__ is float and len(found.as_tuple().digits) > _EXACT_DIGITS:
            raise misfit(f"{self.words}, as text", value, (), "a number has no more than 15 digits")
        return found


_EXACT_DIGITS: Final = 15
"""Digits of a decimal number that survive in a float (IEEE 754 binary64)."""

_MOST_EXPONENT: Final = 6_144
"""Of IEEE 754's decimal128. Written out, a number of 20 characters could take a gigabyte."""


class Checked(Node):
    """A text or number within bounds that msgspec does not check as JSON Schema has them."""

    __slots__ = ("_fits", "_leaf", "kinds", "rank", "words")

    def __init__(self, leaf: Leaf, pattern: str | None, multiple_of: float | None) -> None:
        self._leaf = leaf
        if pattern is not None:
            search = compile_pattern(pattern).search
            self._fits: Callable[[Any], bool] = lambda text: search(text) is not None
        else:
            self._fits = lambda number: multiple_of is None or is_multiple(number, multiple_of)
        self.kinds = leaf.kinds
        self.rank = leaf.rank
        self.words = leaf.words

    def read(self, value: Any) -> Any:
        """The value, in its bounds."""
        found = self._leaf.read(value)
        if not self._fits(found):
            raise misfit(self.words, value, self.kinds)
        return found

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """Its type, format and bounds."""
        return self._leaf.schema(book)


def is_multiple(number: float, of: float) -> bool:
    """Whether a number is a multiple, as they are written: 0.3 is one of 0.1."""
    return Fraction(str(number)) % Fraction(str(of)) == 0


class Choice(Node):
    """`Literal` and `Enum`: a fixed set of scalars, each with what it stands for."""

    __slots__ = ("_missing", "_schema", "_values", "kinds", "words")

    def __init__(
        self, pairs: Sequence[tuple[Any, Any]], missing: Callable[[Any], Any] | None = None
    ) -> None:
        self._values = {tag_of(plain): member for plain, member in pairs}
        self._missing = missing
        self._schema = enum_schema([plain for plain, _ in pairs])
        kinds = frozenset(kind_of(plain) for plain, _ in pairs)
        self.kinds = kinds | NUMBERS if kinds & NUMBERS else kinds
        self.words = schema_words(self._schema)

    @property
    def values(self) -> frozenset[Tag]:
        """What it takes."""
        return frozenset(self._values)

    def read(self, value: Any) -> Any:
        """The member that the value stands for."""
        try:
            return self._values[tag_of(value)]
        except (KeyError, TypeError):
            pass
        if self._missing is not None and kind_of(value) in self.kinds:
            try:
                return self._missing(value)  # the enum's own `_missing_`
            except ValueError:
                pass
        raise misfit(self.words, value, self.kinds)

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """The values."""
        return dict(self._schema)


def enum_schema(values: Sequence[Any]) -> dict[str, Any]:
    """The schema of a fixed set of scalars."""
    kinds = list(dict.fromkeys(kind_of(value) for value in values))
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": list(values)}


def schema_words(schema: Mapping[str, Any]) -> str:
    """What a schema without parts expects, in a few words."""
    if "enum" in schema:
        values = schema["enum"]
        options = [msgspec.json.encode(option).decode() for option in values[:_MOST_OPTIONS]]
        if len(values) > _MOST_OPTIONS:
            options.append(f"or {len(values) - _MOST_OPTIONS} others")
        return "one of " + ", ".join(options) if len(options) > 1 else "".join(options)
    words = [str(schema.get("type", "value"))]
    words += [f"in the format {schema['format']}"] if "format" in schema else []
    words += [f"in {schema['contentEncoding']}"] if "contentEncoding" in schema else []
    for keyword, text in _BOUND_WORDS:
        if keyword in schema:
            words.append(f"{text} {schema[keyword]}")
    words += [f"that matches {schema['pattern']!r}"] if "pattern" in schema else []
    return " ".join(words)


_MOST_OPTIONS: Final = 30

_BOUND_WORDS: Final = (
    ("minimum", ">="),
    ("exclusiveMinimum", ">"),
    ("maximum", "<="),
    ("exclusiveMaximum", "<"),
    ("multipleOf", "that is a multiple of"),
    ("minLength", "of length >="),
    ("maxLength", "of length <="),
)
