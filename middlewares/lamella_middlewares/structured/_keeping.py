"""Asking past a kept answer that is no value: it would be served again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import attrs

from lamella import ChatRequest
from lamella._keeping_control import KeepingControl

_KEEPERS: Final = ("cache", "semantic_cache")
"""The attributes of a context by which layers that keep answers are told what to do."""


def refreshing(request: ChatRequest) -> ChatRequest | None:
    """The same request, whose answer is to be fresh and to replace a kept one.

    None where the caller has said otherwise: then nothing is asked.
    """
    attributes = request.context.attributes
    said = {name: attributes.get(name) for name in _KEEPERS}
    fresh = {name: _fresh(each) for name, each in said.items()}
    if None in fresh.values():
        return None
    context = request.context.evolve(attributes={**attributes, **fresh})
    return request.evolve(context=context)


def _fresh(said: Any) -> Any:
    """What to say instead; None if it must stand."""
    if said is None:
        return "refresh"
    if isinstance(said, str):
        return "refresh" if said in {"use", "refresh"} else _unless(said)
    if said is True:
        return {"mode": "refresh", "always": True}
    if isinstance(said, KeepingControl):
        return attrs.evolve(said, mode="refresh") if said.mode in {"use", "refresh"} else None
    if isinstance(said, Mapping):
        table = cast("Mapping[str, Any]", said)
        return {**table, "mode": "refresh"} if table.get("mode", "use") == "use" else None
    return _unless(said)


def _unless(said: Any) -> Any:
    """What passes by kept answers is as good as fresh."""
    return said if said is False or said == "bypass" else None
