"""The stack as it will run, for people."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from reprlib import Repr
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from lamella._layers import LayerInfo, name_of
from lamella._mending import distribution_of, module_of
from lamella._mistakes import holds_secret, is_secret
from lamella._order import Doubt
from lamella._requests import Request
from lamella._targets import Target, targets_of

if TYPE_CHECKING:
    from lamella._pipeline import Pipeline


_SHORT: Final = Repr()
"""The repr of options: a template or a list of names does not fill the screen."""

_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = _SHORT.maxfrozenset = 10


@attrs.frozen
class ExplainedLayer:
    """One layer of an explanation.

    Attributes:
        name: What it is called.
        phase: Where it belongs; None if it declares nothing.
        options: Its options that differ from the defaults.
        distribution: The distribution it came from.
        effects: What it may do besides passing on.
        requests: The operation it handles; None for all.
        targets: Where it may send requests, each in a line, or as a pipeline.
    """

    name: str
    phase: str | None
    options: Mapping[str, Any]
    distribution: str
    effects: tuple[str, ...]
    requests: str | None
    targets: tuple[str | Explanation, ...] = ()


@attrs.frozen
class Explanation:
    """What a pipeline consists of. `print` it.

    Attributes:
        name: The pipeline's name.
        layers: Outermost first.
        transport: What talks to the provider, or the pipeline that does.
        doubts: What is unusual about the order.
        allowed: Orders that were accepted by name.
    """

    name: str
    layers: tuple[ExplainedLayer, ...]
    transport: str | Explanation
    doubts: tuple[Doubt, ...]
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        lines = [f"{self.name}: outermost first"]
        width = max([len(layer.name) for layer in self.layers], default=0)
        for number, layer in enumerate(self.layers, 1):
            lines.append(f"{number:3}. {layer.name:<{width}}  {_about(layer)}")
            for target in layer.targets:
                inner = [target] if isinstance(target, str) else target._lines()  # noqa: SLF001
                lines += [f"     {'->' if i == 0 else '  '} {each}" for i, each in enumerate(inner)]
        if isinstance(self.transport, Explanation):
            inner = self.transport._lines()  # noqa: SLF001 - its own class
            lines += ["  -> a pipeline, in the same call:", *[f"     {line}" for line in inner]]
        else:
            lines.append(f"  -> {self.transport}")
        lines += [f"  ?  {doubt.message}" for doubt in self.doubts]
        lines += [f"  !  accepted: {allowance}" for allowance in self.allowed]
        return lines


def _about(layer: ExplainedLayer) -> str:
    words = [f"[{layer.phase or 'no phase'}]"]
    words += [f"{name}={_SHORT.repr(value)}" for name, value in layer.options.items()]
    if layer.requests is not None:
        words.append(f"({layer.requests} only)")
    if layer.effects:
        words.append(f"may: {', '.join(layer.effects)}")
    words.append(f"from {layer.distribution}")
    return "  ".join(words)


def explain(pipeline: Pipeline) -> Explanation:
    """Describe a pipeline; see `Pipeline.explain`."""
    distributions = _distributions()
    pairs = zip(pipeline.layers, pipeline.infos, strict=True)
    return Explanation(
        name=pipeline.name,
        layers=tuple([_layer(layer, info, distributions) for layer, info in pairs]),
        transport=_transport(pipeline.transport),
        doubts=pipeline.doubts,
        allowed=pipeline.allow,
    )


def _distributions() -> Mapping[str, list[str]]:
    """Which distributions each top-level package came from."""
    return _installed(tuple([(entry, _changed(entry)) for entry in sys.path]))


def _changed(entry: str) -> int:
    """When a folder that is imported from last got or lost an entry; 0 if it cannot say."""
    try:
        return Path(entry).stat().st_mtime_ns
    except (OSError, TypeError, ValueError):
        return 0


@lru_cache(maxsize=1)
def _installed(path: tuple[tuple[str, int], ...]) -> Mapping[str, list[str]]:  # noqa: ARG001
    """What is installed, read once for as long as the path and its folders stay as they are.

    It takes some tenths of a second: the list of every file of every distribution is read.
    """
    found = {name: list(names) for name, names in metadata.packages_distributions().items()}
    # An editable installation does not list its packages; its entry points name them.
    for entry_point in metadata.entry_points(group="lamella"):
        if entry_point.dist is not None:
            package = module_of(entry_point).partition(".")[0]
            found.setdefault(package, []).append(distribution_of(entry_point)[0])
    return found


def _layer(
    layer: object, info: LayerInfo, distributions: Mapping[str, list[str]]
) -> ExplainedLayer:
    held = targets_of(layer)
    return ExplainedLayer(
        name=info.name,
        phase=info.phase,
        options={k: v for k, v in options_of(layer).items() if k != "targets" or not held},
        distribution=_distribution(layer, distributions),
        effects=tuple(sorted(info.effects)),
        requests=None if info.requests is Request else info.requests.operation,
        targets=tuple([_target(target) for target in held]),
    )


def _target(target: Target) -> str | Explanation:
    words = [target.name]
    words += [f"{name}={_SHORT.repr(value)}" for name, value in target.changes.items()]
    words += [f"{name}:{value}" for name, value in target.tags.items()]
    if target.credentials:
        words.append(f"({len(target.credentials)} credentials)")
    if target.transport is None:
        return "  ".join(words)
    drawn = _transport(target.transport)
    if isinstance(drawn, Explanation):
        return attrs.evolve(drawn, name="  ".join(words))
    return "  ".join(words if drawn == target.name else [*words, f"through {drawn}"])


def _transport(transport: Any) -> str | Explanation:
    explain_inner = getattr(transport, "explain", None)
    if callable(explain_inner):
        inner = explain_inner()
        if isinstance(inner, Explanation):
            return inner
    options = "  ".join(
        f"{name}={_SHORT.repr(value)}" for name, value in options_of(transport).items()
    )
    return f"{name_of(transport)}  {options}".rstrip()


def options_of(thing: object) -> dict[str, Any]:
    """The options of an attrs object that are shown in its repr and differ from the defaults.

    Those that may be keys, by their names, are there without their values.
    """
    cls: Any = type(thing)
    if not attrs.has(cls):
        return {}
    return {
        field.alias or field.name: _shown(field, value)
        for field in attrs.fields(cls)
        if field.init and field.repr
        for value in [getattr(thing, field.name)]
        if not _is_default(field, value)
    }


_FACTORY: Any = attrs.Factory  # a class that checkers see as a function


@attrs.frozen
class _Words:
    """What stands for a value that is not shown itself."""

    words: str

    def __repr__(self) -> str:
        return self.words


def _shown(field: attrs.Attribute[Any], value: object) -> object:
    if callable(field.repr):
        return _Words(field.repr(value))
    text = isinstance(value, str | bytes)
    return _Words("<hidden>") if (text and is_secret(field.name)) or holds_secret(value) else value


def _is_default(field: attrs.Attribute[Any], value: object) -> bool:
    default: Any = field.default
    if default is attrs.NOTHING:
        return False
    try:
        if isinstance(default, _FACTORY):
            default = None if default.takes_self else default.factory()
        converter: Any = getattr(field, "converter", None)
        converter = getattr(converter, "converter", converter)  # out of an attrs.Converter
        if converter is not None:
            default = converter(default)
        return bool(default == value)
    except Exception:  # noqa: BLE001 - a stranger's class may not compare: then it is shown
        return False


def _distribution(thing: object, distributions: Mapping[str, list[str]]) -> str:
    while isinstance(thing, partial):
        thing = cast("Any", thing.func)  # pyright: ignore[reportUnknownMemberType]
    owner = thing if inspect.isroutine(thing) else type(thing)
    module = getattr(owner, "__module__", "") or ""
    names = distributions.get(module.partition(".")[0])
    return ", ".join(sorted(set(filter(None, names or [])))) or f"module {module}"
