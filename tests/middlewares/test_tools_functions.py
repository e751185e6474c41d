"""Functions as tools: what the model is told of them, and what they are given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import date, timedelta
from typing import Annotated, Any, Literal

import anyio
import attrs
import msgspec
import pytest
from tool_turns import ASK, asks, pipeline, results

from lamella import ConfigurationError, Context, ToolCall
from lamella_middlewares import Tools
from lamella_middlewares.tools import ToolContext, tool

pytestmark = pytest.mark.anyio


@attrs.frozen
class Guest:
    """Somebody who stays."""

    name: str
    age: int = attrs.field(default=18, validator=attrs.validators.ge(0))


def google(city: str, unit: Literal["C", "F"] = "C") -> str:
    """The weather of a city.

    Asks the station nearby.

    Args:
        city: Where,
            such as Bern.
        unit: Degrees of which kind.

    Returns:
        Words.
    """
    return f"{city} {unit}"


def numpy(city: str, unit: Literal["C", "F"] = "C") -> str:
    """The weather of a city.

    Asks the station nearby.

    Parameters
    ----------
    city : str
        Where, such as Bern.
    unit : str
        Degrees of which kind.
    """
    return f"{city} {unit}"


def sphinx(city: str, unit: Literal["C", "F"] = "C") -> str:
    """The weather of a city.

    Asks the station nearby.

    :param city: Where, such as Bern.
    :param unit: Degrees of which kind.
    """
    return f"{city} {unit}"


async def book(
    guests: list[Guest],
    night: date,
    *,
    breakfast: Annotated[bool, msgspec.Meta(description="Eggs.")] = True,
    note: str | None = None,
    about: ToolContext,
) -> dict[str, Any]:
    """Books a room."""
    assert isinstance(about, ToolContext)
    return {"names": [guest.name for guest in guests], "night": night, "eggs": breakfast, "n": note}


async def run(function: Any, arguments: str) -> tuple[str, bool]:
    """What a model is told of one call."""
    given = Tools([function])
    script = [asks(ToolCall("1", given.tools[0].name, arguments)), "Done."]
    response = await pipeline(given, script).run(ASK)
    ((_, text, error),) = results(response.messages)
    return text, error


@pytest.mark.parametrize("function", [google, numpy, sphinx], ids=lambda given: given.__name__)
def test_a_model_is_told_what_the_docstring_says(function: Callable[..., Any]) -> None:
    """In each of the three styles."""
    (declared,) = Tools([function]).declared
    assert declared.description == "The weather of a city.\n\nAsks the station nearby."
    assert declared.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where, such as Bern."},
            "unit": {
                "type": "string",
                "enum": ["C", "F"],
                "default": "C",
                "description": "Degrees of which kind.",
            },
        },
        "required": ["city"],
        "additionalProperties": False,
    }


async def test_a_function_is_given_what_its_types_say() -> None:
    """Classes of the program, dates, defaults; the context is not the model's."""
    (declared,) = Tools([book]).declared
    assert set(declared.parameters["properties"]) == {"guests", "night", "breakfast", "note"}
    assert declared.parameters["required"] == ["guests", "night"]
    assert declared.parameters["properties"]["breakfast"]["description"] == "Eggs."
    text, error = await run(book, '{"guests":[{"name":"Ada"}],"night":"2026-01-31"}')
    assert (text, error) == ('{"names":["Ada"],"night":"2026-01-31","eggs":true,"n":null}', False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "one JSON object"),
        ("null", "one JSON object"),
        ("{}", "$.guests"),
        ('{"guests":[{"name":"Ada","age":-1}],"night":"2026-01-31"}', "$.guests[0].age"),
        ('{"guests":[],"night":"soon"}', "$.night"),
        ('{"guests":[],"night":"2026-01-31","lunch":true}', "no parameter 'lunch'"),
        ('{"guests":[],"night":"2026-01-31","about":{}}', "no parameter 'about'"),
        ('{"guests":[],"night":"2026-01-31","breakfast":"yes"}', "$.breakfast"),
        ("[" * 100_000, "not"),
    ],
    ids=lambda given: given[:40],
)
async def test_arguments_that_do_not_fit_are_told_and_not_run(arguments: str, said: str) -> None:
    """What to mend, by its place."""
    text, error = await run(book, arguments)
    assert error
    assert said in text


