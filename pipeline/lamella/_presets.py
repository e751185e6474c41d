"""Pipelines from presets: finding what a name stands for, and building it.

A name is looked for in the file, then among those that the program has added, then in plugins. All
that is wrong with a stack is reported at once, each mistake with the file or call that made it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from lamella._checked_tables import close_to
from lamella._configuration import PLUGINS_VARIABLE, ConfigurationFile, read_configuration
from lamella._errors import ConfigurationError, LamellaError, OrderError, UnknownNameError
from lamella._layers import info_of
from lamella._mistakes import Finding, Misfit, Mistakes, Place
from lamella._ports import Ports
from lamella._preset_records import STORES, Preset, stores_given, transport_use_of
from lamella._preset_stacks import Slot, Stack
from lamella._registry import PROGRAM, Registry, key_of, registry
from lamella._stores import Stores
from lamella._structuring import fit

if TYPE_CHECKING:
    from lamella._pipeline import Pipeline

P = TypeVar("P", bound="Pipeline")

ENVIRONMENT_VARIABLE: Final = "LAMELLA_ENV"
DEFAULT_PRESET: Final = "development"

_OPTIONS: Final[Mapping[str, Any]] = {"allow": Collection[str], "max_attempts": int, "ports": Ports}
"""What `Pipeline` takes besides layers and a transport; its name is that of the preset."""

_FILE, _PROGRAM, _PLUGINS = range(3)


def build_preset(
    pipeline: type[P], name: str | Preset | None, transport: Any, overrides: Mapping[str, Any]
) -> P:
    """The pipeline of a preset; see `Pipeline.preset`."""
    changes = dict(overrides)
    called = _called(name)
    with _beneath(key_of(called), changes.pop("config", None)) as config:
        return _build(pipeline, name, called, transport, _Changes(changes, config))


def _build(
    pipeline: type[P], name: str | Preset | None, called: str, transport: Any, given: _Changes
) -> P:
    changes = given.overrides
    preset = name if isinstance(name, Preset) else None
    call = Place("Pipeline.preset(...)" if preset is not None else f"Pipeline.preset({called!r})")
    book = _book(given.config)
    mistakes = Mistakes()
    options = _options_of(changes, call, mistakes)

    if preset is not None:
        stack = book.with_base(preset, Place("Preset"), _FILE, mistakes)
    else:
        stack = book.stack(called, mistakes)
    _transport_given(stack, transport, call, mistakes)
    _stores_given(stack, changes.pop("stores", None), call, mistakes)
    http = changes.pop("http", None)
    if http is not None:
        stack.speak(http, call)
    for layer, change in _layers_of(changes, stack, book.names, call, mistakes).items():
        stack.change(layer, change, call.at(layer), book.names, mistakes)

    layers = stack.layers(book.names, mistakes)
    chosen: Any = None
    if stack.transport is None:
        hint = "pass transport='openai', or 'mock' for answers without a network"
        mistakes.add(call, Finding((), f"nothing names a transport; {hint}"))
    else:
        chosen = stack.made_transport(book.names, mistakes)
    stores = stack.made_stores(book.names, mistakes)
    mistakes.raise_any()
    if stores:
        options["stores"] = stores
    options["allow"] = (*stack.allow, *options.get("allow", ()))
    options["name"] = stack.name or called
    if stack.max_attempts is not None:
        options.setdefault("max_attempts", stack.max_attempts)
    try:
        return pipeline(layers, chosen, **options)
    except OrderError as error:
        raise _placed(error, book.place(called) if preset is None else Place("Preset")) from error


def _placed(error: OrderError, place: Place) -> OrderError:
    """The same mistakes, each with the file and the preset that have the stack."""
    lines = "\n".join(f"{place}: {line}" for line in error.message.splitlines())
    return OrderError(lines, hint=error.hint)


@attrs.frozen
class _Changes:
    """What a call says of a preset: overrides, and the file that it is looked for in."""

    overrides: dict[str, Any]
    config: Any


_building: ContextVar[tuple[tuple[str, ...], Any]] = ContextVar(
    "lamella_presets_building", default=((), None)
)
"""The presets that are being built, outermost first, and the file of the outermost."""


@contextmanager
def _beneath(key: str, config: Any) -> Generator[Any]:
    """Build one preset, which a target of another one may have named; the file that holds.

    Raises:
        ConfigurationError: If it is being built already: the two would be each other's targets.
    """
    above, outer = _building.get()
    if key in above:
        names = " -> ".join([*above[above.index(key) :], key])
        msg = f"These presets are each other's targets: {names}."
        raise ConfigurationError(msg, hint="Let one of them end in a transport.")
    config = outer if config is None else config
    token = _building.set(((*above, key), config))
    try:
        yield config
    finally:
        _building.reset(token)


def preset_names(config: str | os.PathLike[str] | None = None) -> Mapping[str, str]:
    """All presets by name, each with where it comes from: a file, this program, a distribution.

    Args:
        config: The file; None as for `Pipeline.preset`.
    """
    book = _book(config)
    found = {name: book.names.origin("presets", name) for name in book.names.names("presets")}
    taken = {key_of(name): name for name in found}
    for name in book.file.settings.presets:
        found.pop(taken.get(key_of(name), ""), None)
        found[name] = book.file.source
    return dict(sorted(found.items()))


def _book(config: str | os.PathLike[str] | None) -> _Book:
    file = read_configuration(config)
    names = registry()
    allow = file.settings.plugins.allow
    if config is not None and allow is not None and PLUGINS_VARIABLE not in os.environ:
        names = names.restricted(allow)
    return _Book(file, names)


def _options_of(changes: dict[str, Any], call: Place, mistakes: Mistakes) -> dict[str, Any]:
    """The overrides that are options of `Pipeline`, taken out; None leaves what the preset says."""
    options: dict[str, Any] = {}
    for option, wanted in _OPTIONS.items():
        value = changes.pop(option, None)
        try:
            if value is not None:
                options[option] = fit(value, wanted)
        except Misfit as misfit:
            mistakes.add(call.at(option), *misfit.findings)
    return options


def _called(name: str | Preset | None) -> str:
    if isinstance(name, Preset):
        return name.name or "preset"
    if name is not None and not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = f"Pipeline.preset({name!r}): a preset is given by its name, or as a Preset(...)."
        raise ConfigurationError(msg)
    return name or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_PRESET


@attrs.frozen
class _Book:
    """Where presets are looked up."""

    file: ConfigurationFile
    names: Registry

    def stack(self, name: str, mistakes: Mistakes) -> Stack:
        """The stack of a preset, on top of those that it extends.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        return self._stack(name, _FILE, (), mistakes)

    def place(self, name: str) -> Place:
        """Where the preset of a name is written."""
        return self._find(name, _FILE)[1]

    def with_base(
        self,
        preset: Preset,
        place: Place,
        level: int,
        mistakes: Mistakes,
        above: tuple[tuple[str, int], ...] = (),
    ) -> Stack:
        """What a preset says, on top of what it extends, which is looked for from `level` on."""
        stack = Stack()
        if preset.extends is not None:
            try:
                stack = self._stack(preset.extends, level, above, mistakes)
            except LamellaError as error:
                mistakes.add(place.at("extends"), Finding((), str(error), error=error))
        stack.extend(preset, place, self.names, mistakes)
        return stack

    def _stack(
        self, name: str, level: int, above: tuple[tuple[str, int], ...], mistakes: Mistakes
    ) -> Stack:
        preset, place, found = self._find(name, level)
        here = (key_of(name), found)
        if here in above:
            names = " -> ".join([each for each, _ in above[above.index(here) :]] + [key_of(name)])
            raise ConfigurationError(f"These presets extend each other: {names}.")
        replaced = preset.extends is not None and key_of(preset.extends) == key_of(name)
        below = found + 1 if replaced else _FILE
        return self.with_base(preset, place, below, mistakes, (*above, here))

    def _find(self, name: str, level: int) -> tuple[Preset, Place, int]:
        key = key_of(name)
        if level <= _FILE:
            for each, preset in self.file.settings.presets.items():
                if key_of(each) == key:
                    return preset, Place(self.file.source, ("presets", each)), _FILE
        if level > _PLUGINS or not self.names.has("presets", name):
            raise self._unknown(name, level)
        added = level <= _PROGRAM
        origin = self.names.origin("presets", name, added=added)
        preset = self.names.get("presets", name, added=added)
        place = Place(f"preset {name!r} of {origin}")
        return preset, place, _PROGRAM if origin == PROGRAM else _PLUGINS

    def _unknown(self, name: str, level: int) -> UnknownNameError:
        if level > _FILE:
            return UnknownNameError(
                f"There is no preset {name!r} below the one that extends it by its own name."
            )
        error = self.names.unknown("presets", name, also=self.file.settings.presets)
        if os.environ.get(ENVIRONMENT_VARIABLE) == name:
            hint = f"{ENVIRONMENT_VARIABLE} names it. {error.hint}"
            return error.copy(hint=hint)
        return error


