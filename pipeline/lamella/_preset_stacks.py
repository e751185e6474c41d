"""The stack that presets describe, before it is built: who says what about each layer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast, get_args

import attrs

from lamella._errors import LamellaError
from lamella._layers import info_of, is_layer, name_of
from lamella._mistakes import Finding, Misfit, Mistakes, Place
from lamella._named_stores import shared, store_of
from lamella._order import arranged
from lamella._preset_records import Preset, Use
from lamella._registry import Kind, Registry, key_of
from lamella._structuring import build, parameters_of, wrong_names


@attrs.define
class Slot:
    """One layer, or the transport.

    Attributes:
        given: What stands there: a name with options, or an object.
        place: Where it was written.
        options: The options and where each was written, by name.
    """

    given: Any
    place: Place
    options: dict[str, tuple[Any, Place]] = attrs.field(factory=dict[str, tuple[Any, Place]])

    @classmethod
    def of(cls, given: Any, place: Place) -> Slot:
        """A slot with the options that it comes with."""
        slot = cls(given, place)
        if isinstance(given, Use):
            slot.set(given.options, place)
        return slot

    @property
    def name(self) -> str:
        """The name by which overrides mean it."""
        return key_of(self.given.use if isinstance(self.given, Use) else info_of(self.given).name)

    def set(self, options: Mapping[str, Any], place: Place) -> None:
        """Set options; those that are not named stay as they are."""
        for name, value in options.items():
            self.options[name.replace("-", "_")] = (value, place.at(name))

    def made(self, kind: Kind, names: Registry, mistakes: Mistakes, part: str = "") -> Any:
        """What stands here, made; None if that is not possible, and why is written down.

        Args:
            kind: What kind of thing it is.
            names: Where names lead.
            mistakes: Where it is written down.
            part: Of a store, what it is to be.
        """
        if not isinstance(self.given, Use):
            return self.given
        options = {name: value for name, (value, _) in self.options.items()}
        make = shared if kind == "stores" else build
        try:
            use = self.given.use
            factory = names.store(use, part) if part else names.factory(kind, use)
            return make(factory, options)
        except Misfit as misfit:
            for finding in misfit.findings:
                at, inner = self._place_of(finding)
                mistakes.add(at, inner)
        except LamellaError as error:
            mistakes.add(self.place, Finding((), str(error), error=error))
        return None

    def _place_of(self, finding: Finding) -> tuple[Place, Finding]:
        """Where the option stands that a finding is about, and the finding as seen from there."""
        option = self.options.get(str(finding.path[0])) if finding.path else None
        if option is None:
            return self.place, finding
        return option[1], attrs.evolve(finding, path=finding.path[1:])


@attrs.define
class Stack:
    """What presets that extend each other, and overrides, come to.

    Attributes:
        slots: The layers, outermost first.
        added: Layers that overrides have added; they go where their phase belongs.
        transport: The transport; None if nobody has named one.
        allow: As for `Pipeline`.
        max_attempts: As for `Pipeline`; None for its default.
        name: What the pipeline is called; None calls it after the preset.
        stores: Where things are counted and kept, by part; the process's own for the rest.
        http: How the transport speaks HTTP, where that was written, and of which transport; None as
            it does itself.
    """

    slots: list[Slot] = attrs.field(factory=list[Slot])
    added: list[Slot] = attrs.field(factory=list[Slot])
    transport: Slot | None = None
    allow: tuple[str, ...] = ()
    max_attempts: int | None = None
    name: str | None = None
    stores: dict[str, Slot] = attrs.field(factory=dict[str, Slot])
    http: tuple[Any, Place, Slot | None] | None = None

    def extend(self, preset: Preset, place: Place, names: Registry, mistakes: Mistakes) -> None:
        """Let a preset say what it says; what it does not stays.

        Args:
            preset: The preset.
            place: Where it was written.
            names: What names stand for.
            mistakes: Where mistakes are written down.
        """
        at = place.at("layers")
        slots = [Slot.of(given, at.at(index)) for index, given in enumerate(preset.layers)]
        if preset.extends is None:
            self.slots = slots
            if preset.without:
                text = "there is nothing to leave out without `extends`"
                mistakes.add(place.at("without"), Finding((), text))
        else:
            for index, name in enumerate(preset.without):
                self.change(name, None, place.at("without", index), names, mistakes)
            self._merge(slots, names, mistakes)
        if preset.transport is not None:
            self.transport = Slot.of(preset.transport, place.at("transport"))
        self.store(preset.stores, place.at("stores"))
        if preset.http is not None:
            self.speak(preset.http, place)
        if preset.max_attempts is not None:
            self.max_attempts = preset.max_attempts
        if preset.name is not None:
            self.name = preset.name
        self.allow = (*self.allow, *preset.allow)

    def speak(self, http: Any, place: Place) -> None:
        """Let the transport speak HTTP so."""
        self.http = (http, place.at("http"), self.transport)

    def store(self, stores: Mapping[str, Any], place: Place) -> None:
        """Let things be counted and kept elsewhere; None is the process's own store."""
        for part, given in stores.items():
            self.stores.pop(part, None)
            if given is not None:
                self.stores[part] = Slot.of(given, place.at(part))

    def made_stores(self, names: Registry, mistakes: Mistakes) -> dict[str, Any]:
        """The stores, made: those that are not the process's own."""
        made: dict[str, Any] = {}
        for part, slot in self.stores.items():
            store = slot.made("stores", names, mistakes, part)
            if store is None:
                continue
            try:
                made[part] = store_of(part, store)
            except Misfit as misfit:
                mistakes.add(slot.place, *misfit.findings)
        return made

    def made_transport(self, names: Registry, mistakes: Mistakes) -> Any:
        """The transport, made; None if that is not possible, and why is written down."""
        slot = self.transport
        if slot is None:
            return None
        if self.http is not None:
            http, place, of = self.http
            text = _speak(slot, http, place, names)
            if text and of is slot:  # one in its place, as for a test, does without
                mistakes.add(place, Finding((), text))
        return slot.made("transports", names, mistakes)

    def _merge(self, slots: list[Slot], names: Registry, mistakes: Mistakes) -> None:
        seen: set[str] = set()
        for slot in slots:
            if slot.name in seen:
                text = f"{slot.name!r} stands here twice; a stack with both is written out whole"
                mistakes.add(slot.place, Finding((), f"{text}, without `extends`"))
                continue
            seen.add(slot.name)
            given = slot.given
            change = (given.options or True) if isinstance(given, Use) else given
            name = given.use if isinstance(given, Use) else slot.name
            self.change(name, change, slot.place, names, mistakes)

    def change(
        self, name: str, change: Any, place: Place, names: Registry, mistakes: Mistakes
    ) -> None:
        """Change one layer.

        Args:
            name: Its name.
            change: Options to set, True to have it, None or False to leave it out, or a layer to
                put in its place.
            place: Where the change was written.
            names: What names stand for.
            mistakes: Where mistakes are written down.
        """
        there = [slot for slot in (*self.slots, *self.added) if slot.name == key_of(name)]
        replaces = callable(change)
        if not there and not replaces and not names.has("middlewares", name):
            error = names.unknown("middlewares", name)
            mistakes.add(place, Finding((), str(error), error=error))
        elif change is None or change is False:
            self._leave_out(there, name)
        elif len(there) > 1:
            text = f"{name!r} stands in the stack {len(there)} times; write the stack out instead"
            mistakes.add(place, Finding((), text))
        else:
            wrong = _no_change(name, change, names)
            mistakes.add(
                place, *(wrong or self._change(there[0] if there else None, name, change, place))
            )

    def _leave_out(self, there: list[Slot], name: str) -> None:
        self.slots = [slot for slot in self.slots if slot not in there]
        self.added = [slot for slot in self.added if slot not in there]
        if there:
            key = key_of(name)
            self.allow = tuple(each for each in self.allow if key not in each.split(" outside "))

    def _change(self, slot: Slot | None, name: str, change: Any, place: Place) -> list[Finding]:
        if slot is None:
            slot = Slot(Use(name), place)
            self.added.append(slot)
        if isinstance(change, Mapping):
            if not isinstance(slot.given, Use):
                return [Finding((), "was given as an object; give another, not options")]
            options = cast("Mapping[str, Any]", change)
            wrong = wrong_names(options)
            if wrong:
                return wrong
            slot.set(options, place)
        elif change is not True:
            slot.given, slot.place, slot.options = change, place, {}
        return []

    def layers(self, names: Registry, mistakes: Mistakes) -> list[Any]:
        """The layers, made; those that were added stand where their phase belongs."""
        made = [slot.made("middlewares", names, mistakes) for slot in self.slots]
        layers = [layer for layer in made if layer is not None]
        for slot in self.added:
            layer = slot.made("middlewares", names, mistakes)
            if layer is not None:
                layers.insert(_position(layers, layer), layer)
        return layers


