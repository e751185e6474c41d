"""Forms against what a model may write, and against types that are hard to read."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import traceback
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple

import annotated_types
import attrs
import msgspec
import pydantic
import pytest
from typing_extensions import TypeAliasType, TypeVar

import lamella
from lamella import ConfigurationError, FormError, form_of

T = TypeVar("T", default=int)

Told = Annotated[int | str | None, "told"]
Tree = TypeAliasType("Tree", "dict[str, Tree] | list[Tree] | str | None")
Itself: Any = TypeAliasType("Itself", "Itself")  # pyright: ignore[reportGeneralTypeIssues]


class Share(enum.Enum):
    HALF = 0.5
    WHOLE = 1.0


@dataclasses.dataclass
class Box(Generic[T]):
    item: T


@dataclasses.dataclass
class Ever(Generic[T]):
    item: T
    more: Ever[list[T]] | None = None


class Point(NamedTuple):
    x: int


class Named(Point):
    pass


@attrs.frozen
class Defaults:
    told: Told = 5
    tree: Tree = "tree"


@dataclasses.dataclass(init=False)
class Own:
    size: int

    def __init__(self, length: int = 1) -> None:
        self.size = length


class Strict(pydantic.BaseModel):
    number: int
    price: Decimal = Decimal(1)

    @pydantic.field_validator("number")
    @classmethod
    def _known(cls, number: int) -> int:
        return {1: number}[number]


PERSONAL = '{"ada@x.org": {"number": "s3cret", "told": ["s3cret"]}}'


def refused(given: Any, text: str) -> str:
    """What is said of a text that does not fit."""
    with pytest.raises(FormError) as raised:
        form_of(given).decode(text)
    return str(raised.value)


def test_the_names_are_public() -> None:
    """Layers of others take forms, their errors and problems from the package."""
    assert lamella.Form.__module__ == "lamella"
    with pytest.raises(FormError) as raised:
        form_of(int).decode('"x"')
    assert isinstance(raised.value.problems[0], lamella.Problem)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Any, "1" * 5_000),
        (float, "1" * 600),
        ({"multipleOf": 3}, "1" * 599 + "0"),
        ({"multipleOf": 0.5}, "1e308.5"),
        (Decimal, '"NaN"'),
        (Decimal, '"sNaN"'),
        (Decimal, '"-Infinity"'),
        (Decimal, '"1e99999999"'),
        (Decimal, "12345678901234567.89"),
        (dict[int, int], '{"' + "1" * 5_000 + '": 1}'),
        (dict[int, int], '{" 1_0 ": 1}'),
        (dict[int, int], '{"01": 1}'),
        (dict[dt.datetime, int], '{"2025-01-01T00:00Z": 1, "2025-01-01T01:00+01:00": 2}'),
        (str, '"\\ud800"'),
        (str, '\ufeff"x"'),
        (Strict, '{"number": 2}'),
    ],
)
def test_hostile_texts(given: Any, text: str) -> None:
    """Numbers without end, keys that are one, half letters: refused, without another error."""
    assert refused(given, text)


def test_numbers_are_what_was_written() -> None:
    """What is read of a number has all its digits; 1 and 1.0 are one, and true is neither."""
    assert form_of(Decimal).decode("0.1") == Decimal("0.1")
    assert form_of(Decimal).decode('"12345678901234567.89"') == Decimal("12345678901234567.89")
    assert form_of({"multipleOf": 0.5}).decode("1e308") == 1e308
    assert form_of({"multipleOf": 0.1}).decode("0.3") == 0.3
    price = Annotated[float, msgspec.Meta(ge=0, multiple_of=0.01)]
    assert form_of(price).decode("0.29") == 0.29
    assert ">= 0 that is a multiple of 0.01" in refused(price, "0.295")
    assert form_of(Share | None).decode("1") is Share.WHOLE
    assert "boolean" in refused(Literal[1], "true")
    assert form_of(dict[int, str]).decode('{"7": "x", "-1": "y"}') == {7: "x", -1: "y"}
    with pytest.raises(ValueError, match="NaN"):
        form_of(Decimal).encode(Decimal("NaN"))


@pytest.mark.parametrize("zone", [msgspec.Meta(tz=True), annotated_types.Timezone(...)])
def test_times_that_need_a_zone(zone: Any) -> None:
    """A bound on a time's zone is held to."""
    form = form_of(Annotated[dt.datetime, zone])
    assert form.decode('"2025-01-02T03:04:05Z"').tzinfo is dt.UTC
    assert refused(form.type, '"2025-01-02T03:04:05"')


def test_an_error_holds_nothing_of_the_value() -> None:
    """Neither its texts nor what it came from: keys and values are for whoever asked for them."""
    for given in (dict[str, Strict], dict[str, Defaults]):
        with pytest.raises(FormError) as raised:
            form_of(given).decode(PERSONAL)
        error = raised.value
        assert error.__context__ is None
        assert error.__cause__ is None
        shown = repr(error) + repr(error.problems) + "".join(traceback.format_exception(error))
        assert "ada@x.org" not in shown
        assert "s3cret" not in shown


