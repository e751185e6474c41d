"""What is said of mistakes in named stacks: all of them at once, each with its place."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import pytest
from preset_layers import Again, Calling, Look, layers, names, said, write

from lamella import (
    ConfigurationError,
    Handler,
    Pipeline,
    Preset,
    Registry,
    Request,
    UnknownNameError,
)

__all__ = ("names",)  # the fixture holds for all tests here

# --- mistakes ---------------------------------------------------------------------------------


def test_every_mistake_is_reported_with_who_made_it() -> None:
    """Mistakes in the file and in the call are told apart, and all of them are told."""
    write("""
[presets.mine]
extends = "base"
transport = { use = "line", hots = "x" }
layers = [{ use = "again", attempts = "five", puase = 1 }, "bound", { use = "metre" }]
without = ["lock"]
""")
    assert said("mine", again={"pause": "long"}, look={"format": 3}, agian={"attempts": 1}) == [
        (
            "lamella.toml: presets.mine.without[0]: There is no middleware 'lock'. "
            "Did you mean 'look'? Known are again, bound, look, meter."
        ),
        (
            "lamella.toml: presets.mine.layers[2]: There is no middleware 'metre'. "
            "Did you mean 'meter'? Known are again, bound, look, meter."
        ),
        (
            "Pipeline.preset('mine'): agian: is neither a layer nor an option of Pipeline. "
            "Did you mean 'again'?"
        ),
        "Pipeline.preset('mine'): look.format: got 3, expected a string",
        "lamella.toml: presets.mine.layers[0].attempts: got 'five', expected an integer",
        "Pipeline.preset('mine'): again.pause: got 'long', expected a number",
        "lamella.toml: presets.mine.layers[0].puase: is no option. Did you mean 'pause'?",
        "lamella.toml: presets.mine.layers[1].seconds: is missing, expected a number",
        "lamella.toml: presets.mine.transport.hots: is no option. Did you mean 'host'?",
    ]


def test_mistakes_of_one_kind_raise_that_kind() -> None:
    """Where only names are wrong, the error is the one for names."""
    with pytest.raises(UnknownNameError, match=r"agian: .*\n.*loko: "):
        Pipeline.preset("base", agian=True, loko=None)


def test_a_range_is_a_mistake_with_a_place() -> None:
    """What a layer itself refuses has its place too."""
    assert said("base", again={"attempts": 0}) == [
        "Pipeline.preset('base'): again.attempts: 'attempts' must be >= 1: 0"
    ]


def test_presets_that_extend_each_other_are_refused() -> None:
    """A circle, or extending what is not there, is an error that names it."""
    write("""
