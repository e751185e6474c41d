"""The registry: what stands behind a name, and which distribution it came from.

Nothing is loaded before the first name is asked for, and then only the plugins' lists of names;
naming one layer imports that layer only. No lock is held while a plugin is imported, because an
import holds one of its own: two threads that ask at once may both read the lists, and agree.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args

import attrs

from lamella._errors import ConfigurationError, PluginError, UnknownNameError
from lamella._mistakes import Misfit, Mistakes, Place
from lamella._nothing import NOTHING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from lamella._plugins import Plugin
    from lamella._preset_records import Preset

Kind: TypeAlias = Literal[
    "commands",
    "detectors",
    "middlewares",
    "model_cards",
    "presets",
    "price_sources",
    "secret_sources",
    "stores",
    "templates",
    "tokenizers",
    "transports",
]
"""What can be registered under a name."""

KINDS: Final[tuple[str, ...]] = get_args(Kind)

PROGRAM: Final = "this program"
"""Where names come from that `Registry.add` was given."""

_loading: ContextVar[bool] = ContextVar("lamella_loading", default=False)


@attrs.frozen
class Claim:
    """A name that somebody has registered something under.

    Attributes:
        name: As it was registered.
        value: The object, or the import path that leads to it.
        origin: The distribution and its version.
        plugin: The plugin; None for what the program itself has added.
    """

    name: str
    value: Any
    origin: str
    plugin: Plugin | None = None


@attrs.frozen
class _Catalogue:
    """What all plugins contribute."""

    plugins: tuple[Plugin, ...]
    claims: Mapping[str, Mapping[str, tuple[Claim, ...]]]


class Registry:
    """Names and what they stand for. Any thread may use it.

    Args:
        entry_points: Where plugins are; None takes those of all installed distributions.
        allow: The distributions that may load, besides this one. None takes them from the
            environment variable `LAMELLA_PLUGINS` (names with commas between; empty lets none
            load), or else from `allow` under `[plugins]` in `lamella.toml`, or else lets all load.
    """

    def __init__(
        self,
        entry_points: Iterable[EntryPoint] | None = None,
        *,
        allow: Collection[str] | None = None,
    ) -> None:
        if isinstance(allow, str):  # a collection too, of letters
            msg = f"Registry(allow={allow!r}): give a list of distributions, such as [{allow!r}]."
            raise ConfigurationError(msg)
        self._entry_points = None if entry_points is None else tuple(entry_points)
        self._allow = None if allow is None else frozenset(allow)
        self._added: dict[str, dict[str, Claim]] = {kind: {} for kind in KINDS}
        self._catalogue: _Catalogue | None = None
        self._objects: dict[tuple[str, str], tuple[Claim, Any]] = {}

    # --- by name -----------------------------------------------------------------------------

    def middleware(self, name: str) -> Callable[..., Any]:
        """What makes the middleware of that name; see `get` for the errors."""
        return self.factory("middlewares", name)

    def transport(self, name: str) -> Callable[..., Any]:
        """What makes the transport of that name; see `get` for the errors."""
        return self.factory("transports", name)

    def store(self, name: str, part: str = "") -> Callable[..., Any]:
        """What makes the store of that name; see `get` for the errors.

        Args:
            name: Its name.
            part: What it is to be: `leases`, `blobs`, `vectors` or `spend`. What is registered as
                `NAME_PART` goes before what is registered as `NAME`.
        """
        own = f"{name}_{part}"
        if part and self.has("stores", own):
            return self.factory("stores", own)
        if part and not self.has("stores", name):
            known = _of_part(self.names("stores"), part)
            raise _unknown("stores", name, known, self._loaded().plugins, part)
        return self.factory("stores", name)

    def preset(self, name: str) -> Preset:
        """The preset of that name, from the program or a plugin; see `get` for the errors."""
        return cast("Preset", self.get("presets", name))

    def get(self, kind: Kind, name: str, *, added: bool = True) -> Any:
        """The object of that kind and name. `-`, `_` and capitals make no difference.

        Args:
            kind: What kind of thing.
            name: Its name.
            added: Whether what the program has added counts; otherwise plugins alone do.

        Raises:
            UnknownNameError: If there is none; the hint has near names, and what may have it.
            PluginError: If it cannot be imported, or two plugins claim the name.
        """
        claim = self._claim(kind, name, added=added)
        key = (kind, key_of(name))
        held = self._objects.get(key)
        if held is None or held[0] is not claim:
            held = self._objects[key] = (claim, self._object(kind, claim))
        return held[1]

    def make(self, kind: Kind, name: str, options: Mapping[str, object] = NOTHING) -> Any:
        """A middleware, transport or store made with these options.

        Raises:
            UnknownNameError: As for `get`.
            PluginError: As for `get`.
            ConfigurationError: If options are unknown, missing or wrong; all of them are named.
        """
        from lamella._structuring import build

        mistakes = Mistakes()
        made = None
        try:
            made = build(self.factory(kind, name), options)
        except Misfit as misfit:
            mistakes.add(Place(f"{kind.removesuffix('s')} {name!r}"), *misfit.findings)
        mistakes.raise_any()
        return made

    # --- looking -----------------------------------------------------------------------------

    def has(self, kind: Kind, name: str) -> bool:
        """Whether somebody has registered that name."""
        key = key_of(name)
        return key in self._added[_known(kind)] or key in self._loaded().claims[kind]

    def names(self, kind: Kind) -> tuple[str, ...]:
        """All names of a kind, sorted."""
        claims = self._loaded().claims[_known(kind)]
        first = {key: claim.name for key, claimed in claims.items() for claim in claimed}
        first.update({key: claim.name for key, claim in self._added[kind].items()})
        return tuple(sorted(first.values()))

    def origin(self, kind: Kind, name: str, *, added: bool = True) -> str:
        """The distribution that a name comes from, and its version; see `get` for the rest."""
        return self._claim(kind, name, added=added).origin

    def plugins(self) -> tuple[Plugin, ...]:
        """All plugins that are installed, those that failed or may not load included."""
        loaded = self._loaded()
        return _with_clashes(loaded.plugins, loaded.claims)

    def unknown(self, kind: Kind, name: str, *, also: Iterable[str] = ()) -> UnknownNameError:
        """The error that says that a name is not known, and what may be meant.

        Args:
            kind: What kind of thing.
            name: The name that is not known.
            also: Names that are known besides those registered here.
        """
        known = sorted({*self.names(kind), *also})
        return _unknown(kind, name, known, self._loaded().plugins)

    # --- making ------------------------------------------------------------------------------

    def add(self, **contributions: Mapping[str, Any]) -> None:
        """Register names from code: `registry().add(presets={"mine": Preset(...)})`.

        They stand before plugins' names, and before those that were added earlier.

        Args:
            **contributions: What a plugin's hooks return, by kind.

        Raises:
            ConfigurationError: If there is no such kind, or a name is none.
        """
        from lamella._plugins import check_names

        for kind, named in contributions.items():
            _known(kind)
            try:
                if not isinstance(named, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
                    raise TypeError(f"{named!r} is no mapping of names")
                check_names(named)
            except (TypeError, ValueError) as error:
                raise ConfigurationError(f"Registry.add({kind}=...): {error}.") from error
            for name, value in named.items():
                self._added[kind][key_of(name)] = Claim(name, value, PROGRAM)

    def restricted(self, allow: Collection[str]) -> Registry:
        """A registry with the same program's names, in which only these distributions may load."""
        new = Registry(self._entry_points, allow=allow)
        new._added = self._added
        return new

    def factory(self, kind: Kind, name: str) -> Callable[..., Any]:
        """What makes the middleware, transport or store of that name; see `get` for the errors."""
        found = self.get(kind, name)
        if isinstance(found, Mapping):
            return self._with_options(kind, name, cast("Mapping[str, Any]", found))
        if not callable(found):
            msg = f"{_word(kind)} {name!r} of {self.origin(kind, name)} is {found!r}, which cannot"
            hint = "It has to be a class, a function, or a table with `use`: upgrade or remove it."
            raise PluginError(f"{msg} be called.", hint=hint)
        if _is_ready(found):
            return partial(_ready, found)
        return cast("Callable[..., Any]", found)

    def _claim(self, kind: Kind, name: str, *, added: bool = True) -> Claim:
        key = key_of(name)
        own = self._added[_known(kind)].get(key) if added else None
        if own is not None:
            return own
        claims: tuple[Claim, ...] = self._loaded().claims[kind].get(key, ())
        if len(claims) == 1:
            return claims[0]
        raise _clash(kind, claims) if claims else self.unknown(kind, name)

    def _with_options(self, kind: Kind, name: str, table: Mapping[str, Any]) -> Callable[..., Any]:
        options = dict(table)
        use = options.pop("use", None)
        if not isinstance(use, str) or isinstance(self.get(kind, use), Mapping):
            origin = self.origin(kind, name)
            msg = f"{_word(kind)} {name!r} of {origin} is a table whose `use` names no other one."
            raise PluginError(
                msg, hint='Write {"use": "openai", ...}, naming one that is no table.'
            )
        return partial(self.factory(kind, use), **options)

    def _object(self, kind: Kind, claim: Claim) -> Any:
        found = claim.value
        if isinstance(found, str):
            found = _import(kind, claim)
        if kind == "presets":
            from lamella._preset_records import preset_of

            return preset_of(found, Place(f"preset {claim.name!r} of {claim.origin}"))
        return found

    def _loaded(self) -> _Catalogue:
        found = self._catalogue
        if found is None:
            if _loading.get():
                msg = "A plugin asked for names while the plugins were being loaded."
                raise PluginError(msg, hint="Ask for them in a function, not at its module's top.")
            token = _loading.set(True)
            try:
                found, whole = self._load()
            finally:
                _loading.reset(token)
            if whole:
                self._catalogue = found
        return found

    def _load(self) -> tuple[_Catalogue, bool]:
        from lamella._configuration import allowed_distributions
        from lamella._plugins import StillImportingError, discovered, load_plugins

        allow = allowed_distributions() if self._allow is None else self._allow
        points = discovered() if self._entry_points is None else self._entry_points
        plugins = load_plugins(points, allow)
        claims: dict[str, dict[str, tuple[Claim, ...]]] = {kind: {} for kind in KINDS}
        for plugin in plugins:
            for kind, named in plugin.contributes.items():
                for name, value in named.items():
                    claim = Claim(name, value, str(plugin), plugin)
                    claims[kind][key_of(name)] = (*claims[kind].get(key_of(name), ()), claim)
        causes = [error.__cause__ for plugin in plugins for error in plugin.problems]
        whole = not any(isinstance(cause, StillImportingError) for cause in causes)
        return _Catalogue(plugins, claims), whole


