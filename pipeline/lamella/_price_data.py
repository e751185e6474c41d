"""Prices from the data set of `genai-prices` (the extra `cost`), which is offline and dated.

Only what can be said exactly is taken over. A model is known by a name that the data set states, or
by a dated version of one, never by a name that merely contains another. A price that has a part
which a `Usage` does not count (requests, pages, hours), or that depends on the time of day, is no
price here. Cached tokens and sound have a price where the data set states one; pictures and
reasoning without one of their own are billed as input and output, as the data set says that they
are.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from contextvars import copy_context
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Any, Final, cast

from lamella._errors import ConfigurationError
from lamella._prices import Price, Rates, Tier, rate
from lamella._warm import Warm

_ASKED: Final = 4096
"""Models remembered. Names come from requests, so that there must be a bound."""

_PROVIDERS: Final[Mapping[str, str]] = {
    "bedrock": "aws",
    "moonshot": "moonshotai",
    "xai": "x-ai",
    "x_ai": "x-ai",
}
"""Providers that the model cards call otherwise; all others go by the same name."""

_DATED: Final = re.compile(r"[-@](?:20\d{2}-\d{2}-\d{2}|20\d{6})\Z")
"""What follows a model's name in a dated version of it."""

_PARTS: Final[Mapping[str, str]] = {
    "input_mtok": "uncached_input",
    "cache_read_mtok": "cache_read",
    "input_audio_mtok": "audio_input",
    "input_image_mtok": "image_input",
    "output_mtok": "text_output",
    "output_reasoning_mtok": "reasoning_output",
    "output_audio_mtok": "audio_output",
    "output_image_mtok": "image_output",
}
_WRITES: Final[Mapping[str, tuple[str, ...]]] = {
    "cache_write_mtok": ("", "5m"),
    "cache_write_5m_mtok": ("", "5m"),
    "cache_write_1h_mtok": ("1h",),
}
"""Cache writes by lifetime. The one that the data set does not name is the shortest there is."""

_TOOLS: Final[Mapping[str, str]] = {
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "file_search",
    "code_executions_kcount": "code_execution",
}
_OF_THE_CACHE: Final = frozenset({"cache_audio_read_mtok", "cache_image_read_mtok"})
"""Cached tokens by modality, which a `Usage` does not tell apart."""

_VIDEO: Final[Mapping[str, str]] = {
    "input_video_mtok": "image_input",
    "output_video_mtok": "image_output",
}
"""Video counts as images in a `Usage`."""

_SERVICES: Final = ("service_tier", "processing", "speed")
"""What a price may depend on that is a class of service, named by the value."""


class GenaiPrices:
    """The prices of `genai-prices`; see the module."""

    name = "genai_prices"
    edition = 0
    """What has been read stays as it is."""

    def __init__(self) -> None:
        self.reading = Warm(self.load)
        self._providers: Mapping[str, Any] | None = None
        self._found = lru_cache(maxsize=_ASKED)(self._find)

    def load(self) -> None:
        """Import the data set, which takes some 200 ms."""
        if self._providers is None:
            from genai_prices.data import providers

            self._providers = {provider.id: provider for provider in providers}

    def price(self, provider: str, model: str, day: dt.date, /) -> Price | None:
        """See `PriceSource`.

        Raises:
            ImportError: If the package is not installed.
        """
        self.load()
        return self._found(provider, model, day)

    def _find(self, provider: str, model: str, day: dt.date) -> Price | None:
        # Reading decimals sets a context variable of the decimal module; not in the caller's.
        return copy_context().run(self._searched, provider, model, day)

    def _searched(self, provider: str, model: str, day: dt.date) -> Price | None:
        known = self._providers or {}
        name = provider.lower()
        listed = known.get(_PROVIDERS.get(name, name))
        if listed is None:
            return None
        wanted = model.lower()
        for each in listed.models:
            if wanted == each.id.lower() or _means(each.match, wanted):
                return _price_of(each, day)
        return None


def installed_genai_prices() -> GenaiPrices:
    """The process's own, for whoever names it.

    Raises:
        ConfigurationError: If the package is not installed.
    """
    if find_spec("genai_prices") is None:
        raise ConfigurationError(
            "The price source 'genai_prices' needs the package genai-prices.",
            hint="Install it: pip install 'lamella[cost]'.",
        )
    return shared_genai_prices()


@cache
def shared_genai_prices() -> GenaiPrices:
    """The process's own: it reads once, and remembers what was asked."""
    return GenaiPrices()


