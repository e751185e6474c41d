"""What stands behind a name, and what becomes of plugins that do not behave."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from lamella import (
    ChatRequest,
    ConfigurationError,
    Pipeline,
    PluginError,
    Registry,
    UnknownNameError,
    registry,
)
from lamella._registry import using

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Site(Protocol):
    """See conftest.py."""

    folder: Path

    def install(
        self,
        name: str,
        modules: Mapping[str, str],
        *,
        entry_points: Mapping[str, str],
        version: str = "1.0",
        requires: tuple[str, ...] = (),
    ) -> None: ...
    def plugin(self, name: str, source: str, **more: str) -> None: ...
    def entry_points(self) -> list[Any]: ...
    def registry(self, *allow: str) -> Registry: ...


LAYER = """
import attrs
from lamella import middleware

@middleware(phase="shape")
@attrs.frozen
class {name}:
    times: int = 1

    async def __call__(self, request, call_next):
        return await call_next(request)
"""

GOOD = """
def lamella_middlewares():
    return {"good": "lamella_good_layer:Good"}
"""


def child(code: str) -> Any:
    """What a fresh interpreter prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, check=True, text=True
    )
    return json.loads(done.stdout)


@pytest.fixture
def good(site: Site) -> Site:
    """A site with a distribution that behaves."""
    site.plugin("lamella-good", GOOD, layer=LAYER.format(name="Good"))
    return site


# --- what is built in -------------------------------------------------------------------------


def test_built_in_names_come_through_the_same_door() -> None:
    """The distribution's own layers, transports, stores and presets are its entry points'."""
    own = [each for each in Registry(allow=()).plugins() if each.distribution == "lamella"]
    assert [plugin.problems for plugin in own] == [(), (), (), ()]
    kinds = {kind for plugin in own for kind in plugin.contributes}
    assert kinds >= {"middlewares", "presets", "stores", "tokenizers", "transports"}
    assert {"cost", "deadline", "retry", "timeout"} <= set(Registry(allow=()).names("middlewares"))
    assert {"azure", "mock", "openai", "ollama"} <= set(Registry(allow=()).names("transports"))
    assert {"cost", "development", "production", "test"} <= set(registry().names("presets"))


def test_naming_one_layer_imports_that_layer_only() -> None:
    """A name leads to its module; the modules of other layers and the SDK stay unloaded."""
    code = """
import json, sys, lamella
light = "pluggy" not in sys.modules and "cattrs" not in sys.modules
made = lamella.registry().middleware("deadline")(seconds=3)
print(json.dumps([light, sorted(sys.modules)]))
"""
    light, modules = child(code)
    assert light
    layers = {name for name in modules if name.startswith("lamella_middlewares.")}
    assert layers == {"lamella_middlewares._plugin", "lamella_middlewares.deadline"}
    assert not {"openai", "structlog", "tenacity"} & set(modules)


def test_a_known_endpoint_is_a_transport_by_name() -> None:
    """The name of an endpoint stands for the transport that talks to it."""
    made = registry().make("transports", "ollama", {"api_key": "env:OLLAMA_KEY"})
    assert type(made).__name__ == "OpenAI"
    assert made.endpoint.name == "ollama"


# --- plugins that behave ----------------------------------------------------------------------


def test_a_plugin_needs_no_marker_and_no_import(good: Site) -> None:
    """A function of a hook's name is a hook; a string leads to the layer when it is named."""
    names = good.registry()
    assert names.names("middlewares") == ("good",)
    assert "lamella_good_layer" not in sys.modules
    assert names.make("middlewares", "good", {"times": 3}).times == 3
    assert names.origin("middlewares", "good") == "lamella-good 1.0"


def test_names_are_compared_without_case_and_hyphens(site: Site) -> None:
    """`-`, `_` and capitals in a name make no difference."""
    site.plugin(
        "lamella-rate",
        "def lamella_middlewares(): return {'rate-limit': 'lamella_rate_layer:Rate'}",
        layer=LAYER.format(name="Rate"),
    )
    names = site.registry()
    assert names.middleware("rate_limit") is names.middleware("Rate-Limit")


