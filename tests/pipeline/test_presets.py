"""Named stacks: where they come from, how they extend each other, how they are explained."""

from __future__ import annotations

import tomllib
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import pytest
from preset_layers import (
    Again,
    Bound,
    Line,
    Look,
    Meter,
    Site,
    _Passing,
    layers,
    names,
    said,
    write,
)

from lamella import (
    ChatRequest,
    Handler,
    OrderError,
    Pipeline,
    Preset,
    Registry,
    UnknownNameError,
)
from lamella._explain import _installed
from lamella._presets import preset_names
from lamella._registry import using
from lamella_middlewares import _presets

__all__ = ("names",)  # the fixture holds for all tests here

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
