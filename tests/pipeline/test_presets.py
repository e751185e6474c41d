"""Named stacks: where they come from, how they extend each other, and what is said of mistakes."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import attrs
import pytest

from lamella import (
    ChatRequest,
    ConfigurationError,
    Handler,
    OrderError,
    Pipeline,
    Preset,
    Registry,
    Request,
    UnknownNameError,
    middleware,
)
from lamella._explain import _installed
from lamella._presets import preset_names
from lamella._registry import using
from lamella_middlewares import _presets


class Site(Protocol):
    """See conftest.py."""

    folder: Path

    def plugin(self, name: str, source: str, **more: str) -> None: ...
    def registry(self, *allow: str) -> Registry: ...


@attrs.frozen
class _Passing:
    async def __call__(self, request: Request[Any], call_next: Handler) -> Any:
        return await call_next(request)


@middleware(phase="observe", name="look")
@attrs.frozen
class Look(_Passing):
    format: str = "console"


@middleware(phase="attempt", rank=0, name="again")
@attrs.frozen
class Again(_Passing):
    attempts: int = attrs.field(default=3, validator=attrs.validators.ge(1))
    pause: float = 1.0


@middleware(phase="attempt", rank=90, name="bound")
@attrs.frozen
class Bound(_Passing):
    seconds: float


@middleware(phase="wire", name="meter", inside={"again": "attempts that failed would be free"})
@attrs.frozen
class Meter(_Passing):
    pass


@middleware(phase="compose", name="tools")
@attrs.frozen
class Calling(_Passing):
    """A layer whose first option is a list of functions."""

    tools: Sequence[Any] = attrs.field(
        validator=attrs.validators.deep_iterable(attrs.validators.is_callable())
    )
    most: int = 10


@attrs.frozen
class Line:
    """A transport with an option."""

    host: str = "here"

    async def __call__(self, request: ChatRequest) -> Any:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def names(site: Site) -> Any:
    """Four layers, two transports and one preset, and no others; an empty working directory."""
    found = site.registry()
    found.add(
        middlewares={"look": Look, "again": Again, "bound": Bound, "meter": Meter},
        transports={"line": Line, "far": {"use": "line", "host": "far"}},
        presets={
            "base": Preset(
                layers=["look", {"use": "again", "attempts": 2, "pause": 5}, "meter"],
                transport="line",
            )
        },
    )
    with using(found):
        yield found


def write(text: str, name: str = "lamella.toml") -> None:
    """Write a file into the working directory."""
    Path(name).write_text(text)


def layers(pipeline: Pipeline) -> list[Any]:
    """The layers of a pipeline."""
    return list(pipeline.layers)


def said(*arguments: Any, **overrides: Any) -> list[str]:
    """The lines of the error that building a preset raises."""
    with pytest.raises(ConfigurationError) as caught:
        Pipeline.preset(*arguments, **overrides)
    return str(caught.value).splitlines()


# --- where they come from ---------------------------------------------------------------------


def test_a_preset_is_a_pipeline_by_name() -> None:
    """The stack, its options and its transport are those of the preset, and so is its name."""
    pipeline = Pipeline.preset("base")
    assert layers(pipeline) == [Look(), Again(2, 5), Meter()]
    assert pipeline.transport == Line()
    assert pipeline.name == "base"


def test_a_record_is_used_as_it_is() -> None:
    """A preset that has no name is given itself; in code layers may be objects."""
    preset = Preset(extends="base", layers=[Again(attempts=9)], transport=Line("x"), name="own")
    pipeline = Pipeline.preset(preset)
    assert layers(pipeline) == [Look(), Again(9), Meter()]
    assert (pipeline.name, pipeline.transport) == ("own", Line("x"))


def test_the_variable_names_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a name `LAMELLA_ENV` decides, and without that it is `development`."""
    write("[presets.development]\ntransport = 'far'\n")
    assert Pipeline.preset().name == "development"
    monkeypatch.setenv("LAMELLA_ENV", "base")
    assert Pipeline.preset().name == "base"
    monkeypatch.setenv("LAMELLA_ENV", "bse")
    (line,) = said()
    assert line == (
        "There is no preset 'bse'. LAMELLA_ENV names it. Did you mean 'base'? "
        "Known are base, development."
    )