def _means(clause: Any, model: str) -> bool:
    """Whether the rule names just this model, or the model of which this is a dated version."""
    parts = getattr(clause, "or_", None)
    if parts is not None:
        return any(_means(part, model) for part in parts)
    values: Any = clause.__dict__.values()
    stated: str | None = next((text for text in values if isinstance(text, str)), None)
    if stated is None:  # all of several rules, each looser than a name
        return False
    if hasattr(clause, "regex"):
        return re.fullmatch(stated, model) is not None and not _loose(stated)
    stated = stated.lower()
    if model == stated:
        return True
    dated = _DATED.search(model) if hasattr(clause, "starts_with") else None
    return dated is not None and model[: dated.start()] == stated.rstrip("-@")


def _loose(pattern: str) -> bool:
    return ".*" in pattern or ".+" in pattern


def _price_of(model: Any, day: dt.date) -> Price | None:
    standard = _row(model.prices, day)
    if standard is None:
        return None
    stated = _stated(standard)
    services: dict[str, Fraction | Price] = {}
    for variant in model.price_variants or ():
        service = _service(variant.when)
        if service is None or service in services or not _holds(variant.constraint, day):
            continue
        price = _price({**stated, **_stated(variant.prices)})
        if price is not None and service not in {"standard", "default", "auto"}:
            services[service] = price
    return _price(stated, services)


def _row(prices: Any, day: dt.date) -> Any:
    """What holds on a day; None if nothing, or if that depends on the time of day."""
    if not isinstance(prices, list):
        return prices
    rows = cast("Sequence[Any]", prices)
    if any(one.constraint is not None and not _dated(one.constraint) for one in rows):
        return None
    for one in reversed(rows):
        if _holds(one.constraint, day):
            return one.prices
    return None


def _dated(constraint: Any) -> bool:
    return hasattr(constraint, "start_date")


def _holds(constraint: Any, day: dt.date) -> bool:
    return constraint is None or (_dated(constraint) and constraint.start_date <= day)


def _service(when: Mapping[str, str]) -> str | None:
    if len(when) != 1:
        return None
    [(key, value)] = when.items()
    return value if key in _SERVICES else None


def _stated(prices: object) -> dict[str, Any]:
    stated: dict[str, Any] = prices.__dict__
    return {
        key: value for key, value in stated.items() if value is not None and not key.startswith("_")
    }


def _price(
    stated: Mapping[str, Any], services: Mapping[str, Fraction | Price] | None = None
) -> Price | None:
    """The price with these parts; None if one of them cannot be said."""
    known = {*_PARTS, *_WRITES, *_TOOLS, *_OF_THE_CACHE, *_VIDEO}
    if not stated.keys() <= known or "input_mtok" not in stated:
        return None
    try:
        bounds = sorted({tier.start for value in stated.values() for tier in _tiers(value)})
        tiers = [Tier(bound, _rates(stated, bound)) for bound in bounds]
        return Price(_rates(stated, None), tiers=tiers, services=dict(services or {}))
    except (TypeError, ValueError):  # negative, finer than a nano-unit, no number
        return None


def _tiers(value: Any) -> Iterator[Any]:
    yield from getattr(value, "tiers", ())


def _rates(stated: Mapping[str, Any], above: int | None) -> Rates:
    """The rates of a request of more than `above` tokens; None is below all tiers."""
    amounts = {key: _amount(value, above) for key, value in stated.items()}
    fields: dict[str, Any] = {part: amounts.get(key) for key, part in _PARTS.items()}
    fields["image_input"] = amounts.get("input_image_mtok", amounts["input_mtok"])
    if fields["reasoning_output"] is None:
        fields["reasoning_output"] = fields["text_output"]
    for key, part in _VIDEO.items():
        if key in amounts and amounts[key] != fields[part]:
            fields[part] = None
    if any(amounts[key] != fields["cache_read"] for key in _OF_THE_CACHE & amounts.keys()):
        fields["cache_read"] = None
    writes: dict[str, int] = {}
    for key, lifetimes in _WRITES.items():
        if key in amounts:
            writes |= dict.fromkeys(lifetimes, amounts[key])
    tools = {name: _each(amounts[key], key) for key, name in _TOOLS.items() if key in amounts}
    return Rates(**fields, cache_write=writes, tool_units=tools)


def _amount(value: Any, above: int | None) -> int:
    """Nano-units for a million, or for a thousand of what is counted by the thousand."""
    amount: Decimal = getattr(value, "base", value)
    for tier in _tiers(value):
        if above is not None and tier.start <= above:
            amount = tier.price
    return rate(f"{amount:f}")


def _each(amount: int, key: str) -> int:
    exact = Fraction(amount, 1000)
    if exact.denominator != 1:
        raise ValueError(f"{key}: {amount} nano-units for a thousand is no whole number each.")
    return exact.numerator
