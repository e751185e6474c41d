"""Values of an answer that is still being written."""

from __future__ import annotations

import enum
import json
from typing import Any

import attrs
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
    """What a reader of these pieces is given, without repetitions."""
    growing = form_of(given).growing()
    values = [value for piece in pieces for value in growing.feed(piece)] + growing.end()
    return [value for place, value in enumerate(values) if place == 0 or value != values[place - 1]]


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
