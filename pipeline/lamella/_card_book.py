"""The book in which models are looked up: layers of cards, read when the first one is asked for.

The first layer that knows a name wins: cards registered in code, the user's files, plugins' files,
the files of this package. A name is looked up as it is, then without the date of a snapshot, then
by the prefixes that cards declare. Nothing else matches: a card that is nearly right has the wrong
prices.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final, TypeAlias, cast

import attrs

from lamella._cards import CardPatch, ModelCard
from lamella._errors import ConfigurationError
from lamella._layers import name_of
from lamella._mending import words_of
from lamella._warm import Warm

Entry: TypeAlias = ModelCard | CardPatch

CardSource: TypeAlias = (
    str | os.PathLike[str] | Mapping[str, object] | Callable[[], Iterable[Entry]]
)
"""A card file's path, its parsed tables, or a function that gives cards. Called or read once."""

_REMEMBERED: Final = 4096
"""Models remembered for each provider. Names come from requests, so that there must be a bound."""

_PROVIDERS: Final = 256
"""Providers remembered."""

_DIGIT: Final = re.compile(r"[0-9]")


@attrs.frozen
class _Index:
    """The cards that one provider has in all layers, by name."""

    cards: Mapping[str, ModelCard]
    aliases: Mapping[str, str]
    snapshots: tuple[re.Pattern[str], ...]
    prefixes: tuple[tuple[str, str], ...]

    def find(self, model: str) -> ModelCard | None:
        card = self._named(model)
        if card is not None:
            return card
        # The shortest suffix first: it leaves the longest name.
        for pattern in self.snapshots:
            match = pattern.search(model)
            if match is not None:
                card = self._named(model[: match.start()])
                if card is not None and _DIGIT.sub("#", match[0]) in card.snapshots:
                    return card
        for prefix, name in self.prefixes:
            if model.startswith(prefix):
                return self.cards[name]
        return None

    def _named(self, name: str) -> ModelCard | None:
        return self.cards.get(self.aliases.get(name, name))


def _index(layers: Iterable[Iterable[Entry]]) -> _Index:
    """Put layers together, the lowest first; each replaces what those below it say of a name."""
    cards: dict[str, ModelCard] = {}
    aliases: dict[str, str] = {}
    for layer in layers:
        for entry in layer:
            below = cards.get(aliases.get(entry.name, entry.name))
            card = entry if isinstance(entry, ModelCard) else entry.applied_to(below)
            cards[card.name] = card
            aliases.pop(card.name, None)
            for alias in card.aliases:
                cards.pop(alias, None)
                aliases[alias] = card.name
    prefixes = [(prefix, card.name) for card in cards.values() for prefix in card.prefixes]
    return _Index(
        cards,
        aliases,
        _patterns({shape for card in cards.values() for shape in card.snapshots}),
        tuple(sorted(prefixes, key=lambda pair: -len(pair[0]))),
    )


