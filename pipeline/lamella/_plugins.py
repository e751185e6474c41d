"""Plugins: finding the distributions that contribute something, loading each behind a guard.

pluggy keeps the plugins and checks their hooks. The entry points are walked here and not by pluggy,
which would stop at the first one that fails.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import EntryPoint
from importlib.metadata import entry_points as installed_entry_points
from types import ModuleType
from typing import Any, Final, cast

import attrs
import pluggy

from lamella import _hookspecs
from lamella._checked_tables import close_to
from lamella._errors import PluginError
from lamella._layers import LayerInfo
from lamella._mending import (
    distribution_of,
    how_to_mend,
    requirements_of,
    version_problem,
    words_of,
)
from lamella._nothing import NOTHING
from lamella._registry import key_of

GROUP: Final = "lamella"
"""The entry-point group, and the project's name in pluggy."""

PREFIX: Final = "lamella_"

KINDS: Final = tuple(
    sorted(name.removeprefix(PREFIX) for name in vars(_hookspecs) if name.startswith(PREFIX))
)
"""What there is to contribute."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+)*\Z")
_PATH: Final = re.compile(r"\w+(?:\.\w+)*(?:\s*:\s*\w+(?:\.\w+)*)?\s*(?:\[.*\])?\Z")

_NOTHING_THERE: Final = (
    "it has no hook, such as a function lamella_middlewares(), and is no layer with @middleware"
)


@attrs.frozen
class Plugin:
    """One entry point of one distribution, and what came of it.

    Attributes:
        distribution: The distribution's name.
        version: Its version; empty if it does not say.
        entry_point: The entry point as the distribution declares it: `name = module`.
        allowed: Whether the allow-list lets it load.
        contributes: What it contributes: values by name, by kind.
        requirements: What its distribution requires, as its metadata have it.
        problems: What is wrong with it, and how to mend it. Other plugins are not affected.
    """

    distribution: str
    version: str
    entry_point: str
    allowed: bool = True
    contributes: Mapping[str, Mapping[str, Any]] = attrs.field(default=NOTHING, repr=False)
    requirements: tuple[str, ...] = attrs.field(default=(), repr=False)
    problems: tuple[PluginError, ...] = ()

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".rstrip()


class _Manager(pluggy.PluginManager):
    """pluggy's manager, for which the name of a function is mark enough."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        """The options of a hook implementation; None if the attribute is none."""
        marked = super().parse_hookimpl_opts(plugin, name)
        if marked is not None or not name.startswith(PREFIX):
            return marked
        if not inspect.isroutine(getattr(plugin, name, None)):
            return None
        return {
            "wrapper": False,
            "hookwrapper": False,
            "optionalhook": False,
            "tryfirst": False,
            "trylast": False,
            "specname": None,
        }


