"""Reading `lamella.toml`, and giving options the shape that their annotations ask for."""

from __future__ import annotations

import datetime as dt
import enum
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
import pytest

from lamella import ConfigurationError, Money, Preset, Secret
from lamella._configuration import read_configuration
from lamella._mistakes import Misfit, Mistakes, Place
from lamella._preset_records import Use
from lamella._structuring import build, fit, parameters_of

if TYPE_CHECKING:
    from fractions import Fraction as Unknown  # a name that is not there at run time

USE = "a name, or a table such as { use = 'retry', attempts = 5 }"
USE_TRANSPORT = "a name, or a table such as { use = 'azure', resource = 'acme' }"


class Colour(enum.Enum):
    """Two colours."""

    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Inner:
    """A record inside a record."""

    size: int
    words: tuple[str, ...] = ()


def seconds(value: float | dt.timedelta | None) -> float | None:
    """Seconds from either."""
    return value.total_seconds() if isinstance(value, dt.timedelta) else value


@attrs.frozen
class Outer:
    """A record with options of many shapes."""

    number: int
    inner: Inner | None = None
    inners: Sequence[Inner] = ()
    wait: float | None = attrs.field(default=None, converter=seconds)
    mode: Literal["fast", "slow"] = "fast"
    _hidden: int = 0
    made: int = attrs.field(default=9, init=False)


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins in an empty folder, with no variable set."""
    monkeypatch.chdir(tmp_path)
    for name in ("LAMELLA_CONFIG", "LAMELLA_ENV", "LAMELLA_PLUGINS"):
        monkeypatch.delenv(name, raising=False)


def misfit(wanted: Any, value: object) -> str:
    """What is said of a value that does not fit."""
    with pytest.raises(Misfit) as caught:
        fit(value, wanted)
    return str(caught.value)


def refused(factory: Callable[..., Any], options: Mapping[str, object]) -> list[str]:
    """What is said of options that do not fit."""
    mistakes = Mistakes()
    with pytest.raises(Misfit) as caught:
        build(factory, options)
    mistakes.add(Place("here"), *caught.value.findings)
    with pytest.raises(ConfigurationError) as raised:
        mistakes.raise_any()
    return str(raised.value).splitlines()


# --- shapes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "value", "result"),
    [
        (int, 5, 5),
        (float, 5, 5),
        (bool, False, False),
        (str, "", ""),
        (float | None, None, None),
        (float | dt.timedelta, 2, 2),
        (dt.timedelta, 1.5, dt.timedelta(seconds=1.5)),
        (dt.timedelta | None, dt.timedelta(1), dt.timedelta(1)),
        (Path, "~", Path.home()),
        (Literal["a", 1], 1, 1),
        (Colour, "red", Colour.RED),
        (list[int], (1, 2), [1, 2]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, str], [1, "x"], (1, "x")),
        (frozenset[str], ["a"], frozenset({"a"})),
        (Collection[str], ["a"], ("a",)),
        (Mapping[str, int], {"a": 1}, {"a": 1}),
        (dict[str, Inner], {"a": {"size": 1}}, {"a": Inner(1)}),
        (str | Inner, {"size": 1, "words": ["w"]}, Inner(1, ("w",))),
        (Inner, Inner(3), Inner(3)),
        (Secret, "env:KEY", Secret("env:KEY")),
        (Callable[[str], str], str.upper, str.upper),
        (Any, "anything", "anything"),
        (dt.date, dt.date(2026, 11, 21), dt.date(2026, 11, 21)),
    ],
)
def test_a_value_that_fits_is_taken(wanted: Any, value: object, result: object) -> None:
    """Values of the annotated type are taken, lists and tables made into what is asked for."""
    fitted = fit(value, wanted)
    assert (type(fitted), fitted) == (type(result), result)


@pytest.mark.parametrize(
    ("wanted", "value", "said"),
    [
        (int, "5", "got '5', expected an integer"),
        (int, True, "got True, expected an integer"),
        (int, 5.0, "got 5.0, expected an integer"),
        (float, "fast", "got 'fast', expected a number"),
        (float, False, "got False, expected a number"),
        (bool, 1, "got 1, expected true or false"),
        (str, 5, "got 5, expected a string"),
        (str, Colour.RED, "got <Colour.RED: 'red'>, expected a string"),
        (float | dt.timedelta | None, "1s", "got '1s', expected a number of seconds"),
        (dt.timedelta, [], "got [], expected a number of seconds"),
        (Path, 3, "got 3, expected a path"),
        (Literal["a", "b"], "c", "got 'c', expected one of 'a', 'b'"),
        (Literal[1], True, "got True, expected 1"),
        (Colour, "green", "got 'green', expected one of 'red', 'blue'"),
        (list[int], "12", "got '12', expected a list, each an integer"),
        (tuple[int, str], [1], "got [1], expected a list of 2"),
        (list[int], [1, "x", None], "[1]: got 'x', expected an integer\n[2]: got None, expected "),
        (Mapping[str, int], [1], "got [1], expected a table"),
        (dict[str, int], {"a": {}}, "a: got {}, expected an integer"),
        (Inner, "big", "got 'big', expected a table of Inner's options"),
        (Inner | None, {"size": "x"}, "size: got 'x', expected an integer"),
        (Money, 5, "got 5, expected a table of Money's options"),
        (Money | str | int, True, "got True, expected text such as '5.00'"),
        (Money | str | int, 5.0, "got 5.0, expected text such as '5.00', since a float is not"),
        (Callable[[], str], "f", "got 'f', expected a Callable, from code"),
        (Callable[[], str] | str, 5, "got 5, expected a string"),
        (Secret, 5, "expected a reference such as 'env:NAME' or 'file:PATH'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(wanted: Any, value: object, said: str) -> None:
    """Nothing is coerced; the message has the value and what was expected."""
    assert misfit(wanted, value).startswith(said)


def test_every_mistake_is_found_with_its_path() -> None:
    """Unknown, missing and wrong options are found in one go, at any depth."""
    options: dict[str, object] = {
        "inner": {"size": "x", "wrods": []},
        "inners": [{"size": 1}, {"size": 1, "words": ["a", 2]}, 7],
        "wait": "long",
        "mode": "medium",
        "hiden": 1,
    }
    assert refused(Outer, options) == [
        "here: inner.size: got 'x', expected an integer",
        "here: inner.wrods: is no option. Did you mean 'words'?",
        "here: inners[1].words[1]: got 2, expected a string",
        "here: inners[2]: got 7, expected a table of Inner's options",
        "here: wait: got 'long', expected a number of seconds",
        "here: mode: got 'medium', expected one of 'fast', 'slow'",
        "here: hiden: is no option. Did you mean 'hidden'?",
        "here: number: is missing, expected an integer",
    ]


def test_what_may_be_anything_has_to_be_there() -> None:
    """Nothing can be said of what it is, so it is not said."""

    @attrs.frozen
    class Loose:
        embed: Any

    assert refused(Loose, {}) == ["here: embed: is missing, and has no default"]


def test_options_go_by_the_names_of_the_arguments() -> None:
    """An option has the name of the argument; `-` stands for `_`; what is no argument is none."""
    made = build(Outer, {"number": 1, "hidden": 5, "inner": {"size": 2}})
    assert (made.number, made._hidden, made.inner, made.made) == (1, 5, Inner(2), 9)
    assert refused(Outer, {"number": 1, "made": 5})[0].startswith("here: made: is no option.")


def test_ranges_are_judged_by_the_class_itself() -> None:
    """What the class refuses is reported for each option that it refuses, with its words."""

    @attrs.frozen
    class Ranged:
        low: int = attrs.field(validator=attrs.validators.ge(1))
        high: int = attrs.field(default=5, validator=attrs.validators.le(9))
        step: int = attrs.field(default=1, validator=attrs.validators.ge(1))

        def __attrs_post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    assert refused(Ranged, {"low": 0}) == ["here: low: 'low' must be >= 1: 0"]
    assert refused(Ranged, {"low": 1, "high": 10, "step": 0}) == [
        "here: high: 'high' must be <= 9: 10",
        "here: step: 'step' must be >= 1: 0",
    ]
    assert refused(Ranged, {"low": 4, "high": 3}) == ["here: high: low is above high"]


def test_a_class_without_attrs_is_read_by_its_signature() -> None:
    """A stranger's class or function needs no attrs: its annotations are enough."""

    class Plain:
        def __init__(self, size: int, *, name: str = "x", odd: Unknown | None = None) -> None:
            self.all = (size, name, odd)

    def make(size: int, **rest: object) -> tuple[int, dict[str, object]]:
        if size < 0:
            raise OSError("no disk")
        return size, rest

    assert build(Plain, {"size": 1, "odd": object}).all == (1, "x", object)
    assert refused(Plain, {"name": 5, "sise": 1}) == [
        "here: name: got 5, expected a string",
        "here: sise: is no option. Did you mean 'size'?",
        "here: size: is missing, expected an integer",
    ]
    assert build(partial(make, size=4), {"more": 1}) == (4, {"more": 1})
    assert refused(make, {"size": -1}) == ["here: could not be made: OSError: no disk"]