def _patterns(shapes: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    in_order = sorted(shapes, key=lambda shape: (len(shape), shape))
    return tuple(
        re.compile("[0-9]".join(map(re.escape, one.split("#"))) + r"\Z") for one in in_order
    )


@attrs.frozen
class _Opened:
    """What a book knows of one provider, and how many registered cards that takes into account."""

    registered: int
    index: _Index
    find: Callable[[str], ModelCard | None]


class CardBook:
    """Finds the card of a model.

    Nothing is read before the first question. It may be used from several threads at once: at worst
    two of them read the same files.

    Attributes:
        reading: The reading of its files, for a thread to do; see `Warm`.
        registered: How many cards have been registered in code so far.

    Args:
        files: The user's card files: paths, parsed tables, or functions that give cards. Where two
            know one name, the later wins.
        plugins: The same from plugins, below the user's. One that is broken is left out, and its
            error kept in `problems`.
        builtin: Whether the cards of this package are the lowest layer.
    """

    def __init__(
        self,
        *,
        files: Iterable[CardSource] = (),
        plugins: Iterable[CardSource] = (),
        builtin: bool = True,
    ) -> None:
        self._files = tuple(files)
        self._plugins = tuple(plugins)
        self._builtin = builtin
        self._registered: list[Entry] = []
        self.registered = 0
        self._layers: tuple[tuple[Entry, ...], ...] | None = None
        self._problems: tuple[ConfigurationError, ...] = ()
        self._opened: dict[str, _Opened] = {}
        self.reading = Warm(self.read)

    def register(self, *cards: Entry) -> None:
        """Add cards above all files. A card replaces what was known of its name.

        Raises:
            ConfigurationError: If one of them is no card.
        """
        self._registered.extend(_all_cards(cards, "CardBook.register"))
        self.registered = len(self._registered)

    def find(self, provider: str, model: str) -> ModelCard | None:
        """The card of a model; None if nobody has described it.

        Args:
            provider: The provider of the card (`Endpoint.card_provider`).
            model: The model's name, as requests and answers have it.

        Raises:
            ConfigurationError: If a file of the user's cannot be read, or has mistakes.
        """
        opened = self._opened.get(provider)
        if opened is None or opened.registered != len(self._registered):
            opened = self._open(provider)
        return opened.find(model)

    def read(self) -> None:
        """Read what the first question would read, which takes tens of milliseconds.

        Raises:
            ConfigurationError: If a file of the user's cannot be read, or has mistakes.
        """
        from lamella._card_files import builtin_providers

        for provider in ("", *builtin_providers()) if self._builtin else ("",):
            if provider not in self._opened:
                self._open(provider)

    def cards(self, provider: str | None = None) -> tuple[ModelCard, ...]:
        """All cards, or those of one provider, by provider and name.

        Raises:
            ConfigurationError: If a file of the user's cannot be read, or has mistakes.
        """
        providers = {provider} if provider is not None else self._providers()
        found = [self._open(one).index.cards for one in sorted(providers)]
        return tuple(cards[name] for cards in found for name in sorted(cards))

    @property
    def problems(self) -> tuple[ConfigurationError, ...]:
        """What was wrong with plugins' cards, once a card has been asked for."""
        return self._problems

    def _providers(self) -> set[str]:
        from lamella._card_files import builtin_providers

        layers = (*self._read(), self._registered)
        stated = {entry.provider for layer in layers for entry in layer}
        return stated | set(builtin_providers()) if self._builtin else stated

    def _open(self, provider: str) -> _Opened:
        from lamella._card_files import builtin_cards

        registered = tuple(self._registered)
        lowest = builtin_cards(provider) if self._builtin else ()
        layers = (lowest, *self._read(), registered)
        index = _index([entry for entry in one if entry.provider == provider] for one in layers)
        opened = _Opened(len(registered), index, lru_cache(maxsize=_REMEMBERED)(index.find))
        if len(self._opened) >= _PROVIDERS:
            self._opened = {}
        self._opened[provider] = opened
        return opened

    def _read(self) -> tuple[tuple[Entry, ...], ...]:
        layers = self._layers
        if layers is None:
            problems: list[ConfigurationError] = []
            from_plugins: list[tuple[Entry, ...]] = []
            for source in self._plugins:
                try:
                    from_plugins.append(_entries(source))
                except ConfigurationError as error:
                    problems.append(error)
            layers = (*from_plugins, *map(_entries, self._files))
            self._layers, self._problems = layers, tuple(problems)
        return layers


def _entries(source: CardSource) -> tuple[Entry, ...]:
    if callable(source):
        who = f"{name_of(source)}()"
        try:
            given = tuple(source())
        except Exception as error:
            msg = f"{who}, which is to give model cards, failed: {words_of(error)}."
            raise ConfigurationError(msg) from error
        return _all_cards(given, who)
    from lamella._card_files import cards_from, read_card_file

    if isinstance(source, Mapping):
        return cards_from(source)
    if isinstance(cast("object", source), str | os.PathLike):
        return read_card_file(source)
    msg = f"{source!r} is no source of model cards: neither a path, a table nor a function."
    raise ConfigurationError(msg)


def _all_cards(given: tuple[Entry, ...], who: str) -> tuple[Entry, ...]:
    for entry in given:
        if not isinstance(cast("object", entry), ModelCard | CardPatch):
            msg = f"{who} was given, or gave, {entry!r}: expected a ModelCard."
            raise ConfigurationError(msg, hint="Tables go to CardBook(files=[...]).")
    return given