def normal(distribution: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def discovered() -> tuple[EntryPoint, ...]:
    """The entry points of all installed distributions."""
    return tuple(installed_entry_points(group=GROUP))


def load_plugins(
    entry_points: Iterable[EntryPoint], allow: Collection[str] | None
) -> tuple[Plugin, ...]:
    """Load the plugins, in the order of their distributions' names. None of them can fail this.

    Args:
        entry_points: What the distributions declare.
        allow: The distributions that may load, besides this one; None for all.
    """
    allowed = None if allow is None else {GROUP, *map(normal, allow)}
    manager = _Manager(GROUP)
    manager.add_hookspecs(_hookspecs)
    plugins: list[Plugin] = []
    for entry_point in sorted(entry_points, key=lambda each: (distribution_of(each)[0], each.name)):
        name, version = distribution_of(entry_point)
        plugin = Plugin(
            name,
            version,
            f"{entry_point.name} = {entry_point.value}",
            requirements=requirements_of(entry_point),
        )
        if allowed is not None and normal(name) not in allowed:
            plugins.append(attrs.evolve(plugin, allowed=False))
        else:
            plugins.append(_loaded(manager, plugin, entry_point))
    return tuple(plugins)


def _loaded(manager: _Manager, plugin: Plugin, entry_point: EntryPoint) -> Plugin:
    problem = version_problem(entry_point)
    if problem is not None:
        refused = PluginError(f"{plugin} was not loaded: {problem[0]}.", hint=problem[1])
        return attrs.evolve(plugin, problems=(refused,))
    name = f"{plugin.distribution}:{entry_point.name}"
    try:
        found = _imported(entry_point)
        if not isinstance(found, ModuleType) and _is_layer(found):
            check_names([entry_point.name])
            layer = {"middlewares": {entry_point.name: found}}
            return attrs.evolve(plugin, contributes=layer)
        _refuse_unknown_hooks(manager, found)
        manager.register(found, name)
        if not manager.get_hookcallers(found):
            raise LookupError(_NOTHING_THERE)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's module may do anything
        failed = f"{plugin} could not be loaded: {words_of(error)}."
        hint = how_to_mend(error, plugin.distribution, plugin.requirements)
        return attrs.evolve(plugin, problems=(_caused(PluginError(failed, hint=hint), error),))
    return _contributions(manager, plugin, name)


def _imported(entry_point: EntryPoint) -> Any:
    found = imported(entry_point.name, entry_point.value)
    if isinstance(found, ModuleType) and getattr(found.__spec__, "_initializing", False):
        # Whoever imports it has asked for a name meanwhile: its hooks may not be there yet.
        raise StillImportingError(f"{found.__name__} asks for names while it is being imported")
    return found


def imported(name: str, path: str) -> Any:
    """What an entry point, or an import path, leads to.

    Raises:
        ValueError: If it is neither.
    """
    if not _PATH.match(path):
        raise ValueError(f"{path!r} is no import path, 'package.module:attribute'")
    return EntryPoint(name, path, GROUP).load()


class StillImportingError(ImportError):
    """Raised when a plugin's module is not whole yet. Not kept: the next one to ask will see it."""


def _is_layer(found: object) -> bool:
    return isinstance(getattr(found, "__lamella_layer__", None), LayerInfo)


def _refuse_unknown_hooks(manager: _Manager, found: object) -> None:
    for name in dir(found):
        if name.removeprefix(PREFIX) in KINDS and name.startswith(PREFIX):
            value = getattr(found, name)
            if not inspect.isroutine(value) and not isinstance(value, ModuleType):
                raise TypeError(f"{name} is a {type(value).__name__}, not a function")
        options = manager.parse_hookimpl_opts(found, name)
        hook = None if options is None else options["specname"] or name
        if hook is None or options is None or options["optionalhook"]:
            continue
        kind = hook.removeprefix(PREFIX)
        if kind not in KINDS:
            offer = close_to(hook, [PREFIX + each for each in KINDS])
            raise AttributeError(f"{name}() is no hook. {offer}".rstrip(" ."))


def _contributions(manager: _Manager, plugin: Plugin, name: str) -> Plugin:
    contributes: dict[str, Mapping[str, Any]] = {}
    problems: list[PluginError] = []
    for kind in KINDS:
        for hook in getattr(manager.hook, PREFIX + kind).get_hookimpls():
            if hook.plugin_name != name:
                continue
            try:
                contributes[kind] = _checked(hook.function())
            except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
                message = f"{PREFIX}{kind}() of {plugin} failed: {words_of(error)}."
                hint = f"Upgrade it: pip install --upgrade {plugin.distribution}"
                problems.append(_caused(PluginError(message, hint=hint), error))
    return attrs.evolve(plugin, contributes=contributes, problems=tuple(problems))


def _checked(returned: object) -> Mapping[str, Any]:
    if inspect.iscoroutine(returned):
        returned.close()
    if not isinstance(returned, Mapping):
        raise TypeError(f"it returned {type(returned).__name__}, not a mapping of names")
    named = dict(cast("Mapping[str, Any]", returned))
    check_names(named)
    return named


def check_names(names: Iterable[object]) -> None:
    """Refuse what cannot be a name, and two spellings of one.

    Raises:
        ValueError: If there are such.
    """
    spelt: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str) or not _NAME.match(name):
            raise ValueError(f"{name!r} is no name: letters, digits, and _ or - between them")
        other = spelt.setdefault(key_of(name), name)
        if other != name:
            raise ValueError(f"{other!r} and {name!r} are one name")


def _caused(error: PluginError, cause: BaseException) -> PluginError:
    error.__cause__ = cause
    return error