[presets.a]
extends = "b"
[presets.b]
extends = "a"
[presets.c]
extends = "c"
""")
    (line,) = said("a", transport="line")
    assert line.endswith("These presets extend each other: a -> b -> a.")
    (line,) = said("c", transport="line")
    assert line.startswith("lamella.toml: presets.c.extends: There is no preset 'c'")


def test_a_stack_without_a_transport_is_refused() -> None:
    """Nobody gets invented answers because a transport was forgotten."""
    write("[presets.x]\nlayers = ['look']\n")
    assert said("x") == [
        (
            "Pipeline.preset('x'): nothing names a transport; pass transport='openai', or 'mock' "
            "for answers without a network"
        )
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("layers = ['look', 'look']\nextends = 'base'", "layers[1]: 'look' stands here twice"),
        ("without = ['look']", "without: there is nothing to leave out without `extends`"),
        ("extends = 'bsae'", "extends: There is no preset 'bsae'. Did you mean 'base'?"),
        ("transport = 'lien'", "transport: There is no transport 'lien'. Did you mean 'line'?"),
        ("transport = { host = 'x' }", "transport.use: is missing, expected a name"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, line: str) -> None:
    """What cannot be meant is a mistake, with its place."""
    write(f"[presets.x]\n{text}\n")
    assert said("x")[0].startswith(f"lamella.toml: presets.x.{line}")


def test_a_layer_that_stands_twice_is_not_changed_by_name() -> None:
    """Where a name means two layers, options by name are refused; leaving out means both."""
    write("[presets.x]\ntransport = 'line'\nlayers = ['look', 'look']\n")
    assert "stands in the stack 2 times" in said("x", look={"format": "json"})[0]
    assert layers(Pipeline.preset("x", look=None)) == []


def test_mistakes_in_code_are_found_when_the_record_is_made() -> None:
    """A preset in code is checked like one in a file, where it is written."""
    with pytest.raises(
        ConfigurationError, match=r"layers\[1\]: got 5, expected a name, or a table"
    ):
        Preset(layers=["look", 5])
    with pytest.raises(ConfigurationError, match="transport: got 5, expected a name"):
        Preset(transport=5)
    assert (
        "was given as an object"
        in said(Preset(layers=[Look()], transport="line"), look={"format": "json"})[0]
    )
    (line,) = said("base", look=5)
    assert line.endswith("look: got 5, expected options, true or false: look={'format': ...}")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"max_attempts": "5"}, "max_attempts: got '5', expected an integer"),
        ({"max_attempts": True}, "max_attempts: got True, expected an integer"),
        ({"allow": "meter outside again"}, "allow: got 'meter outside again', expected a list"),
        ({"ports": 5}, "ports: got 5, expected"),
        ({"again": {"max-wait": 1, "max_wait": 2}}, "again.max_wait: is there already"),
        ({"again": {5: 1}}, "again.5: is no option: its name is no text"),
        ({"agian": Again(9)}, "agian: is given a 'again', of which there is one already"),
        ({"again": [3]}, "again: got [3], expected options, true or false: again={'attempts': "),
    ],
)
def test_overrides_of_any_shape_are_told(overrides: dict[str, Any], line: str) -> None:
    """What an override cannot be is a mistake of the call, never another exception."""
    assert said("base", **overrides)[0].startswith(f"Pipeline.preset('base'): {line}")


def weather(city: str) -> str:
    """The weather of a city."""
    return city


async def news(topic: str, *, most: int = 3) -> str:
    """The news of a topic."""
    return topic * most


@attrs.frozen
class Named:
    """A function with options, as a layer may make them."""

    name: str

    def __call__(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("given", "offer"),
    [
        (weather, "the function 'weather' is no layer; write tools={'tools': [weather]}"),
        (news, "the function 'news' is no layer; write tools={'tools': [news]}"),
        (partial(news, most=2), "the function 'news' is no layer; write tools={'tools': [news]}"),
        (Named("sport"), "the function 'sport' is no layer; write tools={'tools': [sport]}"),
        ([weather], "options, true or false: tools={'tools': [weather]}"),
        ([weather, news], "options, true or false: tools={'tools': [weather, news]}"),
    ],
)
def test_functions_for_a_model_are_options_of_a_layer(
    names: Registry, given: Any, offer: str
) -> None:
    """Where a layer takes what was given as its first option, the remedy is written out."""
    names.add(middlewares={"tools": Calling})
    (line,) = said("base", tools=given)
    assert line.startswith("Pipeline.preset('base'): tools: ")
    assert line.endswith(offer)


def test_a_function_that_no_layer_takes_is_told_how_layers_look() -> None:
    """A layer has two parameters, and is asynchronous; one that is may replace another."""

    async def mine(request: Request[Any], call_next: Handler) -> Any:
        return await call_next(request)

    async def further(request: Request[Any], call_next: Handler, times: int = 1) -> Any:
        return await call_next(request)

    assert layers(Pipeline.preset("base", again=mine))
    assert layers(Pipeline.preset("base", again=partial(further, times=2)))
    for name in ("again", "forecast"):
        assert "`async def weather(request, call_next)`" in said("base", **{name: weather})[0]


def test_nothing_leaves_what_the_preset_says() -> None:
    """None for an option of the pipeline is as if it had not been given."""
    preset = Preset(extends="base", max_attempts=4)
    assert Pipeline.preset(preset, max_attempts=None, allow=None, ports=None).max_attempts == 4


def test_a_preset_is_named_or_given() -> None:
    """Something else in its place is refused by name; a file's path is a path."""
    wrong: list[Any] = [5, b"base", Preset, {"layers": []}]
    for name in wrong:
        assert "a preset is given by its name, or as a Preset(...)" in said(name)[0]
    paths: list[Any] = [5, True, b"x", "a\0b", "~nobody-of-that-name/x.toml", "."]
    for path in paths:
        assert "Give the path of a file that can be read." in said("base", config=path)[0]


@pytest.mark.parametrize(
    ("options", "said_of_it"),
    [
        ({"without": "look"}, "without: got 'look', expected a list, each a string"),
        ({"without": [5]}, r"without\[0\]: got 5, expected a string"),
        ({"allow": "meter outside again"}, "allow: got 'meter outside again', expected a list"),
        ({"max_attempts": 0}, "max_attempts: got 0, expected a whole number, 1 or more"),
        ({"max_attempts": "1"}, "max_attempts: got '1', expected an integer"),
        ({"extends": 5}, "extends: got 5, expected a string"),
        ({"name": 5}, "name: got 5, expected a string"),
        ({"layers": [{"use": "again", "a-b": 1, "a_b": 1}]}, r"layers\[0\]\.a_b: is there already"),
    ],
)
def test_code_is_held_to_what_a_file_is(options: dict[str, Any], said_of_it: str) -> None:
    """A record refuses what a file could not say, where it is made."""
    with pytest.raises(ConfigurationError, match=f"^{said_of_it}"):
        Preset(**options)


def test_a_number_that_is_out_of_range_has_its_place() -> None:
    """`max_attempts` in a file is judged where it was written."""
    write("[presets.x]\ntransport = 'line'\nmax_attempts = 0\n")
    line = "lamella.toml: presets.x.max_attempts: got 0, expected a whole number, 1 or more"
    assert said("x") == [line]


def test_a_preset_that_only_extends_itself_says_so() -> None:
    """The name that is missing is not offered as the nearest one."""
    write("[presets.own]\nextends = 'own'\n")
    (line,) = said("own", transport="line")
    assert line == (
        "lamella.toml: presets.own.extends: There is no preset 'own' below the one that extends it "
        "by its own name."
    )