def test_files_come_before_code_and_code_before_plugins(site: Site) -> None:
    """The nearest preset of a name wins, and may extend the one that it replaces."""
    source = """
    def lamella_presets():
        return {"base": {"layers": ["look"], "transport": "line"}, "theirs": {"transport": "line"}}
    """
    site.plugin("lamella-presets", source)
    found = site.registry()
    found.add(
        middlewares={"look": Look, "again": Again, "bound": Bound},
        transports={"line": Line, "far": Line},
        presets={"base": Preset(extends="base", layers=["again"])},
    )
    write("""
[presets.base]
extends = "base"
layers = [{ use = "bound", seconds = 3 }]
[presets.mine]
extends = "base"
""")
    with using(found):
        assert layers(Pipeline.preset("base")) == [Look(), Again(), Bound(3)]
        assert layers(Pipeline.preset("mine")) == [Look(), Again(), Bound(3)]
        assert preset_names() == {
            "base": "lamella.toml",
            "mine": "lamella.toml",
            "theirs": "lamella-presets 1.0",
        }


def test_another_file_may_be_named(names: Registry) -> None:
    """`config` is read instead of `lamella.toml`."""
    write("[presets.x]\ntransport = 'far'\n", "other.toml")
    assert Pipeline.preset("x", config="other.toml").transport == Line("far")
    assert preset_names("other.toml")["x"] == "other.toml"
    with pytest.raises(UnknownNameError):
        Pipeline.preset("x")


def test_a_named_file_may_restrict_plugins(site: Site) -> None:
    """The allow-list of the file that is named holds for the pipeline that it makes."""
    site.plugin("lamella-far", "def lamella_transports(): return {'theirs': dict}")
    write("[presets.x]\ntransport = 'theirs'\n[plugins]\nallow = []\n", "other.toml")
    with using(site.registry()):
        (line,) = said("x", config="other.toml")
    assert line.startswith("other.toml: presets.x.transport: There is no transport 'theirs'.")
    assert "keeps out lamella-far" in line


# --- how they change --------------------------------------------------------------------------


def test_extending_changes_what_is_named() -> None:
    """A layer that is there keeps its place and its other options; a new one goes to its phase."""
    write("""
[presets.mine]
extends = "base"
transport = { use = "line", host = "x" }
layers = [{ use = "bound", seconds = 4 }, { use = "again", attempts = 7 }]
without = ["look"]
max_attempts = 8
name = "renamed"
""")
    pipeline = Pipeline.preset("mine")
    assert layers(pipeline) == [Again(7, 5), Bound(4), Meter()]
    assert (pipeline.transport, pipeline.max_attempts) == (Line("x"), 8)
    assert pipeline.name == "renamed"


def test_overrides_change_what_is_named() -> None:
    """Options are set, layers left out, added or replaced; other options are the pipeline's."""
    pipeline = Pipeline.preset(
        "base",
        transport={"use": "far"},
        look=None,
        again={"attempts": 4},
        bound={"seconds": 9},
        meter=True,
        max_attempts=5,
    )
    assert layers(pipeline) == [Again(4, 5), Bound(9), Meter()]
    assert (pipeline.transport, pipeline.max_attempts) == (Line("far"), 5)
    assert layers(Pipeline.preset("base", again=Again(8), look=False)) == [Again(8), Meter()]
    assert layers(Pipeline.preset("base", bound=Bound(2)))[2] == Bound(2)


def test_what_is_added_disturbs_no_order_that_was_written() -> None:
    """The order of a preset is kept as it is, unusual or not, when a layer is added to it."""
    write("""
[presets.odd]
transport = "line"
layers = ["meter", "again", "look"]
allow = ["meter outside again"]
""")
    with pytest.raises(OrderError, match="attempts that failed would be free"):
        Pipeline.preset(Preset(layers=["meter", "again"], transport="line"))
    pipeline = Pipeline.preset("odd", bound={"seconds": 1})
    assert layers(pipeline) == [Bound(1), Meter(), Again(), Look()]
    assert pipeline.allow == ("meter outside again",)
    assert Pipeline.preset("odd", again=None).allow == ()


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


