"""The stores of a pipeline: named in a file or a call, made once for a process, or given."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

from lamella._errors import LamellaError
from lamella._fork_locks import fork_safe_lock
from lamella._mistakes import Finding, Misfit, Mistakes, Place
from lamella._ports import Ports, default_ports
from lamella._preset_records import LAYER_STORES, STORES, Use, store_use_of, stores_given
from lamella._stores import Stores
from lamella._structuring import build

_MOST: Final = 100

StandIn: TypeAlias = Callable[[str, Any], Any]
"""Gives what a layer works with, for a part, instead of a store of its own."""

_stand_in: ContextVar[StandIn | None] = ContextVar("lamella stand-in", default=None)

_made: OrderedDict[tuple[Any, str], Any] = OrderedDict()
_lock = fork_safe_lock()


def shared(factory: Callable[..., Any], options: Mapping[str, object]) -> Any:
    """The store that a factory makes with these options: the same one for all of this process.

    Pipelines that are made for each request from one preset thus use one store, with one set of
    connections, and with what it counts while its server is out. An option `path` is the place that
    it leads to now: the same words elsewhere are another file.

    Raises:
        Misfit: As `build` does.
    """
    try:
        key = (factory, _words(options))
        hash(key)
    except (TypeError, ValueError):  # objects, which only code can give
        return build(factory, options)
    with _lock:
        if key in _made:
            _made.move_to_end(key)
            return _made[key]
    made = build(factory, options)
    with _lock:
        kept = _made.setdefault(key, made)
        if len(_made) > _MOST:
            _made.popitem(last=False)
    return kept


def _words(options: Mapping[str, object]) -> str:
    """Options as text, the same for those that make the same store.

    Raises:
        TypeError: If there is an object among them.
        ValueError: If one contains itself.
    """
    said = dict(options)
    path = said.get("path")
    if isinstance(path, str | Path):
        with suppress(OSError, RuntimeError):  # no working directory, or no home
            said["path"] = Path(path).expanduser().absolute()
    return json.dumps(said, sort_keys=True, default=_word)


def _word(value: object) -> object:
    """What a path or a span of time would be in a file."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no words")


def store_of(part: str, made: object) -> Any:
    """The part that is wanted of what a factory has made.

    Raises:
        Misfit: If it is no such store.
    """
    found = getattr(made, part) if isinstance(made, Stores) else made
    if isinstance(found, type):
        raise Misfit([Finding((), f"got the class {found.__name__}, expected a store made of it")])
    if hasattr(found, (STORES.get(part) or LAYER_STORES[part])):
        return found
    from lamella._registry import registry

    ending = f"_{part}"
    names = [name for name in registry().names("stores") if name.endswith(ending)]
    listed = ", ".join(repr(name.removesuffix(ending)) for name in names)
    what = f"{type(made).__name__} is no store of {part}; expected one that is, such as {listed}"
    raise Misfit([Finding((), what)])


def with_stores(given: Any, ports: Ports | None) -> tuple[Ports, tuple[Any, ...]]:
    """A pipeline's doors with the stores that were given, and those stores, to be closed with it.

    Args:
        given: `Stores`, or for each part, by its name, a store, a registered name, a table with
            `use` and options, or None.
        ports: Where the parts come from that are not given; None is the real world.

    Raises:
        ConfigurationError: If something given is no store; all mistakes at once.
        UnknownNameError: If a name is not registered.
    """
    base = default_ports() if ports is None else ports
    if isinstance(given, Stores):
        return attrs.evolve(base, stores=given), (given,)
    parts = _parts(given)
    stores = attrs.evolve(base.stores, **parts)
    own = list({id(store): store for store in parts.values()}.values())
    if ports is not None:
        own.append(ports.stores)
    return attrs.evolve(base, stores=stores), tuple(own)


def layer_store(layer: str, part: str, given: Any) -> Any:
    """A store that a layer has of its own, where it is not to use its pipeline's.

    Args:
        layer: Who asks, for messages: `"Cache"`.
        part: What it is for: `"blobs"`, `"leases"`, `"vectors"` or `"spend"`.
        given: The store itself, a registered name, or a table with `use` and options.

    Raises:
        ConfigurationError: If it is no such store, or cannot be made.
    """
    found = _own_store(layer, part, given)
    instead = _stand_in.get()
    return found if instead is None else instead(part, found)


@contextmanager
def stood_in(stand_in: StandIn) -> Generator[None]:
    """Layers that are made inside work with what `stand_in` gives, not with stores of their own.

    What they are given is checked as ever, and a store that is made opens nothing before it is
    used. So a stack can be tried out beside the real one without touching what that has kept.
    """
    before = _stand_in.set(stand_in)
    try:
        yield
    finally:
        _stand_in.reset(before)


def _own_store(layer: str, part: str, given: Any) -> Any:
    from lamella._registry import registry

    if hasattr(given, LAYER_STORES[part]) and not isinstance(given, type):
        return given
    mistakes = Mistakes()
    place = Place(f"{layer}(...)").at("index" if part == "vectors" else "store")
    made: Any = None
    try:
        wanted = given if isinstance(given, type) else store_use_of(part, given)
        if isinstance(wanted, Use):
            wanted = shared(registry().store(wanted.use, part), wanted.options)
        made = store_of(part, wanted)
    except Misfit as misfit:
        mistakes.add(place, *misfit.findings)
    except LamellaError as error:
        mistakes.add(place, Finding((), str(error), error=error))
    mistakes.raise_any()
    return made


def _parts(given: Any) -> dict[str, Any]:
    from lamella._registry import registry

    mistakes = Mistakes()
    place = Place("Pipeline(...)")
    named: Mapping[str, Any] = {}
    try:
        named = stores_given(given)
    except Misfit as misfit:
        mistakes.add(place, *misfit.findings)
    made: dict[str, Any] = {}
    for part, wanted in named.items():
        if wanted is None:
            continue
        try:
            found = wanted
            if isinstance(wanted, Use):
                found = shared(registry().store(wanted.use, part), wanted.options)
            made[part] = store_of(part, found)
        except Misfit as misfit:
            mistakes.add(place.at("stores", part), *misfit.findings)
        except LamellaError as error:
            mistakes.add(place.at("stores", part), Finding((), str(error), error=error))
    mistakes.raise_any()
    return made