def test_a_middleware_that_is_a_function_needs_no_options(site: Site) -> None:
    """A function, or an object, that is a middleware itself is given as it is."""
    source = """
    from lamella import middleware

    @middleware(phase="shape")
    async def plain(request, call_next):
        return await call_next(request)

    def lamella_middlewares():
        return {"plain": plain}
    """
    site.plugin("lamella-plain", source)
    names = site.registry()
    assert names.make("middlewares", "plain").__name__ == "plain"
    with pytest.raises(ConfigurationError, match="loud: is no option: there are none"):
        names.make("middlewares", "plain", {"loud": True})


def test_an_entry_point_may_be_the_layer_itself(site: Site) -> None:
    """A distribution of one layer needs no hook: the entry point's name is the layer's."""
    site.install(
        "lamella-one",
        {"lamella_one": LAYER.format(name="One")},
        entry_points={"one": "lamella_one:One"},
    )
    assert site.registry().make("middlewares", "one").times == 1


def test_pluggys_own_marker_works_too(site: Site) -> None:
    """A function of another name is a hook if pluggy's marker says for which."""
    source = """
    import pluggy

    @pluggy.HookimplMarker("lamella")(specname="lamella_stores")
    def ours():
        return {"shelf": dict}
    """
    site.plugin("lamella-marked", source)
    assert site.registry().store("shelf") is dict


def test_a_table_is_another_transport_with_options(site: Site) -> None:
    """`{"use": ...}` gives a name to a transport with some options set; the rest can be given."""
    source = """
    import attrs

    @attrs.frozen
    class Line:
        host: str
        port: int = 1

        async def __call__(self, request):
            raise NotImplementedError

    def lamella_transports():
        return {"line": Line, "home": {"use": "line", "host": "localhost"}, "odd": {"use": "home"}}
    """
    site.plugin("lamella-line", source)
    made = site.registry().make("transports", "home", {"port": 7})
    assert (made.host, made.port) == ("localhost", 7)
    with pytest.raises(PluginError, match=r"'odd' of lamella-line 1\.0 is a table whose `use`"):
        site.registry().transport("odd")


def test_hooks_are_called_once_and_not_by_requests(site: Site) -> None:
    """Plugins are asked when the first name is; requests do not ask them."""
    source = """
    asked = []

    def lamella_middlewares():
        asked.append(1)
        return {}
    """
    site.plugin("lamella-counting", source)
    with using(site.registry()) as names:
        assert names.names("middlewares") == ()
        pipeline = Pipeline([], transport=registry_mock())
        for _ in range(3):
            pipeline.run_sync(ChatRequest.of("hello", model="gpt-4o-mini"))
    assert sys.modules["lamella_counting"].asked == [1]


def registry_mock() -> Any:
    """The embedded transport."""
    return Registry(allow=()).make("transports", "mock")


def test_threads_that_ask_at_once_agree(good: Site) -> None:
    """Many threads that ask a fresh registry at once get the same class; none waits for ever."""
    names = good.registry()
    barrier = threading.Barrier(16)
    found: list[Any] = []

    def ask() -> None:
        barrier.wait()
        found.append(names.middleware("good"))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1


# --- plugins that do not ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("from lamella import Bygone", "ImportError: cannot import name 'Bygone' from 'lamella'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError"),
        ("def lamella_middleware(): return {}", "lamella_middleware() is no hook. Did you mean"),
        ("def lamella_middlewares(): return ['x']", "it returned list, not a mapping of names"),
        ("def lamella_middlewares(): return {'a b': 'm:n'}", "'a b' is no name"),
        ("def lamella_middlewares(pm): return {}", "PluginValidationError"),
        ("import lamella; lamella.Pipeline(['good'])", "asked for names while the plugins were"),
    ],
)
def test_a_broken_plugin_breaks_only_its_own_names(good: Site, source: str, said: str) -> None:
    """Other plugins work; who misses a name is told of the one that failed, and the cure."""
    good.plugin("lamella-bad", source)
    with using(good.registry()) as names:
        assert names.make("middlewares", "good").times == 1
        with pytest.raises(UnknownNameError) as caught:
            names.middleware("theirs")
    text = str(caught.value)
    assert "There is no middleware 'theirs'." in text
    assert "lamella-bad 1.0" in text
    assert said in text
    (bad,) = [each for each in names.plugins() if each.distribution == "lamella-bad"]
    assert len(bad.problems) == 1
    assert "pip install" in str(bad.problems[0])