def test_what_may_be_a_key_is_not_shown() -> None:
    """The value of an option that may hold a secret stays out of the message."""

    @attrs.frozen
    class Client:
        api_key: str | None = None
        token: Secret | None = None

    found = refused(Client, {"api_key": ["sk-abc"], "token": "sk-abc", "apikey": "sk-abc"})
    assert not any("sk-abc" in line for line in found)
    assert found[0] == "here: api_key: got a value that is not shown, expected a string"
    assert found[1].startswith("here: token: A secret is given by reference")


# --- the file ---------------------------------------------------------------------------------


def test_without_a_file_there_is_nothing_to_say() -> None:
    """No file is no mistake, unless it was named."""
    assert read_configuration().settings.presets == {}
    with pytest.raises(ConfigurationError, match=r"other\.toml cannot be read: No such file"):
        read_configuration("other.toml")


def test_the_variable_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """`LAMELLA_CONFIG` is read instead of the file in the working directory."""
    Path("lamella.toml").write_text("[presets.here]\n")
    Path("there.toml").write_text("[presets.there]\n")
    assert list(read_configuration().settings.presets) == ["here"]
    monkeypatch.setenv("LAMELLA_CONFIG", "there.toml")
    assert list(read_configuration().settings.presets) == ["there"]
    monkeypatch.setenv("LAMELLA_CONFIG", "gone.toml")
    with pytest.raises(ConfigurationError, match=r"gone\.toml \(LAMELLA_CONFIG names it\) cannot"):
        read_configuration()


