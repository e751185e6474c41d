"""A request made to fit the model and the endpoint that it goes to, by their data.

What a model cannot do is refused here, before the network, and what it does not take under the name
or with the value given is renamed, changed or left out, with a note in the trace. Models that have
no card pass as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from lamella._cards import stated_needs
from lamella._parameter_rules import HasRules, RuleNote, apply_rules
from lamella._requests import Request
from lamella._responses import Response
from lamella.transports._dialect import DialectOptions

if TYPE_CHECKING:
    from lamella._cards import ModelCard

R = TypeVar("R", bound=Response)

_NO_PARAMETERS = frozenset(
    {"model", "messages", "inputs", "extra", "context", "target", "stream", "returns"}
)

_NOT_STATED: tuple[object, ...] = ((), [])


def fit(
    request: Request[R],
    api: str,
    options: DialectOptions,
    owners: Sequence[HasRules | None],
    *,
    layer: str,
) -> tuple[Request[R], DialectOptions]:
    """The request and options as the model's card and then the endpoint take them.

    Args:
        request: What is asked.
        api: The API that will be called.
        options: The endpoint's quirks.
        owners: Whose rules apply, in order; None for those that have none.
        layer: Who notes in the trace what was done.

    Raises:
        UnsupportedError: If a parameter, or its value, is refused.
    """
    touched = False
    for owner in owners:
        if owner is not None and _touches(owner, api, request):
            touched = True
            break
    if not touched:
        return request, options
    before = _parameters(request)
    sent: Mapping[str, Any] = before
    notes: list[RuleNote] = []
    for owner in owners:
        if owner is not None:
            sent, more = apply_rules(owner, api, sent)
            notes.extend(more)
    for note in notes:
        if note.action != "rename":  # the same thing under another name is no change
            fields = {"parameter": note.parameter, "detail": note.detail}
            request.context.note(layer, f"parameter.{note.action}", **fields)
    return _written_back(request, options, before, sent) if notes else (request, options)


def require(card: ModelCard, request: Request[Any], operation: str) -> None:
    """Refuse what a model cannot do.

    Raises:
        UnsupportedError: The hint names what it can do.
    """
    needs = request.needs
    if needs:
        needs = stated_needs(needs)
    elif not card.operations or operation in card.abilities:
        return
    card.require(needs | {operation} if card.operations else needs)


def _touches(owner: HasRules, api: str, request: Request[Any]) -> bool:
    given, extra = request.__dict__, request.extra
    for name in owner.rule_book.plan(api):
        value = given.get(name)
        if (value is not None and value not in _NOT_STATED) or (extra and name in extra):
            return True
    return False


def _parameters(request: Request[Any]) -> dict[str, Any]:
    given = {
        name: value
        for name, value in request.__dict__.items()
        if name not in _NO_PARAMETERS and value is not None
    }
    return {**given, **request.extra}


def _written_back(
    request: Request[R],
    options: DialectOptions,
    before: Mapping[str, Any],
    sent: Mapping[str, Any],
) -> tuple[Request[R], DialectOptions]:
    fields = set(request.__dict__) - _NO_PARAMETERS
    extra = dict(request.extra)
    changes: dict[str, Any] = {}
    for name in before.keys() - sent.keys():
        if name in extra:
            del extra[name]
        else:
            changes[name] = () if isinstance(before[name], tuple) else None
    for name, value in sent.items():
        if name in before and before[name] is value:
            continue
        if name in extra or name not in fields:
            extra[name] = value
        else:
            changes[name] = value
    if "max_output_tokens" in changes and changes["max_output_tokens"] is None:
        renamed = _new_name(before, sent)
        if renamed is not None:
            # The dialect writes it, so that whoever looks at the request still finds it.
            changes["max_output_tokens"] = extra.pop(renamed)
            options = attrs.evolve(options, max_tokens_name=renamed)
    if extra != request.extra:
        changes["extra"] = extra
    return (request.evolve(**changes) if changes else request), options


def _new_name(before: Mapping[str, Any], sent: Mapping[str, Any]) -> str | None:
    """What `max_output_tokens` is sent as; None if it is left out."""
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        if name in sent and name not in before:
            return name
    return None
