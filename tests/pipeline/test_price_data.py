"""Prices from the data set of genai-prices: what can be said exactly, and nothing else."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.types import (
    ClauseContains,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import Tier as TheirTier

from lamella import Money, Price, Usage, shared_cards
from lamella._price_data import GenaiPrices, shared_genai_prices

DAY = dt.date(2026, 11, 21)
PLAIN = ModelPrice(input_mtok=Decimal(2), output_mtok=Decimal(8))


def source(*models: ModelInfo, provider: str = "acme") -> GenaiPrices:
    """The data set, as if it held only these models."""
    made = GenaiPrices()
    made._providers = {provider: Provider(provider, "Acme", "x", models=list(models))}
    return made


def priced(prices: Any, day: dt.date = DAY, **more: Any) -> Price | None:
    """What becomes of a model's prices."""
    return source(ModelInfo("m", ClauseEquals("m"), prices=prices, **more)).price("acme", "m", day)


def test_what_both_know_costs_the_same() -> None:
    """Of the cards' models nearly all: the two were written down by different people."""
    theirs, same, other = shared_genai_prices(), 0, []
    theirs.load()
    for card in shared_cards().cards():
        ours, found = card.price(DAY), theirs.price(card.provider, card.name, DAY)
        if ours is None or found is None:
            continue
        usage = Usage(uncached_input=1_000, text_output=0 if "embed" in card.name else 100)
        if ours.cost(usage) == found.cost(usage):
            same += 1
        else:
            other.append(card.name)
    assert same > 150
    assert all(name.startswith("us-gov.") for name in other), other


def test_every_part_has_the_price_that_is_stated() -> None:
    """Reasoning and pictures as the data set says; what it does not price has none."""
    price = priced(
        ModelPrice(
            input_mtok=Decimal(2),
            output_mtok=Decimal(8),
            cache_read_mtok=Decimal("0.5"),
            cache_write_mtok=Decimal("2.5"),
            cache_write_1h_mtok=Decimal(4),
            web_searches_kcount=Decimal(10),
        )
    )
    assert price is not None
    usage = Usage(
        uncached_input=1,
        cache_read=10,
        cache_write={"5m": 100, "1h": 1_000},
        image_input=10_000,
        text_output=100_000,
        reasoning_output=1_000_000,
        tool_units={"web_search": 3},
    )
    # 1 x 2 + 10 x 0.5 + 100 x 2.5 + 1,000 x 4 + 10,000 x 2 + 1,100,000 x 8 per million; 3 x 0.01
    assert price.cost(usage) == Money(8_824_257_000 + 30_000_000)
    assert price.unpriced(Usage(audio_input=1, cache_write={"12h": 1})) == (
        "audio_input",
        "cache_write:12h",
    )


def test_a_tier_begins_after_its_border() -> None:
    """One token more, and all of them cost more."""
    tiered = TieredPrices(base=Decimal(2), tiers=[TheirTier(start=100, price=Decimal(4))])
    price = priced(ModelPrice(input_mtok=tiered, output_mtok=Decimal(8)))
    assert price is not None
    assert price.cost(Usage(uncached_input=100, text_output=1)) == Money(208_000)
    assert price.cost(Usage(uncached_input=101, text_output=1)) == Money(412_000)


def test_services_are_those_that_the_data_set_tells_apart() -> None:
    """What a variant does not price costs as usual; one that begins later is none yet."""
    half = ModelPrice(input_mtok=Decimal(1))
    variants = [
        PriceVariant({"processing": "batch"}, half),
        PriceVariant({"service_tier": "default"}, half),
        PriceVariant({"route": "mistral/eu"}, half),
        PriceVariant({"service_tier": "flex"}, half, StartDateConstraint(dt.date(2027, 1, 1))),
    ]
    price = priced(PLAIN, price_variants=variants)
    assert price is not None
    assert price.services.keys() == {"batch"}
    usage = Usage(uncached_input=1_000, text_output=1_000)
    assert price.cost(usage, service="batch") == Money(9_000_000)
    assert price.cost(usage, service="default") == Money(10_000_000)


def test_prices_are_those_of_the_day() -> None:
    """The last row that has begun; one that depends on the hour is no price of a day."""
    dear = ModelPrice(input_mtok=Decimal(9))
    begins = StartDateConstraint(dt.date(2026, 11, 21))
    rows = [ConditionalPrice(prices=PLAIN), ConditionalPrice(begins, prices=dear)]
    for day, rate in [(20, 2), (21, 9)]:
        price = priced(rows, dt.date(2026, 11, day))
        assert price is not None
        assert price.rates.uncached_input == rate * 10**9
    night = TimeOfDateConstraint(dt.time(0), dt.time(8))
    assert priced([ConditionalPrice(prices=PLAIN), ConditionalPrice(night, prices=dear)]) is None


@pytest.mark.parametrize(
    "prices",
    [
        ModelPrice(input_mtok=Decimal(2), requests_kcount=Decimal(5)),
        ModelPrice(input_mtok=Decimal(2), output_citation_mtok=Decimal(5)),
        ModelPrice(audio_hours=Decimal(2)),
        ModelPrice(input_mtok=Decimal(-2)),
        ModelPrice(input_mtok=Decimal("0.00000000001")),
        ModelPrice(input_mtok=Decimal("NaN")),
    ],
)
def test_what_cannot_be_said_exactly_is_no_price(prices: ModelPrice) -> None:
    """Neither a part that nobody counts, nor an amount that is none."""
    assert priced(prices) is None


def test_cached_sound_that_costs_otherwise_leaves_the_cache_without_a_price() -> None:
    """A usage does not say what was cached."""
    stated = {"input_mtok": Decimal(2), "cache_read_mtok": Decimal("0.5")}
    same = priced(ModelPrice(**stated, cache_audio_read_mtok=Decimal("0.5")))
    other = priced(ModelPrice(**stated, cache_audio_read_mtok=Decimal(1)))
    assert same is not None
    assert other is not None
    assert (same.rates.cache_read, other.rates.cache_read) == (500_000_000, None)


def test_only_a_models_own_names_find_it() -> None:
    """As stated, or dated; what merely begins alike, or contains it, is another model."""
    match = ClauseOr(
        [ClauseStartsWith("acme-1"), ClauseContains("one"), ClauseRegex("acme-one-v[0-9]")]
    )
    known = source(ModelInfo("acme-one", match, prices=PLAIN))
    for name in ("acme-one", "ACME-1", "acme-1-2026-11-21", "acme-1@20261121", "acme-one-v3"):
        assert known.price("acme", name, DAY) is not None, name
    for name in ("acme-1-mini", "acme-10", "none", "acme-one-v3-mini", "acme-1-latest"):
        assert known.price("acme", name, DAY) is None, name
    assert known.price("acme-proxy", "acme-one", DAY) is None
