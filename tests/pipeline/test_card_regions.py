"""Models under several names with something in front: one card for each price."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from typing import Any

import pytest

from lamella._card_book import CardBook
from lamella._card_files import cards_from
from lamella._cards import ModelCard
from lamella._errors import ConfigurationError
from lamella._money import Money
from lamella._prices import Price, Rates, Tier, scaled
from lamella._usage import Usage

HEAD = """
provider = "acme"
as_of = 2026-11-21
source = "Acme's price list"
"""

ONE = """
[models.one]
aliases = ["uno"]
prefixes = ["tuned:"]
context_window = 128000
regions = { "" = "11/10", "global." = "1", "us." = "11/10" }
[[models.one.prices]]
input = "1"
cache_write = { default = "1.25", "1h" = "2" }
output = "4"
tools = { web_search = "0.01" }
tiers = [{ above = 100, input = "2", cache_write = "4", output = "8" }]
services = { batch = "1/2", fast = { input = "3", cache_write = "5", output = "9" } }
"""


def read(text: str) -> dict[str, Any]:
    """The tables of a card file with the usual head."""
    return tomllib.loads(HEAD + text)


def found(name: str) -> ModelCard:
    """The card of one name."""
    card = CardBook(builtin=False, files=[read(ONE)]).find("acme", name)
    assert card is not None
    return card


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("one", "one"),
        ("us.one", "one"),
        ("us.uno", "one"),
        ("us.one-2026-01-02", "one"),
        ("us.tuned:x", "one"),
        ("global.one", "global.one"),
        ("global.uno-2026-01-02", "global.one"),
        ("global.tuned:x", "global.one"),
    ],
)
def test_names_of_one_price_share_a_card(name: str, card: str) -> None:
    """Aliases, snapshots and prefixes of the model are found behind each beginning."""
    assert (found(name).name, found(name).context_window) == (card, 128000)


@pytest.mark.parametrize("name", ["eu.one", "us.global.one", "us.", "us.two", "us-one"])
def test_no_other_beginning_is_found(name: str) -> None:
    """A beginning that the file does not state may have another price."""
    assert CardBook(builtin=False, files=[read(ONE)]).find("acme", name) is None


def test_every_token_price_is_times_the_factor_and_hosted_tools_are_not() -> None:
    """Rates, tiers and services with prices of their own follow; factors of services stay."""
    (price,) = found("us.one").prices
    million = 10**6
    assert price.cost(Usage(uncached_input=50, text_output=0)) == Money.of("0.000055")
    assert price.cost(Usage(uncached_input=million)) == Money.of("2.20")
    assert price.cost(Usage(cache_write={"1h": 100})) == Money.of("0.00022")
    assert price.cost(Usage(uncached_input=million), service="batch") == Money.of("1.10")
    assert price.cost(Usage(uncached_input=million), service="fast") == Money.of("3.30")
    assert price.cost(Usage(tool_units={"web_search": 1})) == Money.of("0.01")
    assert found("global.one").prices[0].cost(Usage(uncached_input=50)) == Money.of("0.00005")


def test_a_factor_of_one_changes_nothing() -> None:
    """The price is the very same one."""
    price = Price.of(input="1", output="2")
    assert scaled(price, Fraction(1)) is price


def test_a_price_without_a_rate_stays_without_one() -> None:
    """What has no price has none elsewhere."""
    price = scaled(Price(Rates(text_output=10), (Tier(5, Rates(text_output=20)),)), Fraction(2))
    assert price == Price(Rates(text_output=20), (Tier(5, Rates(text_output=40)),))


@pytest.mark.parametrize(
    ("regions", "says"),
    [
        ('{ "us." = 1.1 }', 'models.one.regions."us." = 1.1: expected a factor in quotes'),
        ('{ "us" = "1" }', "expected a name that is empty or ends in '.', '/' or ':'"),
        ('{ "US." = "1" }', "expected a name that is empty or ends in '.', '/' or ':'"),
        ('"us."', "models.one.regions = 'us.': expected a table"),
        ('{ "us." = "1/3" }', "models.one: 1/3 times 5000000000 nano-units is no whole number"),
    ],
)
def test_mistakes_are_named_with_their_place(regions: str, says: str) -> None:
    """A wrong factor or beginning is a mistake of the file."""
    text = ONE.replace('{ "" = "11/10", "global." = "1", "us." = "11/10" }', regions)
    with pytest.raises(ConfigurationError) as caught:
        cards_from(read(text))
    assert says in caught.value.message


def test_two_models_may_not_have_one_name() -> None:
    """A beginning that makes a name which is taken is a mistake."""
    with pytest.raises(ConfigurationError, match=r"'us\.one' already means 'one'"):
        cards_from(read(ONE + '[models."us.one"]\n'))


def test_an_amendment_has_no_regions() -> None:
    """Each of the names is amended by itself, as the cards are several."""
    text = '[models.one]\namend = true\nregions = { "us." = "1" }\n'
    with pytest.raises(ConfigurationError, match="each of the names is amended by itself"):
        cards_from(read(text))
