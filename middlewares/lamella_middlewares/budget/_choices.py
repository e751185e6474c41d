"""The choices among `Budget`'s options, and what they amount to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, cast

import attrs

from lamella import ConfigurationError
from lamella._lines import Terms
from lamella._named_stores import layer_store
from lamella._options import refused
from lamella._tokenizers import CounterOf, counter_choice
from lamella_middlewares.budget._accounts import NAME
from lamella_middlewares.budget._allowances import TOKENS, Allowance, Limit, limits_of
from lamella_middlewares.budget._notices import Thresholds
from lamella_middlewares.budget._windows import zone_of
from lamella_middlewares.budget._worst_case import Estimates

CODE: Final = "budget_exceeded"

_INSIST: Final = 3600.0
"""Seconds for which a store that is out is told again what was spent."""


def counter(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    """Check what counts tokens."""
    # Lists have a count() too, and so has an empty name.
    counts = callable(getattr(value, "count", None)) and not isinstance(value, str | list | tuple)
    named = isinstance(value, str) and value != ""
    if value is not None and not counts and not named:
        want = "a TokenCounter (an object with count(texts)), a tokenizer's name, 'auto' or None"
        raise refused(layer, option, cast("object", value), want)


def currency(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    """Check the code of a currency."""
    if not isinstance(value, str) or len(value) != 3 or not value.isupper():
        raise refused(layer, option, value, "a currency's code, such as 'USD'")


def ascending(value: Any) -> Any:
    """Shares in their order; one by itself, too. What cannot be ordered is left to its check."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        given: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]
        try:
            return tuple(sorted(set(given)))
        except TypeError:
            return tuple(given)
    return (value,)


def store(value: Any) -> Any:
    """A store of the layer's own: itself, by name, or by a table; None for the pipeline's."""
    return None if value is None else layer_store("Budget", "leases", value)


@attrs.frozen(eq=False)
class Plan:
    """What the options of a layer amount to, worked out once.

    Attributes:
        namespace: Where it is counted.
        limits: What is counted.
        in_money: Whether any of that is money.
        windowed: Whether any of that starts anew.
        counter_of: Gives what counts the tokens of a request.
        estimates: How the worst case is worked out.
        terms: How leases are kept.
        thresholds: Of what somebody wants to know.
        strict: Whether what has no bound is refused.
        unknown: What to do about what has no price.
        missing: What to do about requests that do not say for whom they are.
        on_outage: What to do if the store fails.
        refresh: Seconds after which amounts set at run time are read anew.
    """

    namespace: str
    limits: tuple[Limit, ...]
    in_money: bool
    windowed: bool
    counter_of: CounterOf
    estimates: Estimates
    terms: Terms
    thresholds: Thresholds
    strict: bool
    unknown: Literal["refuse", "note"]
    missing: Literal["together", "refuse"]
    on_outage: Literal["deny", "allow"]
    refresh: float


def plan_of(layer: Any) -> Plan:
    """What a layer's options amount to.

    Raises:
        ConfigurationError: If they do not go together, or limit nothing.
    """
    attrs.validate(layer)  # attrs itself does so only once all fields are there
    if layer.strict and layer.assume_output_tokens is not None:
        raise ConfigurationError(
            f"Budget(strict=True, assume_output_tokens={layer.assume_output_tokens!r}): what is "
            "assumed bounds nothing.",
            hint="Leave one of them out.",
        )
    if layer.strict and layer.unknown == "note":
        raise ConfigurationError(
            "Budget(strict=True, unknown='note') would send what has no price.",
            hint="Leave one of them out.",
        )
    limits = limits_of(_given(layer), layer.currency, zone_of(layer.timezone), layer.timezone)
    in_money = any(limit.in_money for limit in limits)
    return Plan(
        namespace=layer.namespace,
        limits=limits,
        in_money=in_money,
        windowed=any(limit.window.name for limit in limits),
        counter_of=counter_choice(layer.counter),
        estimates=Estimates(
            layer.margin,
            layer.assume_output_tokens,
            in_money=in_money,
            in_tokens=any(limit.unit == TOKENS for limit in limits),
            strict=layer.strict,
        ),
        terms=Terms(NAME, CODE, 0, 0.0, ttl=layer.ttl, insist=_INSIST),
        thresholds=Thresholds(layer.notify_at, layer.on_threshold),
        strict=layer.strict,
        unknown=layer.unknown,
        missing=layer.missing,
        on_outage=layer.on_outage,
        refresh=layer.refresh,
    )


def _given(layer: Any) -> list[Allowance]:
    given: list[Allowance] = list(layer.limits)
    if not _has_its_own(layer):
        return given
    own = Allowance(
        layer.amount,
        tokens=layer.tokens,
        requests=layer.requests,
        per=layer.per,
        window=layer.window,
        keep=layer.keep,
    )
    return [own, *given]


def _has_its_own(layer: Any) -> bool:
    """Whether a layer says an amount itself, besides its `limits`."""
    return layer.amount is not None or layer.tokens is not None or layer.requests is not None


def must_limit(layer: Any) -> None:
    """Refuse a layer that limits nothing, or says for whom, but not how much.

    Raises:
        ConfigurationError: If it does.
    """
    given = [name for name in ("per", "window", "keep") if getattr(layer, name) is not None]
    if given and not _has_its_own(layer):
        said = ", ".join(f"{name}={getattr(layer, name)!r}" for name in given)
        raise ConfigurationError(
            f"Budget({said}) says no amount, tokens or requests to go with that.",
            hint="Give one of these, or say per and window in each Allowance of limits.",
        )
    if not layer.plan.limits:
        raise ConfigurationError(
            "Budget() limits nothing.",
            hint='Give it an amount, such as Budget("100", per="tenant", window="month").',
        )
