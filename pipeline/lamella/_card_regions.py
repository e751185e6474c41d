"""Models that go by several names with something in front, and cost more under some of them.

Amazon Bedrock serves one model as `anthropic.claude-opus-5`, as `us.anthropic.claude-opus-5` and as
`global.anthropic.claude-opus-5`: everything but the price is the same. A card file says so once::

    regions = { "" = "11/10", "global." = "1", "us." = "11/10" }

What stands before the name is followed by a factor of the token prices that the file states. Names
of one price share a card.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Final

import attrs

from lamella._cards import ModelCard
from lamella._checked_tables import Table
from lamella._prices import factor, scaled

_PREFIX: Final = re.compile(r"(?:[a-z0-9][a-z0-9-]*[./:])?\Z")


def read_regions(table: Table) -> Mapping[str, Fraction]:
    """What may stand before the model's name, and the factor of its prices there.

    What is wrong is written down and left out. Empty if the table states nothing.
    """
    inner = table.table("regions")
    found: dict[str, Fraction] = {}
    for prefix in inner.values if inner is not None else ():
        assert inner is not None  # noqa: S101 -- without a table there is no prefix
        try:
            value = factor(inner.raw(prefix))
        except ValueError:
            inner.wrong(prefix, "a factor in quotes such as '1' or '11/10'")
            continue
        if _PREFIX.match(prefix):
            found[prefix] = value
        else:
            inner.wrong(prefix, "a name that is empty or ends in '.', '/' or ':', such as 'us.'")
    return found


def in_regions(card: ModelCard, regions: Mapping[str, Fraction]) -> Iterator[ModelCard]:
    """The cards of a model under all its names: one for each price.

    Raises:
        ValueError: If a price times a factor is finer than a nano-unit.
    """
    if not regions:
        yield card
        return
    shared: dict[Fraction, list[str]] = {}
    for prefix, by in regions.items():
        shared.setdefault(by, []).append(prefix)
    for by, prefixes in shared.items():
        names = [prefix + name for prefix in prefixes for name in (card.name, *card.aliases)]
        yield attrs.evolve(
            card,
            name=names[0],
            aliases=tuple(names[1:]),
            prefixes=tuple(before + one for before in prefixes for one in card.prefixes),
            prices=tuple(scaled(price, by) for price in card.prices),
        )
