"""Prices: exact integers, one rounding, and never nothing for what has no price."""

from __future__ import annotations

import datetime as dt
from decimal import localcontext
from fractions import Fraction
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella._money import Money
from lamella._prices import (
    ANY_LIFETIME,
    MILLION,
    NANO,
    Price,
    Rates,
    Tier,
    UnpricedError,
    factor,
    price_on,
    rate,
    rates_of,
)
from lamella._usage import Usage

PLAIN = [
    field.name for field in attrs.fields(Rates) if field.name not in {"cache_write", "tool_units"}
]

FULL = Rates(
    **{part: 1_000_000_000 + index for index, part in enumerate(PLAIN)},
    cache_write={"5m": 3, "1h": 7, ANY_LIFETIME: 11},
    tool_units={"web_search": 10_000_000},
)

counts = st.integers(min_value=0, max_value=10**9)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Usages with any of their parts."""
    parts: dict[str, Any] = {part: draw(counts) for part in PLAIN}
    parts["cache_write"] = draw(st.dictionaries(st.sampled_from(["", "5m", "1h", "12h"]), counts))
    parts["tool_units"] = draw(st.dictionaries(st.just("web_search"), st.integers(0, 1000)))
    return Usage(**parts)


def test_cost_of_a_known_call() -> None:
    """A call costs what its price list says: 200 uncached, 800 cached and 100 output tokens."""
    price = Price.of(input="2.50", cache_read="1.25", output="10")
    usage = Usage(uncached_input=200, cache_read=800, text_output=100)
    assert price.cost(usage) == Money.of("0.0025")


def test_reasoning_is_billed_as_output_where_the_data_say_so() -> None:
    """A part may be billed at the price of another one, and only if that is stated."""
    usage = Usage(text_output=10, reasoning_output=90)
    stated = Price.of(input="1", output="10", reasoning_output="output")
    assert stated.cost(usage) == Money.of("0.001")
    with pytest.raises(UnpricedError, match="reasoning_output"):
        Price.of(input="1", output="10").cost(usage)


@pytest.mark.parametrize("part", PLAIN)
def test_each_part_without_a_price_is_an_error(part: str) -> None:
    """A part that was used and has no price is refused by name, never counted as nothing."""
    left_out: dict[str, Any] = {part: None}
    used: dict[str, Any] = {part: 1}
    price = Price(attrs.evolve(FULL, **left_out))
    usage = Usage(**used)
    assert price.unpriced(usage) == (part,)
    with pytest.raises(UnpricedError) as caught:
        price.cost(usage)
    assert caught.value.parts == (part,)
    assert isinstance(caught.value, LookupError)
    assert price.cost(Usage()) == Money(0)


def test_zero_is_a_price() -> None:
    """A stated zero makes a part free."""
    assert Price.of(input="0", output="0").cost(Usage(uncached_input=5)) == Money(0)


def test_all_unpriced_parts_are_named_at_once() -> None:
    """Lifetimes, tools and services without a price are named too."""
    price = Price(Rates(uncached_input=1))
    usage = Usage(cache_write={"": 1, "1h": 2}, tool_units={"web_search": 1}, text_output=1)
    assert set(price.unpriced(usage)) == {
        "text_output",
        "cache_write:default",
        "cache_write:1h",
        "tool_units:web_search",
    }
    assert price.unpriced(Usage(), service="flex") == ("service:flex",)


def test_cache_writes_are_priced_by_lifetime() -> None:
    """A lifetime has its own rate, or that of any other lifetime if one is stated."""
    price = Price(FULL)
    assert price.cost(Usage(cache_write={"5m": MILLION})) == Money(3)
    assert price.cost(Usage(cache_write={"1h": MILLION})) == Money(7)
    assert price.cost(Usage(cache_write={"12h": MILLION})) == Money(11)
    strict = Price.of(cache_write={"default": "1", "30m": "1"})
    assert strict.cost(Usage(cache_write={"": MILLION})) == Money.of(1)
    assert strict.unpriced(Usage(cache_write={"12h": 1})) == ("cache_write:12h",)


def test_tools_cost_the_same_in_every_service_with_a_factor() -> None:
    """A factor changes the price of tokens, not of hosted tools."""
    price = Price.of(input="2", tools={"web_search": "0.01"}, services={"batch": "1/2"})
    usage = Usage(uncached_input=MILLION, tool_units={"web_search": 3})
    assert price.cost(usage) == Money.of("2.03")
    assert price.cost(usage, service="batch") == Money.of("1.03")


@pytest.mark.parametrize("service", [None, "default", "standard", "auto"])
def test_the_ordinary_service_has_several_names(service: str | None) -> None:
    """Providers' words for their ordinary service all mean the row itself."""
    assert Price.of(input="2").cost(Usage(uncached_input=1), service=service) == Money(2000)


