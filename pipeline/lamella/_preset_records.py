"""What a preset is: the same words in code and in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import attrs

from lamella._mistakes import Finding, Misfit, Mistakes, Place
from lamella._nothing import NOTHING

STORES: Final[Mapping[str, str]] = {"blobs": "purge", "leases": "reserve"}
"""The stores that can be named, each with a method by which it is known."""

LAYER_STORES: Final[Mapping[str, str]] = {
    **STORES,
    "vectors": "nearest",
    "spend": "totals",
}
"""The stores that a layer may have of its own, likewise."""


@attrs.frozen
class Use:
    """A layer, transport or store by name, with options.

    In a file, and wherever presets are written, `"retry"` and `{ use = "retry", attempts = 5 }`.

    Attributes:
        use: The name that it is registered under.
        options: Its options, as plain values.
    """

    use: str
    options: Mapping[str, Any] = attrs.field(default=NOTHING, hash=False)


def _layers(given: Any) -> tuple[Any, ...]:
    if not isinstance(given, list | tuple):
        raise Misfit([Finding(("layers",), "a list of layers", given)])
    findings: list[Finding] = []
    layers: list[Any] = []
    for index, item in enumerate(cast("Sequence[Any]", given)):
        try:
            layers.append(use_of(item))
        except Misfit as misfit:
            findings.extend(misfit.under("layers", index))
    if findings:
        raise Misfit(findings)
    return tuple(layers)


def _transport(given: Any) -> Any:
    try:
        return None if given is None else transport_use_of(given)
    except Misfit as misfit:
        raise Misfit(misfit.under("transport")) from None


def stores_given(given: Any) -> Mapping[str, Any]:
    """What stands for the stores, by part: a `Use`, a store itself, or None for the process's own.

    Raises:
        Misfit: If it is something else.
    """
    if not isinstance(given, Mapping):
        raise Misfit([Finding(("stores",), "a table such as { leases = 'redis' }", given)])
    findings: list[Finding] = []
    stores: dict[str, Any] = {}
    for part, wanted in cast("Mapping[str, Any]", given).items():
        if part not in STORES:
            text = f"is no store. There are {', '.join(STORES)}."
            findings.append(Finding(("stores", str(part)), text))
        elif wanted is None or hasattr(wanted, STORES[part]):
            stores[part] = wanted
        else:
            try:
                stores[part] = store_use_of(part, wanted)
            except Misfit as misfit:
                findings.extend(misfit.under("stores", part))
    if findings:
        raise Misfit(findings)
    return stores


def _shaped(wanted: Any) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """A check that code gives what a file would have to."""

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        from lamella._structuring import fit

        try:
            fit(value, wanted)
        except Misfit as misfit:
            raise Misfit(misfit.under(field.name)) from None

    return check


def _at_least_one(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and value < 1:
        raise Misfit([Finding((field.name,), "a whole number, 1 or more", value)])


def store_use_of(part: str, given: Any) -> Any:
    """As `use_of`, for a store."""
    known = "{ use = 'sqlite', path = 'kept.db' }"
    return use_of(given, "{ use = 'redis', url = 'env:REDIS_URL' }" if part == "vectors" else known)


def transport_use_of(given: Any) -> Any:
    """As `use_of`, for a transport."""
    return use_of(given, "{ use = 'azure', resource = 'acme' }")


def use_of(given: Any, example: str = "{ use = 'retry', attempts = 5 }") -> Any:
    """What stands for one layer, transport or store: a `Use`, or an object that is one itself.

    Args:
        given: What was given.
        example: A table that would do, for messages.

    Raises:
        Misfit: If it is neither.
    """
    if isinstance(given, str) and given:
        return Use(given)
    if isinstance(given, Mapping):
        options = dict(cast("Mapping[str, Any]", given))
        use = options.pop("use", None)
        if isinstance(use, str) and use:
            return _named(Use(use, options))
        if use is None:
            raise Misfit([Finding(("use",), "is missing, expected a name")])
        raise Misfit([Finding(("use",), "a name", use)])
    if isinstance(given, Use):
        return _named(given)
    if callable(given):
        return given
    raise Misfit([Finding((), f"a name, or a table such as {example}", given)])


def _named(use: Use) -> Use:
    from lamella._structuring import wrong_names

    findings = wrong_names(use.options)
    if findings:
        raise Misfit(findings)
    return use


@attrs.frozen
class Preset:
    """A named stack.

    ::

        [presets.production]
        extends = "production"
        transport = { use = "azure", resource = "acme" }
        layers = [{ use = "retry", attempts = 5 }]
        without = ["timeout"]

    is in code `Preset(extends="production", transport={"use": "azure", "resource": "acme"}, ...)`.

    Attributes:
        layers: Names, tables with `use` and options, or in code layers themselves. Without
            `extends` they are the stack, outermost first. With it they are changes: a layer that is
            there gets these options and keeps its others and its place, or is replaced by the layer
            given; one that is not is added where its phase belongs.
        without: Layers of `extends` to leave out.
        transport: A name, a table with `use` and options, or in code a transport. None takes that
            of `extends`.
        extends: The preset that says what this one does not. Its own name means the one that it
            replaces.
        stores: Where things are counted and kept, by part: `leases`, `blobs`; each a
            name, a table with `use` and options, or in code a store. A part that is not named is
            that of `extends`, or the process's own.
        http: How a transport that is given by name speaks HTTP: `"fast"`, or `HTTPOptions` (in a
            file a table of its options). What the transport's own `options` say comes first; a
            transport that later takes its place and speaks no HTTP does without. None takes that of
            `extends`.
        allow: As for `Pipeline`; added to that of `extends`.
        max_attempts: As for `Pipeline`. None takes that of `extends`.
        name: What the pipeline is called. None takes that of `extends`, or calls it after the
            preset.
    """

    layers: tuple[Any, ...] = attrs.field(default=(), converter=_layers)
    transport: Any = attrs.field(  # pyright: ignore[reportUnknownVariableType]
        default=None, converter=_transport
    )
    extends: str | None = attrs.field(default=None, validator=_shaped(str | None))
    without: Sequence[str] = attrs.field(default=(), validator=_shaped(Sequence[str]))
    allow: Sequence[str] = attrs.field(default=(), validator=_shaped(Sequence[str]))
    max_attempts: int | None = attrs.field(
        default=None, validator=[_shaped(int | None), _at_least_one]
    )
    name: str | None = attrs.field(default=None, validator=_shaped(str | None))
    stores: Mapping[str, Any] = attrs.field(default=NOTHING, converter=stores_given, hash=False)
    http: Any = attrs.field(default=None, hash=False)


def preset_of(given: object, place: Place) -> Preset:
    """A preset from a record or a table.

    Raises:
        ConfigurationError: If it is none; all mistakes are named.
    """
    from lamella._structuring import fit

    mistakes = Mistakes()
    preset = Preset()
    try:
        preset = fit(given, Preset)
    except Misfit as misfit:
        mistakes.add(place, *misfit.findings)
    mistakes.raise_any()
    return preset
