"""Forms: what each kind of type reads, refuses, writes, and says in its schema."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    TypedDict,
    TypeVar,
)

import annotated_types
import attrs
import msgspec
import pydantic
import pytest
from typing_extensions import Doc, TypeAliasType

from lamella import ConfigurationError
from lamella._typed_forms import FormError, form_of

T = TypeVar("T")


class Colour(enum.Enum):
    """A colour of the rainbow."""

    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Kid:
    """A child.

    Attributes:
        name: What it is called,
            at home.
        age: In years.
    """

    name: str
    age: Annotated[int, msgspec.Meta(ge=0)]


@attrs.frozen
class Person:
    """Somebody."""

    name: str = attrs.field(validator=attrs.validators.min_len(2))
    kids: list[Kid] = attrs.field(factory=list)
    friend: Person | None = None
    colour: Colour = Colour.RED
    _score: int = attrs.field(default=3, converter=int)
    seen: int = attrs.field(default=0, init=False)


@attrs.frozen
class Cat:
    kind: Literal["cat"]
    lives: int = 9


@attrs.frozen
class Dog:
    kind: Literal["dog"]
    tricks: tuple[str, ...] = ()


@attrs.frozen
class Page(Generic[T]):
    items: list[T]
    following: Page[T] | None = None


@dataclasses.dataclass
class Trip:
    """A trip.

    Args:
        days: How long.
    """

    days: Annotated[int, annotated_types.Ge(1)]
    stops: Annotated[list[str], annotated_types.Len(0, 2), "where to rest"] = dataclasses.field(
        default_factory=list
    )

    def __post_init__(self) -> None:
        if self.days == len(self.stops):
            msg = f"no rest for {self.days} days"
            raise ValueError(msg)


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Note(TypedDict):
    text: str
    author: NotRequired[str]


class Event(msgspec.Struct, tag=True, rename="camel"):
    event_name: str
    count: int = 1


class Model(pydantic.BaseModel):
    """A model."""

    model_config = pydantic.ConfigDict(extra="forbid")
    number: int = pydantic.Field(ge=1, description="which one")
    mail: Annotated[str, pydantic.Field(alias="eMail")] = "none"
    when: dt.date | None = None

    @pydantic.field_validator("number")
    @classmethod
    def _lucky(cls, number: int) -> int:
        if number == 13:
            msg = f"{number} is unlucky"
            raise ValueError(msg)
        return number


class Link(pydantic.BaseModel):
    kind: Literal["link"]
    after: Link | None = None


class Chain(pydantic.RootModel[list[Annotated[Link | Model, pydantic.Field()]]]):
    pass


class Tagged(pydantic.BaseModel):
    kind: Literal["tagged"]


class Either(pydantic.BaseModel):
    one: Annotated[Link | Tagged, pydantic.Field(discriminator="kind")]


@attrs.frozen
class Mixed:
    model: Model
    event: Event
    note: Note
    point: Point
    trip: Trip


@attrs.frozen
class Lost:
    field: Nowhere  # type: ignore[name-defined] # noqa: F821 # pyright: ignore[reportUndefinedVariable]


class Own:
    a: int


@attrs.frozen
class Holder:
    owns: list[Own]


@dataclasses.dataclass
class Extra:
    a: int
    b: dataclasses.InitVar[int]


@attrs.frozen
class Same:
    kind: Literal["cat", "cow"]


Tree = TypeAliasType("Tree", "dict[str, Tree] | list[Tree] | str | None")
Identity = NewType("Identity", str)


def wrong(given: Any, value: Any) -> list[str]:
    """What a form says is wrong with a value, to whoever wrote it."""
    with pytest.raises(FormError) as raised:
        form_of(given).check(value)
    return [problem.told for problem in raised.value.problems]


def test_a_class_is_read_and_written() -> None:
    """Nested classes, defaults, enums and private fields go by the names of `__init__`."""
    form = form_of(Person)
    text = '{"name": "Ada", "kids": [{"name": "Bo", "age": 3.0}], "score": 5, "more": 1}'
    person = form.decode(text)
    made: Any = Person
    assert person == made("Ada", [Kid("Bo", 3)], score=5)
    assert form.decode(form.encode(person)) == person
    assert json.loads(form.encode(person))["colour"] == "red"
    assert "seen" not in json.loads(form.encode(person))


def test_every_problem_is_found() -> None:
    """One reading names every wrong place, what belongs there, and what kind of JSON is there."""
    value = {"kids": [{"name": "B", "age": -1}, {"age": "x"}], "friend": [], "colour": "green"}
    assert wrong(Person, value) == [
        "$.name: expected string, got nothing",
        "$.kids[0].age: expected integer >= 0, got another integer",
        "$.kids[1].name: expected string, got nothing",
        "$.kids[1].age: expected integer >= 0, got string",
        "$.friend: expected object (Person) or null, got array",
        '$.colour: expected one of "red", "blue", got another string',
    ]
    assert len(wrong(list[int], ["x"] * 1_000)) == 20


def test_errors_for_logs_hold_nothing_of_the_value() -> None:
    """The text of an error names declared properties and kinds; keys and words are told apart."""
    with pytest.raises(FormError) as raised:
        form_of(dict[str, Person]).decode('{"ada@example.org": {"name": "Q"}}')
    error = raised.value
    assert str(error) == (
        "The value does not fit 'dict_str_Person': "
        "$[*].name: expected value that its validator takes, got another string."
    )
    assert error.problems[0].told.startswith("$['ada@example.org'].name: ")
    assert "must be >= 2" in error.problems[0].told
    assert "must be" not in repr(error.problems[0])
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problems) == (str(error), error.problems)


def test_null_stands_for_a_default() -> None:
    """A property with a default may be null, which leaves it out; a required one may not."""
    form = form_of(Person)
    assert form.check({"name": "Ada", "kids": None, "score": None}) == Person("Ada")
    assert form_of(Note).check({"text": "x", "author": None}) == {"text": "x"}
    assert form_of(Model).check({"number": 1, "eMail": None}) == Model(number=1)
    assert form_of(Event).check({"type": "Event", "eventName": "x", "count": None}) == Event("x")
    assert wrong(Person, {"name": None}) == ["$.name: expected string, got null"]


def test_classes_of_every_kind_in_one() -> None:
    """attrs, dataclass, TypedDict, NamedTuple, msgspec and pydantic stand in each other."""
    form = form_of(Mixed)
    value = Mixed(
        Model.model_validate({"number": 2, "eMail": "a@b", "when": "2025-01-02"}),
        Event("start"),
        {"text": "x"},
        Point(1.5),
        Trip(3, ["Rome"]),
    )
    text = form.encode(value)
    assert json.loads(text)["model"] == {"number": 2, "eMail": "a@b", "when": "2025-01-02"}
    assert json.loads(text)["point"] == {"x": 1.5, "y": 0.0}
    assert form.decode(text) == value
    assert form.strict is not None


def test_validators_name_their_field() -> None:
    """A refusal by a converter, a validator or `__post_init__` is a problem at its place."""

    @attrs.frozen
    class Bounded:
        low: int = attrs.field(validator=attrs.validators.gt(0))
        high: int = attrs.field(validator=attrs.validators.lt(9))

        def __attrs_post_init__(self) -> None:
            if self.low > self.high:
                msg = "low is above high"
                raise ValueError(msg)

    both = wrong(Bounded, {"low": 0, "high": 9})
    assert [each.partition(":")[0] for each in both] == ["$.low", "$.high"]
    (whole,) = wrong(Bounded, {"low": 5, "high": 2})
    assert whole.startswith("$: expected object that Bounded takes")
    assert "low is above high" in whole
    assert "no rest for 1 days" in wrong(Trip, {"days": 1, "stops": ["Rome"]})[0]
    assert wrong(list[Model], [{"number": 13}, {"number": 0, "x": 1}]) == [
        "$[0].number: expected value that its validator takes, got another integer (13 is unlucky)",
        "$[1].number: expected value that is greater than or equal to 1, got integer",
        "$[1].x: expected no such property, got integer",
    ]


def test_pydantic_stays_discreet() -> None:
    """What pydantic says of a value is for whoever wrote it; a tag that it found for nobody."""
    with pytest.raises(FormError) as raised:
        form_of(Either).check({"one": {"kind": "s3cret"}})
    (problem,) = raised.value.problems
    assert problem.told == "$.one: expected one of 'link', 'tagged' as 'kind', got another tag"
    with pytest.raises(FormError) as raised:
        form_of(dict[str, Model]).check({"s3cret": {"number": "s3cret", "s3cret": 1}})
    assert "s3cret" not in str(raised.value) + repr([each.path for each in raised.value.problems])
    assert raised.value.problems[0].place == "$.s3cret.number"


def test_pydantic_types_hold_themselves() -> None:
    """Recursive models, root models and adapters are read, and stand once in a schema."""
    link = {"kind": "link", "after": {"kind": "link", "after": None}}
    form = form_of(list[Link])
    assert form.check([link]) == [Link.model_validate(link)]
    assert list(form.schema["$defs"]) == ["Link"]
    assert form.strict is not None
    chain = form_of(Chain)
    assert chain.wrapped
    assert chain.check({"value": [link, {"number": 1}]}).root[1] == Model(number=1)
    assert form_of(pydantic.TypeAdapter(list[Link])).check([link]) == [Link.model_validate(link)]
    assert wrong(list[Link], [{"kind": "link", "after": {"kind": 1}}]) == [
        "$[0].after.kind: expected value that is 'link', got integer"
    ]


def test_converters_are_given_what_they_take() -> None:
    """A converter with an annotated parameter is given that type, and the schema says so."""

    def parsed(text: str) -> dt.date:
        return dt.date.fromisoformat(text)

    @attrs.frozen
    class Day:
        date: dt.date = attrs.field(converter=parsed)

    form = form_of(Day)
    assert form.schema["properties"]["date"] == {"type": "string"}
    assert form.decode('{"date": "2025-01-02"}').date == dt.date(2025, 1, 2)
    assert form.encode(Day("2025-01-02")) == '{"date":"2025-01-02"}'
    assert wrong(Day, {"date": "soon"})[0].startswith("$.date: expected value that its validator")


def test_unions_of_classes() -> None:
    """The tag tells which class is meant, and else what only one of them requires."""
    form = form_of(Cat | Dog)
    assert form.check({"kind": "dog", "tricks": ["sit"]}) == Dog("dog", ("sit",))
    assert form.wrapped
    assert form.check({"value": {"kind": "cat"}}) == Cat("cat")
    assert wrong(Cat | Dog, {"kind": "cow"}) == [
        "$.kind: expected one of 'cat', 'dog', got another string"
    ]
    assert wrong(Cat | Dog, {"kind": "dog", "tricks": [1]}) == [
        "$.tricks[0]: expected string, got integer"
    ]
    either = form_of(Kid | Trip)
    assert either.check({"days": 2}) == Trip(2)
    assert either.check({"name": "Bo", "age": 1}) == Kid("Bo", 1)
    assert wrong(Kid | Trip, {"name": "Bo"}) == ["$.age: expected integer >= 0, got nothing"]
    assert form_of(Event | Model).check({"number": 1}) == Model(number=1)


def test_unions_of_others() -> None:
    """Kinds of JSON tell the members; among texts, the pickiest that fits."""
    form = form_of(int | float | dt.date | Colour | str | list[int] | None)
    for value in (1, 1.5, "later", [1], None):
        assert form.check(value) == value
        assert type(form.check(value)) is type(value)
    assert form.check("2025-01-02") == dt.date(2025, 1, 2)
    assert form.check("red") is Colour.RED
    (problem,) = wrong(int | None, "x")
    assert problem == "$: expected integer or null, got string"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Kid | dict[str, int], "two members that are a JSON object"),
        (list[int] | list[str], "two members that are a JSON array"),
        (list[Callable[[], None]], "the field $[*] is"),
        (dict[bool, int], "keys of a JSON object are texts"),
        (Annotated[int, msgspec.Meta(min_length=1)], "the type itself"),
        (Annotated[Kid, msgspec.Meta(ge=1)], "bounds are for"),
        (list["Kid"], "it is a text"),
        (Literal[b"x"], "JSON has no b'x'"),
        (complex, "complex"),
        ("Kid", "is a value, and no type"),
        ([Kid], "is a value, and no type"),
    ],
)
def test_what_json_cannot_carry(given: Any, words: str) -> None:
    """A type that cannot be read from JSON is refused at once, with its place and a remedy."""
    with pytest.raises(ConfigurationError) as raised:
        form_of(given)
    assert words in raised.value.message
    assert raised.value.hint


def test_classes_that_cannot_be_read() -> None:
    """Names that do not exist, fields without JSON, and own parameters are refused by name."""
    for given, words in (
        (Lost, "Nowhere"),
        (Holder, "the field $.owns[*]"),
        (Extra, "'b', which is no field"),
        (Cat | Same, "both Cat and"),
    ):
        with pytest.raises(ConfigurationError) as raised:
            form_of(given)
        assert words in raised.value.message


def test_what_stands_in_annotated() -> None:
    """Bounds hold beside null too; validators in `Annotated` run, as pydantic runs them."""

    def even(number: int) -> int:
        if number % 2:
            msg = "it is odd"
            raise ValueError(msg)
        return number

    bounded = Annotated[int | None, pydantic.Field(ge=1, description="how many")]
    assert form_of(bounded).check(None) is None
    assert form_of(bounded).schema["description"] == "how many"
    assert wrong(bounded, 0) == ["$: expected integer >= 1, got another integer"]
    checked = form_of(list[Annotated[int, pydantic.AfterValidator(even)]])
    assert checked.check([2]) == [2]
    assert "it is odd" in wrong(checked.type, [1])[0]
    assert wrong(Annotated[str, annotated_types.Predicate(str.isupper)], "a")


def test_generic_and_recursive_types() -> None:
    """Type variables stand for their arguments, and types may hold themselves."""
    form = form_of(Page[Kid])
    assert form.name == "Page_Kid"
    page = form.check({"items": [], "following": {"items": [{"name": "Bo", "age": 1}]}})
    assert page.following.items == [Kid("Bo", 1)]
    assert wrong(Page[int], {"items": ["x"]}) == ["$.items[0]: expected integer, got string"]
    tree: Any = {"a": ["b", {"c": None}]}
    assert form_of(Tree).check(tree) == tree
    assert wrong(Tree, {"a": 1})
    deep = "[" * 900 + "]" * 900
    with pytest.raises(FormError, match="nested less deeply"):
        form_of(Tree).decode(deep)
    with pytest.raises(FormError, match="nested"):
        form_of(Any).decode("[" * 100_000)


def test_containers() -> None:
    """Arrays become what the type is, keys of mappings have types, and sizes are held to."""
    assert form_of(set[int]).check([1, 2, 1]) == {1, 2}
    assert form_of(tuple[int, ...]).check([1]) == (1,)
    assert form_of(tuple[int, str]).check([1, "x"]) == (1, "x")
    assert form_of(Sequence[int]).check([1]) == [1]
    assert form_of(Mapping[dt.date, int]).decode('{"2025-01-02": 1}') == {dt.date(2025, 1, 2): 1}
    assert form_of(dict[int, Kid]).encode({1: Kid("Bo", 2)}) == '{"1":{"name":"Bo","age":2}}'
    assert form_of(dict[int, str]).decode('{"7": "x"}') == {7: "x"}
    assert form_of(Identity).check("x") == "x"
    assert wrong(tuple[int, str], [1]) == ["$: expected array of 2 items, got another array"]
    assert wrong(Trip, {"days": 5, "stops": ["a", "b", "c"]}) == [
        "$.stops: expected array of 0 to 2 items, got another array"
    ]
    assert "in a set" in wrong(set[list[int]], [[1]])[0]


def test_texts_that_are_no_json() -> None:
    """What is no JSON is a problem of the whole; surrogates and endless numbers too."""
    for text in ("", "Sure! {}", '{"a": }', b"\xff", '"\ud800"', "NaN", "1e999"):
        with pytest.raises(FormError, match="JSON"):
            form_of(Any).decode(text)
    with pytest.raises(ValueError, match="nan"):
        form_of(float).encode(float("nan"))
    with pytest.raises(TypeError, match="'object'"):
        form_of(Any).encode([object()])


def test_words_for_the_model() -> None:
    """Docstrings, metadata and `Annotated` describe a schema; what Python made up does not."""
    schema = form_of(Person).schema
    kid = schema["$defs"]["Kid"]
    assert schema["description"] == "Somebody."
    assert kid["description"] == "A child."
    assert kid["properties"]["name"]["description"] == "What it is called, at home."
    assert kid["properties"]["age"] == {
        "type": "integer",
        "minimum": 0,
        "description": "In years.",
    }
    assert schema["properties"]["colour"]["description"] == "A colour of the rainbow."
    trip = form_of(Trip).schema
    assert trip["description"] == "A trip."
    assert trip["properties"]["days"]["description"] == "How long."
    assert trip["properties"]["stops"]["description"] == "where to rest"
    assert "description" not in form_of(Point).schema
    assert form_of(Annotated[str, Doc("a word")]).schema == {
        "type": "string",
        "description": "a word",
    }


def test_the_strict_schema() -> None:
    """Everything is required and closed; what providers do not hold to is said in words."""
    strict = form_of(Person).strict
    assert strict is not None
    assert strict["required"] == ["name", "kids", "friend", "colour", "score"]
    assert strict["additionalProperties"] is False
    assert strict["properties"]["score"] == {
        "description": "(3 by default) (null to leave it out)",
        "anyOf": [{"type": "integer"}, {"type": "null"}],
    }
    assert strict["$defs"]["Kid"]["properties"]["age"] == {
        "description": "In years. (at least 0)",
        "type": "integer",
    }
    assert form_of(tuple[float, float]).strict == {
        "type": "object",
        "properties": {
            "value": {
                "description": "(exactly 2 items; in this order: number, number)",
                "type": "array",
                "items": {"type": "number"},
            }
        },
        "required": ["value"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict[str, int], "$: its properties may have any names"),
        (list[dict[str, int]], "$.value[*]: its properties may have any names"),
        (Any, "$.value: any value fits"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "$.a: 'not' has no strict form"),
        (
            {"type": "object", "properties": {f"p{i}": {"type": "null"} for i in range(5_001)}},
            "5001 properties",
        ),
    ],
)
def test_why_there_is_no_strict_schema(given: Any, words: str) -> None:
    """A type that providers cannot be held to says where and why."""
    form = form_of(given)
    assert form.strict is None
    assert words in form.why_not


def test_forms_are_made_once() -> None:
    """A type has one form, whoever asks for it first; the order of a union is part of the type."""
    found: list[object] = []
    asking = [threading.Thread(target=lambda: found.append(form_of(Page[Dog]))) for _ in range(4)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    assert len(set(map(id, found))) == 1
    assert form_of({"type": "string"}) is form_of({"type": "string"})
    assert form_of(Cat | Dog).name == "Cat_or_Dog"
    assert form_of(Dog | Cat).name == "Dog_or_Cat"