def test_a_file_is_read_again_when_it_has_changed() -> None:
    """A change to the file is seen by the next that asks; an unchanged one is not read again."""
    file = Path("lamella.toml")
    file.write_text("[presets.one]\n")
    first = read_configuration().settings
    assert read_configuration().settings is first
    file.write_text("[presets.other]\n")
    assert list(read_configuration().settings.presets) == ["other"]


def test_all_that_a_preset_can_say() -> None:
    """The keys of a preset in a file are those of the record."""
    Path("lamella.toml").write_text("""
[presets.production]
extends = "production"
transport = { use = "azure", resource = "acme" }
layers = ["log", { use = "retry", attempts = 5 }]
without = ["timeout"]
allow = ["cost outside retry"]
max_attempts = 3
name = "web"

[plugins]
allow = ["lamella-redis"]
""")
    settings = read_configuration().settings
    preset = settings.presets["production"]
    assert preset.layers == (Use("log"), Use("retry", {"attempts": 5}))
    assert preset.transport == Use("azure", {"resource": "acme"})
    assert (preset.extends, preset.name, preset.max_attempts) == ("production", "web", 3)
    assert (list(preset.without), list(preset.allow)) == (["timeout"], ["cost outside retry"])
    assert settings.plugins.allow == ("lamella-redis",)