def test_a_layer_that_does_not_import_names_its_distribution(site: Site) -> None:
    """A name whose module fails says which distribution it is of; its other names still work."""
    source = "def lamella_middlewares(): return {'a': 'lamella_two_a:A', 'b': 'lamella_two_b:B'}"
    site.plugin("lamella-two", source, a="import absent", b=LAYER.format(name="B"))
    names = site.registry()
    assert names.make("middlewares", "b").times == 1
    with pytest.raises(
        PluginError, match=r"Middleware 'a' of lamella-two 1\.0 could not be loaded"
    ):
        names.middleware("a")


@pytest.mark.parametrize(
    ("requirement", "command"),
    [
        ("absent-thing>=2; extra == 'fast'", "pip install 'lamella-slow[fast]'"),
        ("absent_thing>=2,<3", "pip install 'absent_thing>=2,<3'"),
        ("something-else", "pip install --force-reinstall lamella-slow"),
    ],
)
def test_a_missing_module_gives_the_exact_command(
    site: Site, requirement: str, command: str
) -> None:
    """The error has the command that installs the extra, or the requirement, that is missing."""
    modules = {
        "lamella_slow": "def lamella_transports(): return {'slow': 'lamella_slow_it:Slow'}",
        "lamella_slow_it": "import absent_thing",
    }
    points = {"it": "lamella_slow"}
    site.install("lamella-slow", modules, entry_points=points, requires=(requirement,))
    with pytest.raises(PluginError) as caught:
        site.registry().transport("slow")
    assert command in str(caught.value)


@pytest.mark.parametrize(
    ("requirement", "fits"),
    [
        ("lamella>=99", False),
        ("lamella<0.0.1; python_version > '3'", False),
        ("Lamella~=0.1", True),
        ("lamella~=7.1", False),
        ("lamella==0.0", False),
        ("lamella>=0.0.1,!=0.0.2", True),
        ("lamella[cli]>0.0.1rc1", True),
        ("lamella-other>=99", True),
    ],
)
def test_a_plugin_for_another_version_is_not_loaded(
    site: Site, requirement: str, fits: bool
) -> None:
    """A plugin whose requirement on the library is not met is not imported, and says why."""
    modules = {"lamella_new": "def lamella_stores(): return {'new': dict}"}
    points = {"it": "lamella_new"}
    site.install("lamella-new", modules, entry_points=points, requires=(requirement,))
    names = site.registry()
    if fits:
        assert names.store("new") is dict
        return
    with pytest.raises(
        UnknownNameError, match=r"lamella-new 1\.0 was not loaded: it needs lamella"
    ):
        names.store("new")
    assert "lamella_new" not in sys.modules


def test_two_plugins_that_claim_one_name_are_both_named(good: Site) -> None:
    """A name that two distributions claim is an error when it is used; their others are not."""
    source = "def lamella_middlewares(): return {'Good': int, 'own': 'lamella_rival_own:Own'}"
    good.plugin("lamella-rival", source, own=LAYER.format(name="Own"))
    names = good.registry()
    assert names.make("middlewares", "own").times == 1
    claimed = r"is claimed by lamella-good 1\.0 and lamella-rival 1\.0\."
    with pytest.raises(PluginError, match=claimed):
        names.middleware("good")
    assert ["claimed" in str(each.problems[0]) for each in names.plugins()] == [True, True]
    assert good.registry("lamella_rival").middleware("good") is int


def test_a_plugin_that_is_half_imported_is_asked_again(site: Site) -> None:
    """Names asked for while a plugin's module is being imported do not fix that it has none."""
    source = """
    from importlib.metadata import distributions
    import lamella
    from lamella._registry import using
    points = [p for d in distributions(path=[PATH]) for p in d.entry_points]
    names = lamella.Registry(points)
    early = names.names("stores")

    def lamella_stores():
        return {"late": dict}
    """
    site.plugin("lamella-half", source.replace("PATH", repr(str(site.folder))))
    module = __import__("lamella_half")
    assert module.early == ()
    assert module.names.names("stores") == ("late",)


# --- who may load -----------------------------------------------------------------------------


def test_the_allow_list_keeps_others_from_being_imported(good: Site) -> None:
    """A distribution that is not allowed is not imported; who asks for its names is told."""
    good.plugin("lamella-other", "def lamella_stores(): return {'other': dict}")
    names = good.registry("Lamella_Good")
    assert names.names("middlewares") == ("good",)
    with pytest.raises(UnknownNameError, match="keeps out lamella-other"):
        names.store("other")
    assert "lamella_other" not in sys.modules
    assert [each.allowed for each in names.plugins()] == [True, False]


