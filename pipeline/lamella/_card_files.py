"""Reading card files: TOML, or a dict of the same shape, into `ModelCard`s.

A file describes the models of one provider::

    provider = "acme"
    as_of = 2026-11-21
    source = "Acme's public price list"

    [bases.chat]                     # what several models share
    capabilities = ["streaming", "tools"]
    billed_as = { reasoning_output = "output" }

    [models."acme-1"]
    base = "chat"
    context_window = 128000

    [[models."acme-1".prices]]       # whole units per million tokens, in quotes
    input = "2.50"
    output = "10"
    services = { batch = "1/2" }
    tiers = [{ above = 200000, input = "5", output = "15" }]

A model has its base's keys where it states none of its own, and its base's rules for parameters of
which its own say nothing. One with `amend = true` changes only what it states of the card in the
layer below: for a price of one's own, or an ability that came later. One that goes by several names
with something in front states them as `regions`; see `_card_regions`. All mistakes of a file are
reported at once.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import attrs

from lamella._card_counting import read_image_rule
from lamella._card_regions import in_regions, read_regions
from lamella._cards import (
    CAPABILITIES,
    FRAMINGS,
    MODALITIES,
    OPERATIONS,
    CardPatch,
    EmbeddingFacts,
    ModelCard,
)
from lamella._checked_tables import Mistakes, Table, on_bases
from lamella._errors import ConfigurationError
from lamella._parameter_rules import ParameterRule, Scalar
from lamella._prices import FILE_PARTS, Price, Rates, Tier, factor, rates_of
from lamella._rule_tables import read_rules, scalars

_CURRENCY: Final = re.compile(r"[A-Z]{3}\Z")


@attrs.frozen
class _Head:
    """What a file says of all its models."""

    provider: str
    as_of: dt.date | None
    source: str
    currency: str


def builtin_providers() -> tuple[str, ...]:
    """The providers that this package has cards of: a file each, with the provider's name."""
    found = (file.name for file in _cards_folder().iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def builtin_cards(provider: str) -> tuple[ModelCard | CardPatch, ...]:
    """This package's cards of one provider; empty if it has none."""
    if provider not in builtin_providers():
        return ()
    file = _cards_folder().joinpath(f"{provider}.toml")
    return cards_from(tomllib.loads(file.read_text("utf-8")), place=f"lamella/cards/{file.name}")


def _cards_folder() -> Traversable:
    return files("lamella").joinpath("cards")


def read_toml(path: str | os.PathLike[str]) -> Mapping[str, object]:
    """The tables of a TOML file.

    Raises:
        ConfigurationError: If it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(
            f"{os.fspath(path)}: cannot be read ({error.strerror}).",
            hint="Check the path and its permissions.",
        ) from error
    except (ValueError, RecursionError) as error:  # also a number, or nesting, beyond all bounds
        raise ConfigurationError(
            f"{os.fspath(path)}: not a TOML file ({error}).",
            hint='Names with dots or slashes need quotes: [models."acme-1.5"].',
        ) from error


def read_card_file(path: str | os.PathLike[str]) -> tuple[ModelCard | CardPatch, ...]:
    """The cards of a file.

    Raises:
        ConfigurationError: If it cannot be read, is not TOML, or has mistakes; all are named.
    """
    return cards_from(read_toml(path), place=os.fspath(path))


def cards_from(
    tables: Mapping[str, object], *, place: str = "cards"
) -> tuple[ModelCard | CardPatch, ...]:
    """The cards that the tables of a card file describe.

    Args:
        tables: What `tomllib` gives for a card file.
        place: The name of the file in messages.

    Raises:
        ConfigurationError: If it has mistakes; all are named.
    """
    mistakes = Mistakes(place)
    top = Table(tables, "", mistakes)
    head = _Head(
        provider=top.text("provider", required=True) or "",
        as_of=top.day("as_of", required=True),
        source=top.text("source", required=True) or "",
        currency=top.text("currency") or "USD",
    )
    if not _CURRENCY.match(head.currency):
        top.wrong("currency", "an ISO 4217 code such as 'USD', in capitals")
    cards = [one for name, table in on_bases(top, "models") for one in _model(name, table, head)]
    top.finish()
    _clashes(cards, top)
    mistakes.raise_any()
    return tuple(cards)


def _model(name: str, table: Table, head: _Head) -> Iterable[ModelCard | CardPatch]:
    amend = table.flag("amend", default=False)
    regions = read_regions(table)
    if amend and regions:
        table.wrong("regions", "none: each of the names is amended by itself")
    fields: dict[str, Any] = {
        key: read(table, key) for key, read in _READERS.items() if table.has(key)
    }
    prices = _prices(table, head)
    if prices:
        fields["prices"] = prices
    table.finish()
    fields |= {"source": f"as of {head.as_of}, {head.source}", "as_of": head.as_of}
    try:
        cards = tuple(in_regions(ModelCard(name, head.provider, **fields), regions))
    except ValueError as error:
        table.mistakes.add(f"{table.path}: {error}")
        return (ModelCard(name, head.provider),)
    return (CardPatch(head.provider, name, fields),) if amend else cards


def _rules(table: Table, _: str) -> tuple[ParameterRule, ...]:
    return read_rules(table)


def _scalars(table: Table, key: str) -> Mapping[str, Scalar]:
    inner = table.table(key)
    return {} if inner is None else scalars(inner)


def _embedding(outer: Table, key: str) -> EmbeddingFacts | None:
    table = outer.table(key)
    if table is None:
        return None
    dimensions = table.whole("dimensions")
    if dimensions is None and "dimensions" not in table.values:
        table.missing("dimensions", "the length of a vector")
    least, greatest = table.whole("min_dimensions"), table.whole("max_dimensions")
    if least is not None and greatest is not None and least > greatest:
        table.wrong("min_dimensions", f"at most max_dimensions, {greatest}")
    facts = EmbeddingFacts(
        dimensions or 0,
        adjustable=(least or 1, greatest) if greatest is not None else None,
        max_batch=table.whole("max_batch"),
        max_input_tokens=table.whole("max_input_tokens"),
        max_request_tokens=table.whole("max_request_tokens"),
    )
    table.finish()
    return facts


def _framing(table: Table, key: str) -> str | None:
    name = table.text(key)
    if name is not None and name not in FRAMINGS and not name.startswith("x-"):
        table.wrong(key, f"one of {', '.join(sorted(map(repr, FRAMINGS)))}")
        return None
    return name


_READERS: Final[Mapping[str, Callable[[Table, str], object]]] = {
    "aliases": Table.texts,
    "snapshots": Table.texts,
    "prefixes": Table.texts,
    "operations": partial(Table.names, known=OPERATIONS),
    "input": partial(Table.names, known=MODALITIES),
    "output": partial(Table.names, known=MODALITIES),
    "context_window": Table.whole,
    "max_input_tokens": Table.whole,
    "max_output_tokens": Table.whole,
    "cache_minimum": Table.whole,
    "tokenizer": Table.text,
    "framing": _framing,
    "image_tokens": read_image_rule,
    "audio_tokens": Table.whole,
    "page_tokens": Table.whole,
    "tool_tokens": Table.whole,
    "capabilities": partial(Table.names, known=CAPABILITIES),
    "embedding": _embedding,
    "rules": _rules,
    "defaults": _scalars,
    "retires": Table.day,
}
"""How each field of a card is read; each is read only where it is stated."""


def _prices(table: Table, head: _Head) -> tuple[Price, ...]:
    billed_as = _scalars(table, "billed_as")
    rows = [_price(row, billed_as, head) for row in table.tables("prices")]
    days = [row.effective_from for row in rows]
    for day in dict.fromkeys(day for day in days if days.count(day) > 1):
        begin = f"on {day}" if day is not None else "without `from`"
        table.mistakes.add(f"{table.at('prices')}: several rows take effect {begin}.")
    return tuple(rows)


def _price(row: Table, billed_as: Mapping[str, Scalar], head: _Head) -> Price:
    stated = _stated(row)
    rates = _rates(row, stated, billed_as)
    if not stated:
        row.mistakes.add(f"{row.path} states no price: expected {', '.join(FILE_PARTS)}.")
    services: dict[str, Fraction | Price] = {}
    table = row.table("services")
    for name in table.values if table is not None else ():
        assert table is not None  # noqa: S101 -- without a table there is no name
        value = table.raw(name)
        if isinstance(value, Mapping):
            service = table.table(name)
            if service is not None:
                own = _complete(service, stated)
                services[name] = _made(
                    service,
                    _rates(service, own, billed_as),
                    tiers=_tiers(service, own, billed_as),
                    currency=head.currency,
                )
                service.finish()
            continue
        try:
            services[name] = factor(value)
        except ValueError:
            table.wrong(name, "a factor in quotes such as '1/2', or a table of prices")
    price = _made(
        row,
        rates,
        tiers=_tiers(row, stated, billed_as),
        services=services,
        currency=head.currency,
        effective_from=row.day("from"),
    )
    row.finish()
    return price


def _made(table: Table, rates: Rates, **fields: Any) -> Price:
    try:
        return Price(rates, **fields)
    except ValueError as error:
        table.mistakes.add(f"{table.path}: {error}")
        return Price(rates)


def _stated(table: Table) -> dict[str, object]:
    return {part: table.raw(part) for part in FILE_PARTS if table.has(part)}


def _complete(table: Table, row: Mapping[str, object]) -> dict[str, object]:
    """What a tier or service states, and what holds in it as in its row.

    It must state every price anew but those of hosted tools and of parts that are billed as others:
    a price that is left out would be the wrong one, or none.
    """
    stated = _stated(table)
    for part, value in row.items():
        if part in stated:
            continue
        billed_as = isinstance(value, str) and value in FILE_PARTS
        if part == "tools" or (billed_as and value in stated):
            stated[part] = value
        elif not billed_as:  # else it is the other part that is left out
            table.mistakes.add(f"{table.path} leaves out {part!r}: expected it as in the row.")
    return stated


def _rates(table: Table, stated: Mapping[str, object], billed_as: Mapping[str, Scalar]) -> Rates:
    parts = dict(stated)
    for part, other in billed_as.items():
        if other in stated:
            parts.setdefault(part, other)
    rates, wrong = rates_of(parts)
    for key, value, expected in wrong:
        table.mistakes.note(f"{table.path}.{key}", value, expected)
    return rates


def _tiers(
    table: Table, expected: Mapping[str, object], billed_as: Mapping[str, Scalar]
) -> Iterator[Tier]:
    for tier in table.tables("tiers"):
        above = tier.whole("above")
        if above is None and "above" not in tier.values:
            tier.missing("above", "tokens of the request")
        rates = _rates(tier, _complete(tier, expected), billed_as)
        tier.finish()
        if above is not None:
            yield Tier(above, rates)


def _clashes(cards: Iterable[ModelCard | CardPatch], top: Table) -> None:
    """Write down names that stand for two models of one file."""
    models = Table({}, "models", top.mistakes)
    seen: dict[str, str] = {}
    for card in cards:
        aliases = card.aliases if isinstance(card, ModelCard) else ()
        prefixes = card.prefixes if isinstance(card, ModelCard) else ()
        for name in (card.name, *aliases, *prefixes):
            if name in seen:
                top.mistakes.add(f"{models.at(card.name)}: {name!r} already means {seen[name]!r}.")
            seen[name] = card.name