def _transport_given(stack: Stack, transport: Any, call: Place, mistakes: Mistakes) -> None:
    if transport is None:
        return
    try:
        stack.transport = Slot.of(transport_use_of(transport), call.at("transport"))
    except Misfit as misfit:
        mistakes.add(call.at("transport"), *misfit.findings)


def _stores_given(stack: Stack, stores: Any, call: Place, mistakes: Mistakes) -> None:
    if stores is None:
        return
    if isinstance(stores, Stores):
        stores = {part: getattr(stores, part) for part in STORES}
    try:
        stack.store(stores_given(stores), call.at("stores"))
    except Misfit as misfit:
        mistakes.add(call, *misfit.findings)


def _layers_of(
    changes: Mapping[str, Any], stack: Stack, names: Registry, call: Place, mistakes: Mistakes
) -> Mapping[str, Any]:
    """The overrides that mean a layer; of the others it is written down that they mean nothing."""
    there = {slot.name for slot in (*stack.slots, *stack.added)}
    meant: dict[str, Any] = {}
    for name, change in changes.items():
        known = key_of(name) in there or names.has("middlewares", name)
        own = key_of(info_of(change).name) if callable(change) else ""
        if not known and own in there:  # a slip, or retries of retries
            text = f"is given a {own!r}, of which there is one already; replace it by {own}=..."
            mistakes.add(call.at(name), Finding((), text))
            continue
        if known or own:
            meant[name] = change
            continue
        all_known = {
            *_OPTIONS,
            "config",
            "http",
            "stores",
            "transport",
            *there,
            *names.names("middlewares"),
        }
        offer = close_to(name, all_known) or f"Known are {', '.join(sorted(all_known))}."
        error = UnknownNameError(f"is neither a layer nor an option of Pipeline. {offer}")
        mistakes.add(call.at(name), Finding((), str(error), error=error))
    return meant