@pytest.mark.parametrize(
    ("variable", "file", "loads"),
    [
        (None, "", True),
        (None, "[plugins]\nallow = ['lamella-good']", True),
        (None, "[plugins]\nallow = []", False),
        ("", "[plugins]\nallow = ['lamella-good']", False),
        ("lamella-x, lamella-good", "[plugins]\nallow = []", True),
    ],
)
def test_the_variable_stands_above_the_file(
    good: Site, monkeypatch: pytest.MonkeyPatch, variable: str | None, file: str, loads: bool
) -> None:
    """`LAMELLA_PLUGINS` decides which distributions load, and without it the file does."""
    if variable is not None:
        monkeypatch.setenv("LAMELLA_PLUGINS", variable)
    (good.folder.parent / "lamella.toml").write_text(file)
    assert good.registry().has("middlewares", "good") is loads


def test_a_broken_file_does_not_lift_the_restriction(good: Site) -> None:
    """If the file that restricts plugins cannot be understood, nothing loads."""
    (good.folder.parent / "lamella.toml").write_text("[plugins]\nallow = 'lamella-good'\n")
    with pytest.raises(ConfigurationError, match=r"lamella\.toml: plugins\.allow: got 'lamella-g"):
        good.registry().names("middlewares")


# --- names from code --------------------------------------------------------------------------


def test_names_from_code_stand_before_plugins(good: Site) -> None:
    """What the program adds is found first, and can be added to again."""
    names = good.registry()
    names.add(middlewares={"good": float, "mine": int})
    assert names.middleware("good") is float
    assert names.origin("middlewares", "good") == "this program"
    names.add(middlewares={"good": complex})
    assert names.middleware("good") is complex
    assert names.names("middlewares") == ("good", "mine")
    with pytest.raises(ConfigurationError, match="'layers' is no kind of thing"):
        names.add(layers={})
    names.add(stores={"x": "nowhere"})
    with pytest.raises(PluginError, match="'nowhere' is no import path"):
        names.store("x")


def test_a_misspelt_name_offers_the_nearest_and_the_list() -> None:
    """A name that is not known is an error with near names and all that there are."""
    with pytest.raises(UnknownNameError) as caught:
        Pipeline(["retyr"], transport="mock")
    text = str(caught.value)
    assert text.startswith("There is no middleware 'retyr'. Did you mean 'retry'? Known are ")
    assert " cost, " in text


def test_a_layer_by_name_that_needs_options_says_which(site: Site) -> None:
    """A layer that cannot be made without options names them when it is given by name alone."""
    source = """
    import attrs

    @attrs.frozen
    class Needy:
        seconds: float

        async def __call__(self, request, call_next):
            return await call_next(request)

    def lamella_middlewares():
        return {"needy": Needy}
    """
    site.plugin("lamella-needy", source)
    with using(site.registry()):
        said = "middleware 'needy': seconds: is missing, expected a number"
        with pytest.raises(ConfigurationError, match=said):
            Pipeline(["needy"], transport=registry_mock())


def test_another_registry_can_stand_in_for_a_block() -> None:
    """Within the block the process's registry is the other one, and afterwards the first again."""
    before = registry()
    with using(Registry([])) as other:
        assert registry() is other
        with pytest.raises(UnknownNameError, match="This library is not installed"):
            registry().transport("mock")
    assert registry() is before


# --- what was tried to break it ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "class E(Exception):\n def __str__(self): return 1 / 0\nraise E",
            "E, whose message fails",
        ),
        ("lamella_stores = {'a': dict}", "lamella_stores is a dict, not a function"),
        ("async def lamella_stores(): return {}", "it returned coroutine, not a mapping"),
        ("def lamella_stores(): return {'a-b': dict, 'A_b': list}", "'a-b' and 'A_b' are one name"),
        (
            "def lamela_stores(): return {}",
            "it has no hook, such as a function lamella_middlewares",
        ),
    ],
)
def test_what_a_plugin_does_wrong_is_said(site: Site, source: str, said: str) -> None:
    """A plugin that contributes nothing, or what is no name, has a problem that says why."""
    site.plugin("lamella-slip", source)
    (slip,) = site.registry().plugins()
    assert len(slip.problems) == 1
    assert said in str(slip.problems[0])