# --- as it is explained -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("development", ["log", "deadline", "retry", "timeout", "cost"]),
        ("debug", ["debug", "log", "deadline", "retry", "timeout", "cost"]),
        (
            "production",
            [
                "log",
                "deadline",
                "load_shed",
                "retry",
                "concurrency",
                "circuit_breaker",
                "timeout",
                "cost",
            ],
        ),
        (
            "cost",
            [
                "log",
                "deadline",
                "cache",
                "single_flight",
                "circuit_breaker",
                "timeout",
                "prompt_cache",
                "cost",
            ],
        ),
        ("test", ["deadline", "cost"]),
    ],
)
def test_a_built_in_preset_explains_itself(name: str, expected: list[str]) -> None:
    """Each layer has its phase, what differs from its defaults, and whose it is; nothing odd."""
    with using(Registry(allow=())):
        explained = Pipeline.preset(name, transport="mock").explain()
    assert [layer.name for layer in explained.layers] == expected
    assert (explained.name, explained.transport, explained.doubts) == (name, "mock", ())
    for layer in explained.layers:
        assert (layer.distribution, layer.phase is None) == ("lamella", False)


def test_the_page_says_of_each_built_in_preset_what_it_is() -> None:
    """Line by line, as a file would; a page that lags behind fails."""
    page = (Path(__file__).parents[2] / "docs" / "presets.md").read_text()
    told = tomllib.loads(page.partition("```toml\n")[2].partition("```")[0])["presets"]
    assert told == {
        "cost": _presets.COST,
        "debug": _presets.DEBUG,
        "development": _presets.DEVELOPMENT,
        "production": _presets.PRODUCTION,
        "test": _presets.TEST,
    }


def whole(given: Any) -> int:
    """A converter that does not take its own default."""
    return int(given)


@attrs.frozen
class Odd(_Passing):
    """A layer of which little can be said, and some of it may not."""

    api_key: str = ""
    headers: Any = None
    masked: str = attrs.field(default="", repr=lambda _: "***")
    number: int = attrs.field(default=1, converter=attrs.Converter(whole))  # type: ignore[misc]
    strict: int = attrs.field(default=None, converter=whole)
    template: str = ""
    max_tokens: int = 1


def test_an_explanation_shows_no_key_and_survives_strangers() -> None:
    """Keys are hidden by their names, a field's own repr holds, and what is long is cut."""
    odd = Odd("sk-abc", {"Authorization": "Bearer sk-abc"}, "sk-abc", 1, 2, "word " * 200, 5)
    (line,) = [
        line for line in str(Pipeline([odd], Line()).explain()).splitlines() if "odd" in line
    ]
    assert "sk-abc" not in line
    assert "api_key=<hidden>  headers=<hidden>  masked=***  strict=2  template='word" in line
    assert "number" not in line
    assert "max_tokens=5" in line
    assert len(line) < 300
    assert "sk-abc" not in repr(Pipeline([odd], Line()).explain())


def test_a_function_with_options_is_explained_as_itself() -> None:
    """What `functools.partial` makes belongs to whoever wrote the function."""

    async def greet(request: ChatRequest, call_next: Handler, *, word: str) -> Any:
        return await call_next(request)

    (layer,) = Pipeline([partial(greet, word="hi")], Line()).explain().layers
    assert (layer.name, layer.distribution) == ("greet", f"module {__name__}")


def test_what_is_installed_meanwhile_is_explained(site: Site) -> None:
    """What is installed is looked through again once it has changed, and only then."""
    Pipeline([_Passing()], Line()).explain()
    site.plugin("lamella-later", "async def later(request, call_next): ...")
    layer: Any = import_module("lamella_later").later
    scans: set[int] = set()
    for _ in range(2):
        (explained,) = Pipeline([layer], Line()).explain().layers
        assert explained.distribution == "lamella-later"
        scans.add(_installed.cache_info().misses)
    assert len(scans) == 1