_current = Registry()


def registry() -> Registry:
    """The process's registry. It looks for plugins when the first name is asked for."""
    return _current


@contextmanager
def using(other: Registry) -> Generator[Registry]:
    """Let `other` be the process's registry within the block, in all threads. For tests."""
    global _current  # noqa: PLW0603 - one registry a process is the point
    before, _current = _current, other
    try:
        yield other
    finally:
        _current = before


def key_of(name: str) -> str:
    """The name as names are compared."""
    return name.strip().replace("-", "_").lower()


def _known(kind: str) -> str:
    if kind not in KINDS:
        msg = f"{kind!r} is no kind of thing that has names."
        raise ConfigurationError(msg, hint=f"There are {', '.join(KINDS)}.")
    return kind


def _word(kind: str) -> str:
    return kind.removesuffix("s").replace("_", " ").capitalize()


def _is_ready(found: object) -> bool:
    """Whether it is a middleware or transport itself, and not what makes one."""
    if inspect.isclass(found):
        return False
    call = found if inspect.isroutine(found) else getattr(type(found), "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(call) or hasattr(found, "__lamella_layer__")


def _ready(found: Any) -> Any:
    return found


def _import(kind: str, claim: Claim) -> Any:
    from lamella._mending import how_to_mend, words_of
    from lamella._plugins import imported

    try:
        if ":" not in claim.value:
            raise ValueError(f"{claim.value!r} is no import path, 'package.module:attribute'")
        return imported(claim.name, claim.value)
    except (Exception, SystemExit) as error:
        plugin = claim.plugin
        what = words_of(error)
        msg = f"{_word(kind)} {claim.name!r} of {claim.origin} could not be loaded: {what}."
        if plugin is None:
            hint = "Correct what Registry.add was given."
        else:
            hint = how_to_mend(error, plugin.distribution, plugin.requirements)
        raise PluginError(msg, hint=hint) from error


def _of_part(names: Iterable[str], part: str) -> list[str]:
    """The stores that may be that part, as they are named for it: `sqlite` for `sqlite_blobs`."""
    from lamella._preset_records import LAYER_STORES, STORES

    others = tuple([f"_{other}" for other in {*STORES, *LAYER_STORES} if other != part])
    own = {name.removesuffix(f"_{part}") for name in names if not name.endswith(others)}
    return sorted(own)


def _unknown(
    kind: str, name: str, known: Collection[str], plugins: Collection[Plugin], part: str = ""
) -> UnknownNameError:
    from lamella._checked_tables import close_to
    from lamella._own_plugins import how_to_get

    missing = f"There is no {_word(kind).lower()} {name!r}."
    key, here = key_of(name), {plugin.distribution for plugin in plugins}
    install = how_to_get(kind, f"{key}_{part}", here) or how_to_get(kind, key, here)
    if install:
        return UnknownNameError(missing, hint=install)
    hints = [close_to(name.lower(), known)]
    hints.append(f"Known are {', '.join(known)}." if known else "There are none at all.")
    broken = "; ".join(str(error) for plugin in plugins for error in plugin.problems)
    if broken:
        hints.append(f"It may be missing because of this: {broken}")
    barred = sorted({plugin.distribution for plugin in plugins if not plugin.allowed})
    if barred:
        hints.append(f"LAMELLA_PLUGINS, or [plugins] allow, keeps out {', '.join(barred)}.")
    if not known and not any(plugin.distribution == "lamella" for plugin in plugins):
        hints.append("This library is not installed, so that nothing is found: pip install lamella")
    hint = " ".join(each for each in hints if each)
    return UnknownNameError(missing, hint=hint)


def _clash(kind: str, claims: Iterable[Claim]) -> PluginError:
    both = list(claims)
    who = " and ".join(dict.fromkeys(claim.origin for claim in both))
    msg = f"{_word(kind)} {both[0].name!r} is claimed by {who}."
    hint = "Uninstall one of them, or name the others in LAMELLA_PLUGINS or [plugins] allow."
    if len({claim.origin for claim in both}) == 1:
        hint = "Two of its entry points do so: upgrade it, or uninstall it."
    return PluginError(msg, hint=hint)


def _with_clashes(
    plugins: Iterable[Plugin], claims: Mapping[str, Mapping[str, tuple[Claim, ...]]]
) -> tuple[Plugin, ...]:
    """The plugins, with clashes among their problems."""
    found: list[Plugin] = []
    for plugin in plugins:
        clashes = [
            _clash(kind, claimed)
            for kind, named in claims.items()
            for claimed in named.values()
            if len(claimed) > 1 and any(claim.plugin is plugin for claim in claimed)
        ]
        found.append(attrs.evolve(plugin, problems=(*plugin.problems, *clashes)))
    return tuple(found)