def _speak(slot: Slot, http: Any, place: Place, names: Registry) -> str:
    """Have a transport speak HTTP so; empty, or what is wrong with that."""
    if not isinstance(slot.given, Use):
        return "is for a transport given by name; an object takes it itself: options=...(http=...)"
    use = slot.given.use
    try:
        types = parameters_of(names.factory("transports", use)).types
    except LamellaError:
        return ""  # there is none of that name, which is said where it is made
    around = attrs.evolve(place, path=place.path[:-1])
    if "http" in types:
        slot.options.setdefault("http", (http, around))
        return ""
    wanted = types.get("options")
    if not any(_has_http(each) for each in (wanted, *get_args(wanted))):
        return f"the transport {use!r} speaks no HTTP that could be chosen; leave it out"
    given, at = slot.options.get("options", (None, around))
    if given is None:
        slot.options["options"] = ({"http": http}, around)
    elif isinstance(given, Mapping):
        slot.options["options"] = ({"http": http, **cast("Mapping[str, Any]", given)}, at)
    else:
        return f"belongs into the options, as they are an object: {type(given).__name__}(http=...)"
    return ""


def _has_http(options: Any) -> bool:
    return (
        inspect.isclass(options) and attrs.has(options) and hasattr(attrs.fields(options), "http")
    )