def test_a_module_of_a_hooks_name_is_no_hook(site: Site) -> None:
    """`import lamella_middlewares` in a plugin does not make that package a hook."""
    site.plugin("lamella-user", "import lamella_middlewares\ndef lamella_stores(): return {}")
    (user,) = site.registry().plugins()
    assert user.problems == ()


@pytest.mark.parametrize("path", ["lamella_stray:", ":x", "a b:c", "..x:y", ""])
def test_what_is_no_import_path_is_called_so(site: Site, path: str) -> None:
    """A path that cannot be one says so, wherever it stands."""
    site.plugin("lamella-stray", f"def lamella_stores(): return {{'stray': {path!r}}}")
    with pytest.raises(PluginError, match="is no import path"):
        site.registry().store("stray")


def test_an_interrupt_while_plugins_load_is_no_mistake_of_theirs(good: Site) -> None:
    """Ctrl-C passes; whoever asks next gets everything."""
    source = """
    import lamella
    if not hasattr(lamella, "interrupted"):
        lamella.interrupted = True
        raise KeyboardInterrupt

    def lamella_stores():
        return {"late": dict}
    """
    good.plugin("lamella-slow", source)
    names = good.registry()
    try:
        with pytest.raises(KeyboardInterrupt):
            names.names("stores")
        assert names.store("late") is dict
        assert names.has("middlewares", "good")
    finally:
        vars(sys.modules["lamella"]).pop("interrupted", None)


@pytest.mark.parametrize("finder", ["importlib.metadata", "importlib_metadata"])
def test_what_is_left_of_a_removed_distribution_breaks_nothing(good: Site, finder: str) -> None:
    """Metadata without a name, or with entry points that are none, cost only themselves."""
    pytest.importorskip(finder)  # the backport, once imported, finds for everybody
    info = good.folder / "gone-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[lamella]\nx = lamella_good\ny = a b c\n")
    names = good.registry()
    found = {each.distribution: len(each.problems) for each in names.plugins()}
    assert found["module a b c"] == 1
    assert found.keys() == {"lamella-good", "module a b c", "module lamella_good"}
    with using(good.registry("lamella_good")) as restricted:
        assert [each.allowed for each in restricted.plugins()] == [True, False, False]
        assert "good" in str(Pipeline(["good"], transport=registry_mock()).explain())


@pytest.mark.parametrize("value", ["None", "5", "[1]"])
def test_what_cannot_be_called_names_its_distribution(site: Site, value: str) -> None:
    """A layer that is none is its plugin's mistake, and the error says whose that is."""
    site.plugin("lamella-none", f"def lamella_middlewares(): return {{'none': {value}}}")
    with pytest.raises(PluginError, match=r"'none' of lamella-none 1\.0 is .*, which cannot be"):
        site.registry().make("middlewares", "none")


def test_names_from_code_are_held_to_the_same_rules() -> None:
    """What no plugin may register, code may not; a list of one letter each is no allow-list."""
    names = Registry([])
    wrong: list[Any] = [{"a b": dict}, {5: dict}, {"": dict}, {"a-b": 1, "a_b": 2}, ["a"]]
    for named in wrong:
        with pytest.raises(ConfigurationError, match=r"^Registry\.add\(stores=\.\.\.\): "):
            names.add(stores=named)
    with pytest.raises(ConfigurationError, match=r"such as \['lamella-redis'\]"):
        Registry([], allow="lamella-redis")


def test_names_of_options_are_checked_before_they_are_used(good: Site) -> None:
    """One option spelt in two ways, or a wrong one with a hyphen, is one mistake each."""
    source = """
    import attrs

    @attrs.frozen
    class Sized:
        max_size: int

    def lamella_stores():
        return {"sized": Sized}
    """
    good.plugin("lamella-sized", source)
    names = good.registry()
    with pytest.raises(ConfigurationError) as caught:
        names.make("stores", "sized", {"max-size": "x"})
    assert str(caught.value) == "store 'sized': max-size: got 'x', expected an integer"
    with pytest.raises(ConfigurationError, match="max_size: is there already, as 'max-size'"):
        names.make("stores", "sized", {"max-size": 1, "max_size": 2})
