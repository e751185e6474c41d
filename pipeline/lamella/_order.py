"""Order: checking a stack, and sorting one.

Getting the order wrong leaks data or money, so that is an error with the reason and the fix; an
unusual order that loses neither is a doubt that `explain()` shows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, TypeVar

import attrs

from lamella._errors import OrderError
from lamella._layers import PHASES, LayerInfo
from lamella._price_sources import PRICES

L = TypeVar("L")

_USUAL: Final[Mapping[str, str]] = {PRICES: " Put Cost() into it."}
"""What to do where a name that the library's own layers need is not provided."""


@attrs.frozen
class Doubt:
    """Something about a stack that deserves a look.

    Attributes:
        layer: Which layer.
        message: What is doubtful and how to mend it.
    """

    layer: str
    message: str


def check_order(infos: Sequence[LayerInfo], allow: Collection[str] = ()) -> list[Doubt]:
    """Check a stack, outermost first.

    Args:
        infos: The layers' declarations.
        allow: Orders accepted by name, such as `"cost outside retry"`.

    Returns:
        What is doubtful, but lawful.

    Raises:
        OrderError: If an order leaks data or loses money, a needed layer is missing, or a layer
            that may stand only once stands twice. All findings are in one message.
    """
    found = [*_wrong_sides(infos, allow), *_missing(infos), *_repeated(infos)]
    if found:
        raise OrderError("\n".join(found))
    _unknown_allowances(infos, allow)
    return _phase_doubts(infos)


def _wrong_sides(infos: Sequence[LayerInfo], allow: Collection[str]) -> list[str]:
    found: list[str] = []
    for index, outer in enumerate(infos):
        for inner in infos[index + 1 :]:
            reason = outer.inside.get(inner.name) or inner.outside.get(outer.name)
            name = f"{outer.name} outside {inner.name}"
            if reason is not None and name not in allow:
                found.append(
                    f"{outer.name!r} is outside {inner.name!r}: {reason}. Put {inner.name!r} "
                    f'before {outer.name!r}; to accept it nevertheless pass allow=["{name}"].'
                )
    return found


def _missing(infos: Sequence[LayerInfo]) -> list[str]:
    provided = {name for info in infos for name in (info.name, *info.provides)}
    return [
        f"{info.name!r} needs a layer that provides {name!r}, and there is none in the stack."
        f"{_USUAL.get(name, '')}"
        for info in infos
        for name in sorted(info.requires - provided)
    ]


def _repeated(infos: Sequence[LayerInfo]) -> list[str]:
    names = [info.name for info in infos]
    repeated = sorted({info.name for info in infos if info.once and names.count(info.name) > 1})
    return [f"{name!r} stands in the stack more than once; keep one of them." for name in repeated]


def _unknown_allowances(infos: Sequence[LayerInfo], allow: Collection[str]) -> None:
    names = {info.name for info in infos}
    for allowance in allow:
        outer, separator, inner = allowance.partition(" outside ")
        if not separator or outer not in names or inner not in names:
            msg = f"allow={allowance!r} names no two layers of this stack."
            hint = f'Write "OUTER outside INNER" with names out of: {", ".join(sorted(names))}.'
            raise OrderError(msg, hint=hint)


def _phase_doubts(infos: Sequence[LayerInfo]) -> list[Doubt]:
    doubts: list[Doubt] = []
    deepest: LayerInfo | None = None
    for info in infos:
        if info.phase is None:
            continue
        if deepest is not None and _depth(info) < _depth(deepest):
            doubts.append(
                Doubt(
                    info.name,
                    f"{info.name!r} (phase {info.phase}) usually stands outside "
                    f"{deepest.name!r} (phase {deepest.phase}).",
                )
            )
        elif deepest is None or _depth(info) > _depth(deepest):
            deepest = info
    return doubts


def _depth(info: LayerInfo) -> int:
    return PHASES.index(info.phase) if info.phase is not None else -1


def arranged(layers: Sequence[tuple[L, LayerInfo]]) -> list[L]:
    """The layers sorted by phase, rank and constraints; otherwise in the order given.

    Layers without a phase keep their place after the layer that they were given behind.

    Raises:
        OrderError: If the constraints contradict each other.
    """
    remaining = _ranked(layers)
    sorted_layers: list[L] = []
    while remaining:
        for position, (layer, info) in enumerate(remaining):
            others = [other for _, other in remaining if other is not info]
            if not any(_must_precede(other, info) for other in others):
                sorted_layers.append(layer)
                del remaining[position]
                break
        else:
            names = ", ".join(info.name for _, info in remaining)
            msg = f"The constraints of these layers contradict each other: {names}."
            raise OrderError(msg)
    return sorted_layers


def _ranked(layers: Sequence[tuple[L, LayerInfo]]) -> list[tuple[L, LayerInfo]]:
    keyed: list[tuple[tuple[int, int], tuple[L, LayerInfo]]] = []
    key = (-1, 0)
    for layer, info in layers:
        if info.phase is not None:
            key = (_depth(info), info.rank)
        keyed.append((key, (layer, info)))
    return [item for _, item in sorted(keyed, key=lambda entry: entry[0])]


def _must_precede(outer: LayerInfo, inner: LayerInfo) -> bool:
    """Whether `outer` must stand outside `inner`."""
    return inner.name in outer.outside or outer.name in inner.inside