def _no_change(name: str, change: Any, names: Registry) -> list[Finding]:
    """What is wrong with a value that is no change; where it may be an option's, of which."""
    if change is True or isinstance(change, Mapping):
        return []
    if callable(change):
        offer = "" if is_layer(change) else _offered(name, [change], names)
        text = f"the function {name_of(change)!r} is no layer; write {offer}"
        return (
            [Finding((), text)] if offer else []
        )  # without one, the pipeline says how layers look
    offer = _offered(name, change, names)
    option = _first_option(name, names)
    if not offer and option:
        offer = f"{key_of(name)}={{{option!r}: ...}}"
    return [Finding((), "options, true or false" + (offer and f": {offer}"), change)]


def _offered(name: str, change: Any, names: Registry) -> str:
    """How functions are given as a layer's first option; empty if it does not take them there."""
    option = _first_option(name, names)
    functions = cast("list[Any]", change) if isinstance(change, list | tuple) else []
    if not (option and functions and all(map(callable, functions))):
        return ""
    try:
        build(names.factory("middlewares", name), {option: functions})
    except (LamellaError, TypeError, ValueError):
        return ""
    return f"{key_of(name)}={{{option!r}: [{', '.join(map(name_of, functions))}]}}"


def _first_option(name: str, names: Registry) -> str:
    """What a layer's first option is called; empty if nobody can say."""
    try:
        first = next(
            iter(inspect.signature(names.factory("middlewares", name)).parameters.values()), None
        )
    except (LamellaError, TypeError, ValueError):  # without it, what is said is true as well
        return ""
    return first.name if first is not None and first.kind is first.POSITIONAL_OR_KEYWORD else ""


def _position(layers: list[Any], new: Any) -> int:
    """Where a new layer belongs among layers whose order is not to change."""
    info = info_of(new)
    for position, layer in enumerate(layers):
        if arranged([(layer, info_of(layer)), (new, info)])[0] is new:
            return position
    return len(layers)
