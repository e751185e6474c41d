"""Values of an answer that is still being written."""

from __future__ import annotations

import datetime as dt
import enum
import json
from decimal import Decimal
from typing import Annotated, Any, Literal

import attrs
import msgspec
import pytest

from lamella._partial_json import GrowingValue
from lamella._typed_forms import form_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Kid:
    name: str
    age: int
    colour: Colour = Colour.RED


@attrs.frozen
class Person:
    name: str
    kids: list[Kid] = attrs.field(factory=list)


def shown(given: Any, pieces: Any) -> list[Any]:
    """What a reader of these pieces is given."""
    growing = form_of(given).growing()
    return [value for piece in pieces for value in growing.feed(piece)] + growing.end()


def test_a_value_grows() -> None:
    """A value is given once it fits; texts grow, numbers and enums come when they are complete."""
    text = '{"name": "Ad", "kids": [{"name": "B", "age": 31, "colour": "blue"}]}'
    half, whole = Kid("B", 31), Kid("B", 31, Colour.BLUE)
    assert shown(Person, text) == [
        Person(""),
        Person("A"),
        Person("Ad"),
        Person("Ad", [half]),
        Person("Ad", [whole]),
    ]


def test_required_properties_are_waited_for() -> None:
    """Nothing is given before all that a type must have is there."""
    growing = form_of(Kid).growing()
    assert growing.feed('Here it is: {"name": "Ada"') == []
    assert growing.feed(', "age": 1') == []
    assert growing.feed("2") == []
    assert growing.feed("}\n\n") == [Kid("Ada", 12)]
    assert growing.end() == []


@pytest.mark.parametrize("form", ["{}", '{{"value": {}}}', '```json\n{{ "value":\n{} }}\n```'])
@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_items_come_once_each(form: str, size: int) -> None:
    """Each item of a list is given when it is complete, whatever stands in its texts."""
    items = ['a,]"[{', "\\", '\\"', "", "{}"]
    text = form.format(json.dumps(items))
    pieces = [text[place : place + size] for place in range(0, len(text), size)]
    growing = form_of(list[str]).growing()
    assert [each for piece in pieces for each in growing.feed(piece)] == items
    schema = {"type": "array", "items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"type": "string"}}}
    growing = form_of(schema).growing()
    assert [each for piece in pieces for each in growing.feed(piece)] == items
    kids = [Kid("A", 1), Kid("B", 2, Colour.BLUE)]
    text = form.format(form_of(list[Kid]).encode(kids))
    growing = form_of(list[Kid]).growing()
    assert [each for piece in text for each in growing.feed(piece)] == kids


def test_prose_is_no_list() -> None:
    """Brackets in a sentence are no items, whatever comes behind them."""
    for text in (
        "As in [1], [2, 3]",
        'See "[1]:\n```json\n[2]\n```',
        '{"other": [1], "value": [2]}',
    ):
        assert shown(list[int], text) == []
    assert shown(list[int], "x" * 2_000 + "[1]") == []


class Size(enum.Enum):
    LARGE = "l"
    EXTRA_LARGE = "l+"


@attrs.frozen
class Coat:
    sizes: list[Size]
    price: Decimal = Decimal(0)
    until: dt.datetime | None = None
    note: Annotated[str, msgspec.Meta(pattern="^a+(end)?$")] = ""


def test_a_text_that_may_not_go_on_waits_for_its_end() -> None:
    """Half an enum's value, a date or a price that fits by itself is not shown for the whole."""
    text = (
        '{"sizes": ["l+", "l"], "price": "12.50", "until": "2025-01-02T03:04:05+02:00",'
        ' "note": "aaend"}'
    )
    at = dt.datetime.fromisoformat("2025-01-02T03:04:05+02:00")
    sizes = [Size.EXTRA_LARGE, Size.LARGE]
    assert shown(Coat, text) == [
        Coat([]),
        Coat(sizes[:1]),
        Coat(sizes),
        Coat(sizes, Decimal("12.50")),
        Coat(sizes, Decimal("12.50"), at),
        Coat(sizes, Decimal("12.50"), at, "aaend"),
    ]
    literal = Literal["a", "ab"]
    assert shown(literal, '"ab"') == ["ab"]
    assert shown({"enum": ["a", "ab"]}, '"ab"') == ["ab"]
    assert shown(str, '"ab"') == ["", "a", "ab"]
    assert shown(dict[str, float], ['{"a": 1,', ' "b": 1e400', "}"]) == [{"a": 1.0}]


def test_equal_values_come_once() -> None:
    """What has grown by no more than a default is not given again, unless nobody can tell."""
    assert shown(Kid, ['{"name": "B", "age": 1,', ' "colour": "red"', "}"]) == [Kid("B", 1)]
    growing = GrowingValue(lambda _: Untold(), skip=True)
    assert len(growing.feed('{"a": 1,') + growing.feed(' "b": 2}')) == 2


class Untold:
    """What cannot be compared."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        msg = "no"
        raise RuntimeError(msg)


def test_a_long_value_does_not_keep_the_loop() -> None:
    """Above 200,000 characters a value is not read as it grows; the whole is read at the end."""
    growing = form_of(Person).growing()
    assert growing.feed('{"name": "Ada"') == [Person("Ada")]
    assert growing.feed(', "kids": [' + " " * 200_000) == []
    assert growing.feed("]}") == growing.end() == []


def test_an_item_that_does_not_fit_ends_the_items() -> None:
    """After a wrong item there are no more; the whole answer is refused at its end anyway."""
    growing = form_of(list[int]).growing()
    assert growing.feed('[1, 2, "x", 3]') == [1, 2]
    assert growing.feed("[4]") == []
    assert growing.end() == []


def test_what_is_no_json_gives_nothing() -> None:
    """Prose, half a surrogate and wrong types are no values, and no errors here."""
    for text in ("I cannot", "{]", '{"name": "\ud800', '{"name": 1, "kids": 2}', "[" * 5_000):
        assert shown(Person, [text]) == []


def test_the_work_is_bounded() -> None:
    """However small the pieces are, all readings together cost some 20 readings of the whole."""
    read = 0

    def count(plain: Any) -> Any:
        nonlocal read
        read += len(plain.get("kids", ()))
        return plain

    text = json.dumps({"kids": [[place, "x" * 20] for place in range(1_000)]})
    growing = GrowingValue(count, skip=True)
    for letter in text:
        growing.feed(letter)
    assert growing.end()
    assert 1_000 < read < 25_000