def test_a_factor_applies_exactly_to_each_part() -> None:
    """5/3 of $0.15 is $0.25: a factor is a fraction, and every token part has it."""
    price = Price.of(input="0.15", cache_read="0.075", output="0.60", services={"priority": "5/3"})
    usage = Usage(uncached_input=MILLION, cache_read=MILLION, text_output=MILLION)
    assert price.cost(usage, service="priority") == Money.of("1.375")


def test_a_service_may_have_prices_of_its_own() -> None:
    """A service that is no multiple of the ordinary one states its own rates."""
    batch = Price.of(input="1.25", cache_read="input", output="5")
    price = attrs.evolve(
        Price.of(input="2.50", cache_read="1.25", output="10"), services={"batch": batch}
    )
    assert price.cost(Usage(cache_read=MILLION), service="batch") == Money.of("1.25")


@pytest.mark.parametrize(("tokens", "nano"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)])
def test_rounding_is_half_up_once(tokens: int, nano: int) -> None:
    """At half a nano-unit a token, odd counts round up, and only after everything is summed."""
    price = Price(Rates(uncached_input=MILLION // 2))
    assert price.cost(Usage(uncached_input=tokens)) == Money(nano)


@given(usages())
def test_cost_is_the_exact_sum_rounded(usage: Usage) -> None:
    """The cost is the nearest nano-unit to the exact sum over all parts."""
    exact = sum(
        (Fraction(getattr(usage, part) * getattr(FULL, part), MILLION) for part in PLAIN),
        Fraction(0),
    )
    for lifetime, count in usage.cache_write.items():
        exact += Fraction(count * FULL.cache_write.get(lifetime, 11), MILLION)
    exact += sum(count * 10_000_000 for count in usage.tool_units.values())
    cost = Price(FULL).cost(usage)
    assert type(cost.nano) is int
    assert Fraction(-1, 2) < cost.nano - exact <= Fraction(1, 2)


@given(usages(), st.sampled_from(PLAIN), st.integers(1, 10**6))
def test_more_tokens_never_cost_less(usage: Usage, part: str, more: int) -> None:
    """Cost grows with every part."""
    price = Price(FULL)
    larger = attrs.evolve(usage, **{part: getattr(usage, part) + more})
    assert price.cost(larger) >= price.cost(usage)


@given(st.integers(1, 10**6), st.integers(-1, 1), st.integers(0, 100))
def test_a_tier_begins_one_token_above_its_bound(bound: int, offset: int, cached: int) -> None:
    """The whole request is billed at the tier's rates once it is larger than the bound."""
    cached = min(cached, bound - 1)
    cheap, dear = Rates(uncached_input=MILLION, cache_read=MILLION), Rates(2 * MILLION, 2 * MILLION)
    price = Price(cheap, tiers=(Tier(bound, dear),))
    size = bound + offset
    usage = Usage(uncached_input=size - cached, cache_read=cached)
    assert price.cost(usage) == Money(2 * size if offset > 0 else size)


def test_tiers_are_ordered_by_size() -> None:
    """The largest bound below the request counts, in whatever order tiers are stated."""
    tiers = (
        Tier(200, Rates(uncached_input=3 * MILLION)),
        Tier(100, Rates(uncached_input=2 * MILLION)),
    )
    price = Price(Rates(uncached_input=MILLION), tiers=tiers)
    assert [price.cost(Usage(uncached_input=n)).nano for n in (100, 101, 200, 201)] == [
        100,
        202,
        400,
        603,
    ]


@pytest.mark.parametrize(
    "wrong", [2.5, 2, None, True, "", "two", "-1", "NaN", "Infinity", "0.0000000001"]
)
def test_only_decimals_in_quotes_are_prices(wrong: Any) -> None:
    """Floats, negative amounts and amounts finer than a nano-unit are refused."""
    with pytest.raises((TypeError, ValueError)):
        rate(wrong)
    rates, mistakes = rates_of({"input": wrong})
    assert rates == Rates()
    assert [key for key, _, _ in mistakes] == ["input"]


@pytest.mark.parametrize("wrong", [1.5, -1, True])
def test_rates_are_whole_and_not_negative(wrong: Any) -> None:
    """A rate made in code is checked like one from a file."""
    with pytest.raises(ValueError, match="whole nano-units"):
        Rates(uncached_input=wrong)
    with pytest.raises(ValueError, match="whole nano-units"):
        Rates(tool_units={"web_search": wrong})


@pytest.mark.parametrize("wrong", [0.5, "half", "-1/2", "1/0", ""])
def test_only_factors_in_quotes_are_factors(wrong: Any) -> None:
    """A factor is exact: a fraction or decimal in quotes, not negative."""
    with pytest.raises(ValueError, match="factor"):
        factor(wrong)


def test_unknown_parts_are_named() -> None:
    """A misspelt part is an error, not a part without a price."""
    with pytest.raises(ValueError, match="inptu"):
        Price.of(inptu="1")


@pytest.mark.parametrize("other", ["input", "output", "tools", "nothing"])
def test_a_part_cannot_be_billed_as_one_without_a_price(other: str) -> None:
    """A part that points to itself, to nothing, to an unpriced one or to a table is an error."""
    with pytest.raises(ValueError, match="input = "):
        Price.of(input=other, tools={"web_search": "1"}, reasoning_output="1")


def test_the_row_that_took_effect_last_holds() -> None:
    """A row holds from its day on, that day included; None asks for the newest."""
    first, second = Price.of(input="3"), Price.of(input="2", effective_from=dt.date(2026, 8, 21))
    rows = (second, first)
    assert price_on(rows, dt.date(2026, 8, 20)) is first
    assert price_on(rows, dt.date(2026, 8, 21)) is second
    assert price_on(rows) is second
    assert price_on((second,), dt.date(2026, 8, 20)) is None
    assert price_on(()) is None


# --- what was tried to break them -------------------------------------------------------------


def test_a_price_is_exact_whatever_the_decimal_context_says() -> None:
    """A program that calculates with two digits of its own still gets the whole price."""
    with localcontext() as context:
        context.prec = 2
        assert rate("3.625") == 3_625_000_000
    assert rate("12345678901234567890.123456789") == 12345678901234567890123456789


@pytest.mark.parametrize("amount", ["1e999999999", "1e-999999999", "9" * 5000, "1e-10"])
def test_an_amount_beyond_all_prices_is_refused_at_once(amount: str) -> None:
    """Neither too large nor too small a number becomes a price, least of all nothing."""
    with pytest.raises(ValueError, match="is negative, not finite, finer than a nano-unit, or"):
        rate(amount)
    with pytest.raises(ValueError, match="is not a factor"):
        factor("1e999999999")


@pytest.mark.parametrize(
    ("services", "says"),
    [
        ({"batch": 0.5}, "with 0.5: a Fraction, 0 or more, or a Price"),
        ({"batch": Fraction(-1, 2)}, r"with Fraction\(-1, 2\)"),
        ({"auto": Fraction(1, 2)}, "'auto': that is the ordinary service"),
        ({"batch": Price(Rates(), currency="EUR")}, "in EUR: expected USD"),
    ],
)
def test_what_cannot_be_a_service_is_refused_where_it_is_made(services: Any, says: str) -> None:
    """A factor that is none, or another currency, is an error before the first call is priced."""
    with pytest.raises(ValueError, match=says):
        Price(Rates(uncached_input=1), services=services)


def test_tiers_are_whole_and_of_different_sizes() -> None:
    """Of two tiers with one bound nobody could say which holds."""
    fraction: Any = 1.5
    with pytest.raises(TypeError, match="'above' must be"):
        Tier(fraction, Rates())
    with pytest.raises(ValueError, match="several tiers above 5 tokens"):
        Price(Rates(), tiers=(Tier(5, Rates()), Tier(5, Rates(uncached_input=1))))


# --- properties -------------------------------------------------------------------------------

COUNTS = st.integers(0, 2_000_000)
RATES = st.integers(0, 100 * NANO)
PARTS = (
    "uncached_input", "cache_read", "audio_input", "image_input",
    "text_output", "reasoning_output", "audio_output", "image_output",
)  # fmt: skip


@st.composite
def rates_of_all(draw: st.DrawFn) -> Rates:
    """Rates with a price for every part."""
    plain: dict[str, Any] = {part: draw(RATES) for part in PARTS}
    writes = {"": draw(RATES), "5m": draw(RATES), ANY_LIFETIME: draw(RATES)}
    return Rates(**plain, cache_write=writes, tool_units={"web_search": draw(RATES)})


@st.composite
def any_usages(draw: st.DrawFn) -> Usage:
    """Any usage."""
    plain: dict[str, Any] = {part: draw(COUNTS) for part in PARTS}
    writes = draw(st.dictionaries(st.sampled_from(["", "5m", "1h"]), COUNTS))
    tools = draw(st.dictionaries(st.just("web_search"), st.integers(0, 50)))
    return Usage(**plain, cache_write=writes, tool_units=tools)


def parts_of(usage: Usage) -> list[Usage]:
    """The usage in pieces of one part each."""
    pieces = [Usage(**{part: getattr(usage, part)}) for part in PARTS]
    pieces += [Usage(cache_write={life: count}) for life, count in usage.cache_write.items()]
    return [*pieces, Usage(tool_units=usage.tool_units)]


@given(rates_of_all(), any_usages())
def test_the_parts_add_up_to_the_whole(rates: Rates, usage: Usage) -> None:
    """But for the rounding of each; nothing is negative, and nothing is counted twice."""
    price = Price(rates)
    pieces = [price.cost(piece).nano for piece in parts_of(usage)]
    assert min(pieces) >= 0
    assert abs(sum(pieces) - price.cost(usage).nano) <= len(pieces) / 2


@given(rates_of_all(), any_usages(), st.fractions(min_value=0, max_value=3, max_denominator=20))
def test_a_factor_applies_to_each_token_part(rates: Rates, usage: Usage, by: Fraction) -> None:
    """And not to hosted tools: a batch at half the price halves every part alike."""
    price = Price(rates, services={"batch": by})
    tokens = attrs.evolve(usage, tool_units={})
    tools = price.cost(Usage(tool_units=usage.tool_units)).nano
    assert price.cost(usage, service="batch").nano - tools == (
        price.cost(tokens, service="batch").nano
    )
    for piece in parts_of(tokens):
        exact = Fraction(rates.tokens(piece, []), MILLION) * by
        assert abs(price.cost(piece, service="batch").nano - exact) <= Fraction(1, 2)


@given(rates_of_all(), st.lists(st.integers(0, 1_000_000), min_size=1, max_size=4, unique=True))
def test_a_request_is_in_the_tier_of_its_size(rates: Rates, bounds: list[int]) -> None:
    """At a border the cheaper one holds, one token above it the next, in whatever order stated."""
    tiers = [Tier(bound, Rates(uncached_input=bound * 1_000)) for bound in bounds]
    price = Price(rates, tiers=tiers)
    steps = sorted(bounds)
    for below, bound in zip([None, *steps], steps, strict=False):
        expected = rates if below is None else Rates(uncached_input=below * 1_000)
        assert price.rates_for(bound) == expected
        assert price.rates_for(bound + 1).uncached_input == bound * 1_000


@given(st.integers(0, 10**18))
def test_an_amount_is_read_as_it_is_written(nano: int) -> None:
    """There and back, to the nano-unit."""
    assert rate(str(Money(nano).amount)) == nano
    assert Money.of(str(Money(nano).amount)) == Money(nano)