def test_many_options_are_few_words() -> None:
    """Of a thousand values that would do, a message names some."""
    options = Literal[tuple(f"option {place}" for place in range(1_000))]  # type: ignore[valid-type]
    said = refused(options, '"x"')
    assert "or 970 others" in said
    assert len(said) < 600


def test_patterns_take_linear_time() -> None:
    """A pattern with nested repeats does not hang on a text that nearly matches."""
    text = '"' + "a" * 50_000 + '!"'
    assert refused({"pattern": "^(a+)+$"}, text)
    assert refused(Annotated[str, msgspec.Meta(pattern="^(a+)+$", max_length=60_000)], text)
    assert form_of(Annotated[str, msgspec.Meta(pattern="^a+$")]).schema["pattern"] == "^a+$"
    with pytest.raises(ConfigurationError, match="at #/items"):
        form_of({"items": {"pattern": "(?=a)b"}})
    with pytest.raises(ConfigurationError, match=r"the field \$\[\*\]: '\(\?=a\)b' is no"):
        form_of(list[Annotated[str, msgspec.Meta(pattern="(?=a)b")]])


def test_a_schema_that_refers_to_itself_twice_takes_linear_time() -> None:
    """Members of a union that both hold the union are not tried again at every level."""
    both = [
        {
            "properties": {"op": {"const": each}, "of": {"$ref": "#/$defs/term"}},
            "required": ["op", "of"],
            "type": "object",
        }
        for each in ("add", "sub")
    ]
    schema = {"$ref": "#/$defs/term", "$defs": {"term": {"anyOf": [*both, {"type": "integer"}]}}}
    text = '{"of": ' * 60 + "1" + ', "op": "add"}' * 60
    assert form_of(schema).decode(text)
    wrong = form_of(schema)
    with pytest.raises(FormError) as raised:
        wrong.decode(text.replace("1", '"x"'))
    assert raised.value.problems[0].path == "$" + ".of" * 60


def test_a_schema_that_changes_later() -> None:
    """A form has its own copy: what its caller does with the schema afterwards is not seen."""
    schema = {"type": "string", "minLength": 1}
    form = form_of(schema)
    schema["type"] = "integer"
    assert form.decode('"x"') == "x"
    assert form_of({"type": "string", "minLength": 1}).decode('"x"') == "x"


@pytest.mark.parametrize(
    "schema",
    [
        {"multipleOf": 0},
        {"exclusiveMinimum": True, "minimum": 1},
        {"minLength": "1"},
        {"maxContains": True},
        {"dependencies": {"a": ["b"]}},
    ],
)
def test_schemas_that_would_be_misread(schema: Any) -> None:
    """Words of older drafts, and bounds that nothing can keep to, are refused by name."""
    with pytest.raises(ConfigurationError, match=next(iter(schema))):
        form_of(schema)


def test_unions_within_unions() -> None:
    """A union behind a name or beside words is told apart like one that stands by itself."""
    assert form_of(Told | float).decode("1.5") == 1.5
    assert form_of(Told | float).decode('"x"') == "x"
    assert form_of(float | Tree).decode('{"a": ["x"]}') == {"a": ["x"]}
    assert form_of(dict[Annotated[int | str, "id"], int]).decode('{"a": 1}') == {"a": 1}
    defaults = form_of(Defaults)
    assert defaults.decode('{"told": null, "tree": null}') == Defaults(None, None)
    with pytest.raises(ConfigurationError, match="two members that are a JSON array"):
        form_of(list[int] | Tree)


def test_types_that_are_hard_to_read() -> None:
    """Defaults of type variables and heirs of NamedTuples are read; what has no end is refused."""
    assert "expected integer" in refused(Box, '{"item": "x"}')
    assert form_of(Named).decode('{"x": 1}') == Named(1)
    assert form_of({"properties": {"a": {"enum": [[1]]}}}).decode('{"a": [1]}') == {"a": [1]}
    for given, words in (
        (Ever[int], "ever new forms"),
        (Itself, "stands for itself"),
        (Own, "the field 'size', and is not made with it"),
        (tuple[int, *tuple[str, ...]], "no type can be unpacked"),
    ):
        with pytest.raises(ConfigurationError) as raised:
            form_of(given)
        assert words in raised.value.message


def test_converters_of_other_modules() -> None:
    """What a converter takes is read where it was written, or the class is refused."""
    names: dict[str, Any] = {"dt": dt, "__name__": "elsewhere"}
    source = "Text = str\ndef parsed(text: 'Text') -> dt.date: return dt.date.fromisoformat(text)"
    exec(source, names)
    given = attrs.make_class("Day", {"date": attrs.field(type=dt.date, converter=names["parsed"])})
    assert form_of(given).decode('{"date": "2025-01-02"}').date == dt.date(2025, 1, 2)
    maybe = attrs.converters.optional(names["parsed"])
    hidden = attrs.make_class("Hidden", {"date": attrs.field(type=dt.date, converter=maybe)})
    with pytest.raises(ConfigurationError, match=r"the converter of Hidden\.date"):
        form_of(hidden)
