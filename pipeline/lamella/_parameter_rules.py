"""What a model or an endpoint does with a request's parameters, as data.

Reasoning models want `max_completion_tokens`, refuse `temperature` unless they are told not to
reason, and know only some efforts; servers that call themselves compatible have quirks of their
own. Each such fact is a `ParameterRule` in a card or in the table of endpoints. A transport applies
all of them with `apply_rules` before it writes the request. Nothing is changed in silence: every
rename, drop and change is a `RuleNote` for the trace, and what cannot be had is refused before the
network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import attrs

from lamella._errors import UnsupportedError

Action: TypeAlias = Literal["rename", "drop", "refuse", "clamp", "allow", "replace"]

ACTIONS: Final[tuple[Action, ...]] = ("rename", "drop", "refuse", "clamp", "allow", "replace")

Scalar: TypeAlias = str | int | float | bool


def _no_conditions() -> dict[str, tuple[Scalar, ...]]:
    return {}


def _no_replacements() -> dict[str, str]:
    return {}


@attrs.frozen
class ParameterRule:
    """One fact about one parameter of a request.

    Attributes:
        parameter: The parameter, by our name for it (`max_output_tokens`).
        action: `rename` sends it under another name; `drop` leaves it out; `refuse` raises; `clamp`
            moves a number into a range; `allow` refuses every value but some; `replace` exchanges
            some values for others.
        apis: The APIs it holds for (`chat`, `responses`, `embeddings`); empty for all.
        to: For `rename`: the name to send.
        minimum: For `clamp`: the least value, None for no bound.
        maximum: For `clamp`: the greatest value, None for no bound.
        values: For `allow`: what is accepted.
        replacements: For `replace`: the value to send, by the value given.
        when: The rule holds only if each of these parameters has one of these values.
        unless: The rule does not hold if one of these parameters has one of these values.
        beside: The rule holds only if the request states one of these parameters too; empty for
            always.
        hint: For `refuse` and `allow`: what to do instead; for others, why.
    """

    parameter: str
    action: Action
    apis: frozenset[str] = frozenset()
    to: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[Scalar, ...] = ()
    replacements: Mapping[str, str] = attrs.field(factory=_no_replacements, hash=False)
    when: Mapping[str, tuple[Scalar, ...]] = attrs.field(factory=_no_conditions, hash=False)
    unless: Mapping[str, tuple[Scalar, ...]] = attrs.field(factory=_no_conditions, hash=False)
    beside: tuple[str, ...] = ()
    hint: str | None = None

    def problem(self) -> str | None:
        """What is missing for the rule to mean something; None if nothing is."""
        if self.action == "rename" and not self.to:
            return "`rename` needs `to`, the name to send"
        if self.action == "clamp" and self.minimum is None and self.maximum is None:
            return "`clamp` needs `minimum`, `maximum` or both"
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            return "`minimum` is above `maximum`"
        if self.action == "allow" and not self.values:
            return "`allow` needs `values`, those that are accepted"
        if self.action == "replace" and not self.replacements:
            return "`replace` needs `replacements`, a table of new values by old ones"
        return None


@attrs.frozen
class RuleNote:
    """What a rule did to a request, for its trace. It never holds the value of a parameter.

    Attributes:
        parameter: The parameter, by our name.
        action: What was done to it.
        detail: The new name, the bound or replacement sent, or why it was left out.
    """

    parameter: str
    action: Action
    detail: str


Plan: TypeAlias = Mapping[str, tuple[ParameterRule, ...]]
"""The rules of one API by parameter, in the order in which they were stated."""


def _no_defaults() -> dict[str, Scalar]:
    return {}


def _no_plans() -> dict[str, Plan]:
    return {}


@attrs.frozen
class RuleBook:
    """The rules of one model or endpoint, sorted once for each API.

    Attributes:
        owner: Who has these rules, as messages say it (`model 'gpt-5' of openai`).
        rules: Applied in this order.
        defaults: The values of parameters that the request does not state, for conditions.
    """

    owner: str
    rules: tuple[ParameterRule, ...] = ()
    defaults: Mapping[str, Scalar] = attrs.field(factory=_no_defaults, hash=False)
    _plans: dict[str, Plan] = attrs.field(factory=_no_plans, init=False, eq=False, repr=False)

    def plan(self, api: str) -> Plan:
        """The rules that hold for an API."""
        plan = self._plans.get(api)
        if plan is None:
            sorted_rules: dict[str, tuple[ParameterRule, ...]] = {}
            for rule in self.rules:
                if not rule.apis or api in rule.apis:
                    before = sorted_rules.get(rule.parameter, ())
                    sorted_rules[rule.parameter] = (*before, rule)
            plan = self._plans[api] = sorted_rules
        return plan


class HasRules(Protocol):
    """A `ModelCard` or an `Endpoint`."""

    @property
    def rule_book(self) -> RuleBook:
        """Its rules."""
        ...


def apply_rules(
    owner: HasRules, api: str, params: Mapping[str, Any]
) -> tuple[Mapping[str, Any], tuple[RuleNote, ...]]:
    """The parameters as `owner` takes them.

    Args:
        owner: A model's card, or an endpoint.
        api: The API that will be called: `chat`, `responses`, `embeddings` ...
        params: The request's parameters by our names. A parameter that is None is not stated.

    Returns:
        The parameters to send, and what was done to them. `params` itself if no rule applies; it is
        never changed.

    Raises:
        UnsupportedError: If a parameter, or its value, is refused.
    """
    book = owner.rule_book
    plan = book.plan(api)
    touched = plan.keys() & params.keys()
    if not touched:
        return params, ()
    sent = dict(params)
    notes: list[RuleNote] = []
    for name in params:  # not in the order of `touched`, which is random
        if name not in touched:
            continue
        for rule in plan[name]:
            if _stated(sent.get(name)) and _holds(rule, params, book.defaults):
                note = _apply(rule, sent, book.owner)
                if note is not None:
                    notes.append(RuleNote(name, rule.action, note))
    return (sent, tuple(notes)) if notes else (params, ())


def _holds(rule: ParameterRule, params: Mapping[str, Any], defaults: Mapping[str, Scalar]) -> bool:
    for name, values in rule.when.items():
        if _value(name, params, defaults) not in values:
            return False
    if rule.beside and not any(_stated(params.get(name)) for name in rule.beside):
        return False
    return all(_value(name, params, defaults) not in values for name, values in rule.unless.items())


def _value(name: str, params: Mapping[str, Any], defaults: Mapping[str, Scalar]) -> Any:
    value = params.get(name)
    return defaults.get(name) if value is None else value


def _stated(value: object) -> bool:
    return value is not None and value not in ((), [])


def _apply(rule: ParameterRule, sent: dict[str, Any], owner: str) -> str | None:
    """Do what one rule says; what was done, or None if there was nothing to do."""
    name = rule.parameter
    match rule.action:
        case "rename":
            to = rule.to or name
            sent[to] = sent.pop(name)
            return to
        case "drop":
            del sent[name]
            return rule.hint or f"{owner} does not take it"
        case "clamp":
            return _clamp(rule, sent)
        case "replace":
            return _replace(rule, sent)
        case "allow" if sent[name] in rule.values:
            return None
        case "allow":
            accepted = ", ".join(repr(value) for value in rule.values)
            raise UnsupportedError(
                f"The {owner} does not take this value of {name!r}{_circumstances(rule)}.",
                hint=f"It takes {accepted}.{f' {rule.hint}' if rule.hint else ''}",
                code="unsupported_value",
            )
        case "refuse":
            raise UnsupportedError(
                f"The {owner} does not take {name!r}{_circumstances(rule)}.",
                hint=rule.hint or f"Leave {name!r} out, or choose another model.",
                code="unsupported_parameter",
            )


def _clamp(rule: ParameterRule, sent: dict[str, Any]) -> str | None:
    value = sent[rule.parameter]
    if not isinstance(value, int | float):
        return None
    if rule.minimum is not None and value < rule.minimum:
        sent[rule.parameter] = rule.minimum
        return f"raised to {rule.minimum}"
    if rule.maximum is not None and value > rule.maximum:
        sent[rule.parameter] = rule.maximum
        return f"lowered to {rule.maximum}"
    return None


def _replace(rule: ParameterRule, sent: dict[str, Any]) -> str | None:
    value = sent[rule.parameter]
    if not isinstance(value, str) or value not in rule.replacements:
        return None
    sent[rule.parameter] = rule.replacements[value]
    return f"sent as {rule.replacements[value]!r}"


def _circumstances(rule: ParameterRule) -> str:
    said = [f"on the {_any(sorted(rule.apis))} API"] if rule.apis else []
    said += [f"with {name} {_any(values)}" for name, values in rule.when.items()]
    said += [f"together with {' or '.join(rule.beside)}"] if rule.beside else []
    said += [f"unless {name} is {_any(values)}" for name, values in rule.unless.items()]
    return f" {' '.join(said)}" if said else ""


def _any(values: Sequence[Scalar]) -> str:
    return " or ".join(str(value) for value in values)
