"""What decides the answers of a run besides its rows: a digest for each part that has a name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from lamella._fingerprints import digest

if TYPE_CHECKING:
    from lamella._chat import ChatRequest
    from lamella._pipeline import Pipeline

_SHOWN: Final = frozenset({"context", "stream", "target", "returns"})
"""The fields of a request that say nothing of what is asked; the context's own are looked at."""


def configuration_of(
    pipeline: Pipeline, defaults: ChatRequest | None, returns: Any, kept: str
) -> Mapping[str, str]:
    """The configuration of a run: equal if the answers to equal rows may stand in for each other.

    Args:
        pipeline: What answers.
        defaults: What holds where a row is silent.
        returns: What the values are to be.
        kept: How results are kept.
    """
    model = getattr(pipeline.transport, "model", None)
    found = {
        "pipeline": pipeline.fingerprint,
        "model": model if isinstance(model, str) else "",
        "kept": kept,
        **_defaults(defaults),
    }
    if returns is not None:
        from lamella._returns import asked_type
        from lamella._typed_forms import form_of

        found["returns"] = _digest(dict(form_of(asked_type(returns)).schema))
    return found


def _defaults(defaults: ChatRequest | None) -> Mapping[str, str]:
    from lamella._canonical import form

    if defaults is None:
        return {}
    import attrs

    found: dict[str, str] = {}
    for field in attrs.fields(type(defaults)):
        if field.name in _SHOWN:
            continue
        value = getattr(defaults, field.name)
        if value:
            found[f"{field.name} of the defaults"] = digest(form(value))
    context = defaults.context
    whose = [context.tenant, context.user, context.session, dict(context.tags)]
    if any(whose):
        found["context of the defaults"] = digest(whose)
    return found


def _digest(schema: Any) -> str:
    from lamella._canonical import encode

    return hashlib.sha256(encode(schema), usedforsecurity=False).hexdigest()[:32]