def test_every_mistake_of_a_file_is_reported_at_once() -> None:
    """Each line has the file, the key path, the value, and what was expected."""
    Path("lamella.toml").write_text("""
[preset.x]

[plugins]
alow = []

[presets.a]
layers = ["log", 5, { attempts = 5 }, { use = 3 }]
transport = []
extends = 7

[presets.b]
layers = "log"
max_attempts = "ten"

[presets."my own"]
layer = []
""")
    with pytest.raises(ConfigurationError) as caught:
        read_configuration()
    assert str(caught.value).splitlines() == [
        "lamella.toml: preset: is no option. Did you mean 'presets'?",
        "lamella.toml: plugins.alow: is no option. Did you mean 'allow'?",
        "lamella.toml: presets.a.extends: got 7, expected a string",
        f"lamella.toml: presets.a.layers[1]: got 5, expected {USE}",
        "lamella.toml: presets.a.layers[2].use: is missing, expected a name",
        "lamella.toml: presets.a.layers[3].use: got 3, expected a name",
        f"lamella.toml: presets.a.transport: got [], expected {USE_TRANSPORT}",
        "lamella.toml: presets.b.max_attempts: got 'ten', expected an integer",
        "lamella.toml: presets.b.layers: got 'log', expected a list of layers",
        "lamella.toml: presets.'my own'.layer: is no option. Did you mean 'layers'?",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[presets.x\n", "lamella.toml: line 1, column 11: Expected ']'"),
        ("a = 1\nb = \n", "lamella.toml: line 2, column 5: Invalid value"),
        ('a = "open', "lamella.toml: line 1, column 10: Unterminated string (end of the file)"),
        ("a = 1\na = 2\n", "lamella.toml: line 2, column 6: Cannot overwrite a value"),
    ],
)
def test_a_file_that_is_no_toml_says_where(text: str, said: str) -> None:
    """A mistake in the TOML has its line and column."""
    Path("lamella.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_configuration()
    assert str(caught.value).startswith(said)


def test_a_file_that_is_no_text_says_so() -> None:
    """Bytes that are no UTF-8, and folders, are named as such."""
    Path("lamella.toml").write_bytes(b"a = 'caf\xe9'\n")
    with pytest.raises(ConfigurationError, match=r"lamella\.toml: byte 9 is no UTF-8"):
        read_configuration()
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        read_configuration(os.fspath(Path.cwd()))


# --- what was tried to break it ---------------------------------------------------------------


def said_of(text: str | bytes) -> list[str]:
    """The lines of the error that reading a file with this content raises."""
    Path("lamella.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError) as caught:
        read_configuration()
    return str(caught.value).splitlines()


def test_a_misspelt_key_hides_no_other_mistake() -> None:
    """A key that is unknown and mistakes inside its neighbours are told together."""
    assert said_of(
        "[presets.x]\ntransprot = 'mock'\nlayers = [5, { use = 3 }]\nwithout = 'log'\n"
    ) == [
        "lamella.toml: presets.x.transprot: is no option. Did you mean 'transport'?",
        "lamella.toml: presets.x.without: got 'log', expected a list, each a string",
        f"lamella.toml: presets.x.layers[0]: got 5, expected {USE}",
        "lamella.toml: presets.x.layers[1].use: got 3, expected a name",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "transport = { use = { name = 'openai', api_key = 'sk-abc' } }",
        "transport = [{ use = 'openai', api_key = 'sk-abc' }]",
        "layers = { use = 'openai', api_key = 'sk-abc' }",
        "layers = [[{ deep = [{ Authorization = 'Bearer sk-abc' }] }]]",
    ],
)
def test_a_key_inside_a_value_that_is_wrong_is_not_shown(text: str) -> None:
    """A table that may hold a key, at any depth, stays out of the message."""
    (line,) = said_of(f"[presets.x]\n{text}\n")
    assert "sk-abc" not in line
    assert "got a value that is not shown, expected " in line


def test_a_class_that_repeats_a_key_is_not_quoted() -> None:
    """Neither the message nor its cause has a key that a class's own words hold."""

    @attrs.frozen
    class Client:
        api_key: str = attrs.field(validator=attrs.validators.matches_re("key-.*"))

    mistakes = Mistakes()
    with pytest.raises(Misfit) as caught:
        build(Client, {"api_key": "sk-abc"})
    mistakes.add(Place("here"), *caught.value.findings)
    with pytest.raises(ConfigurationError) as raised:
        mistakes.raise_any()
    assert "here: api_key: could not be made: ValueError, in words that hold" in str(raised.value)
    assert "sk-abc" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_mark_at_the_beginning_and_foreign_line_ends_are_taken() -> None:
    """What editors on other systems write is read like anything else."""
    Path("lamella.toml").write_bytes(b"\xef\xbb\xbf[presets.x]\r\nmax_attempts = 2\r\n")
    assert read_configuration().settings.presets["x"].max_attempts == 2


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000])
def test_what_is_beyond_all_bounds_is_a_mistake(value: str) -> None:
    """A number or a nesting that Python itself refuses names the file."""
    (line,) = said_of(f"x = {value}\n")
    assert line.startswith("lamella.toml: ")
    assert line.endswith("No setting is that large.")


def test_two_spellings_of_one_preset_are_a_mistake() -> None:
    """Names are compared without case and hyphens, so that the second would never be found."""
    assert said_of("[presets.a-b]\n[presets.A_b]\n") == [
        ("lamella.toml: presets.A_b: is there already, as 'a-b': `-`, `_` and capitals are alike")
    ]


def test_a_file_that_cannot_be_read_is_not_taken_for_none() -> None:
    """A folder, or a link to nowhere, in its place does not lift what it says of plugins."""
    Path("lamella.toml").mkdir()
    with pytest.raises(ConfigurationError, match=r"lamella\.toml cannot be read: Is a directory"):
        read_configuration()
    Path("lamella.toml").rmdir()
    Path("lamella.toml").symlink_to("gone.toml")
    with pytest.raises(ConfigurationError, match=r"lamella\.toml cannot be read: No such file"):
        read_configuration()


def test_a_change_is_seen_although_size_and_time_are_the_same() -> None:
    """A file that is replaced by one as long, with its time set back, is read again."""
    file = Path("lamella.toml")
    file.write_text("[presets.one]\n")
    before = file.stat()
    assert list(read_configuration().settings.presets) == ["one"]
    while file.stat().st_ctime_ns == before.st_ctime_ns:  # until the file system's clock ticks
        file.write_text("[presets.two]\n")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert list(read_configuration().settings.presets) == ["two"]


def test_the_home_of_nobody_is_no_path() -> None:
    """`~name` without such a user is a mistake like any other."""
    assert misfit(Path, "~nobody-of-that-name/x") == (
        "got '~nobody-of-that-name/x', expected a path"
    )


def test_a_class_that_moved_house_keeps_its_types() -> None:
    """A class whose package calls it its own is checked like before it did."""
    before = parameters_of(Preset).types
    assert before["without"] == Sequence[str]
    assert Preset.__module__ == "lamella"
    assert misfit(Preset, {"without": "log"}).startswith("without: got 'log', expected a list")