class Shop:
    """Something with methods."""

    def __init__(self) -> None:
        self.sold: list[str] = []

    def sell(self, what: str, /, number: int = 1) -> int:
        """Sells."""
        self.sold.append(what)
        return number

    async def __call__(self, what: str) -> str:
        """Asks for something."""
        await anyio.lowlevel.checkpoint()
        return what


async def test_methods_parts_of_functions_and_objects_that_can_be_called() -> None:
    """Whatever has a signature."""
    shop = Shop()
    assert await run(shop.sell, '{"what":"tea","number":2}') == ("2", False)
    assert shop.sold == ["tea"]
    assert await run(functools.partial(google, unit="F"), '{"city":"Rome"}') == ("Rome F", False)
    assert await run(tool(shop, name="ask"), '{"what":"tea"}') == ("tea", False)
    assert await run(tool(lambda: "now", name="time"), "") == ("now", False)


async def test_a_schema_of_the_callers_stands_for_the_signature() -> None:
    """The function is given the object; what does not fit is told all the same."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    seen: list[Any] = []

    async def remote(arguments: dict[str, Any], context: Context) -> str:
        seen.append((arguments, context.call_id))
        return "ok"

    given = tool(remote, parameters=schema, description="Elsewhere.")
    assert given.declared.parameters == schema
    assert given.declared.description == "Elsewhere."
    assert await run(given, '{"n":3,"more":1}') == ("ok", False)
    assert seen[0][0] == {"n": 3, "more": 1}
    assert seen[0][1]
    text, error = await run(given, '{"n":"three"}')
    assert error
    assert "$.n" in text


def test_a_strict_schema_is_the_providers_kind() -> None:
    """Every property required, nothing besides; a type that cannot be said so is refused."""
    (declared,) = Tools([tool(google, strict=True)]).declared
    assert declared.strict is True
    assert declared.parameters["required"] == ["city", "unit"]
    assert declared.parameters["additionalProperties"] is False

    def free(anything: dict[str, int]) -> str:
        return str(anything)

    with pytest.raises(ConfigurationError, match="strict"):
        tool(free, strict=True)


def untyped(city) -> str:  # type: ignore[no-untyped-def] # noqa: ANN001
    """No types."""
    return str(city)


def starred(*cities: str) -> str:
    """Any number."""
    return ",".join(cities)


def named(**cities: str) -> str:
    """Any names."""
    return ",".join(cities)


def impossible(function: Callable[[], int]) -> int:
    """JSON has no functions."""
    return function()


def pieces() -> Any:
    """Gives one after the other."""
    yield 1


def lost(city: Nowhere) -> str:  # type: ignore[name-defined] # noqa: F821
    """Its type is not there."""
    return str(city)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (untyped, "'city'.*has no type"),
        (starred, r"\*cities"),
        (named, r"\*\*cities.*parameters="),
        (impossible, "function"),
        (pieces, "generator"),
        (lost, "Nowhere"),
        (Shop, "class Shop"),
        (Shop.sell, "method of an object"),
        (lambda: 1, "name"),
        (min, "no signature"),
        (7, "7"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_with_the_remedy(given: Any, words: str) -> None:
    """When the layer is made."""
    with pytest.raises(ConfigurationError, match=words):
        Tools([given])


@pytest.mark.parametrize(
    "options",
    [
        {"name": "no spaces"},
        {"name": "x" * 65},
        {"timeout": 0},
        {"timeout": timedelta(seconds=-1)},
        {"retries": 1},
        {"retries": -1, "idempotent": True},
        {"idempotent": 1},
        {"approve": "always"},
        {"max_output": 0},
        {"parameters": {"type": "string"}},
        {"parameters": {"type": "object"}},
        {"unknown": 1},
        {"description": 3},
        {"strict": 1},
    ],
    ids=str,
)
def test_wrong_options_of_a_tool_are_refused(options: dict[str, Any]) -> None:
    """The message names the option, as it was written."""

    def nothing() -> None:
        """No parameters."""

    with pytest.raises(ConfigurationError, match=rf"^tool\(.*{next(iter(options))}"):
        tool(nothing, **options)
