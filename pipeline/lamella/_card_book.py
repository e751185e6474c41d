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
from typing import Final, TypeAlias

import attrs

from lamella._cards import CardPatch, ModelCard
from lamella._errors import ConfigurationError

Entry: TypeAlias = ModelCard | CardPatch

CardSource: TypeAlias = (
    str | os.PathLike[str] | Mapping[str, object] | Callable[[], Iterable[Entry]]
)
"""A card file's path, its parsed tables, or a function that gives cards. Called or read once."""

Find: TypeAlias = Callable[[str, str], ModelCard | None]

_REMEMBERED: Final = 4096
_DIGIT: Final = re.compile(r"[0-9]")


@attrs.frozen
class _Index:
    """The cards of all layers, by (provider, name)."""

    cards: Mapping[tuple[str, str], ModelCard]
    aliases: Mapping[tuple[str, str], str]
    snapshots: Mapping[str, tuple[re.Pattern[str], ...]]
    prefixes: Mapping[str, tuple[tuple[str, str], ...]]

    def find(self, provider: str, model: str) -> ModelCard | None:
        card = self._named(provider, model)
        if card is not None:
            return card
        # The shortest suffix first: it leaves the longest name.
        for pattern in self.snapshots.get(provider, ()):
            match = pattern.search(model)
            if match is not None:
                card = self._named(provider, model[: match.start()])
                if card is not None and _DIGIT.sub("#", match[0]) in card.snapshots:
                    return card
        for prefix, name in self.prefixes.get(provider, ()):
            if model.startswith(prefix):
                return self.cards[provider, name]
        return None

    def _named(self, provider: str, name: str) -> ModelCard | None:
        card = self.cards.get((provider, name))
        if card is None:
            meant = self.aliases.get((provider, name))
            card = None if meant is None else self.cards.get((provider, meant))
        return card


def _index(layers: Iterable[Iterable[Entry]]) -> _Index:
    """Put layers together, the lowest first; each replaces what those below it say of a name."""
    cards: dict[tuple[str, str], ModelCard] = {}
    aliases: dict[tuple[str, str], str] = {}
    for layer in layers:
        for entry in layer:
            key = (entry.provider, entry.name)
            card = entry if isinstance(entry, ModelCard) else entry.applied_to(cards.get(key))
            cards[key] = card
            aliases.pop(key, None)
            for alias in card.aliases:
                cards.pop((card.provider, alias), None)
                aliases[card.provider, alias] = card.name
    shapes: dict[str, set[str]] = {}
    prefixes: dict[str, list[tuple[str, str]]] = {}
    for card in cards.values():
        shapes.setdefault(card.provider, set()).update(card.snapshots)
        prefixes.setdefault(card.provider, []).extend((one, card.name) for one in card.prefixes)
    return _Index(
        cards,
        aliases,
        {provider: _patterns(found) for provider, found in shapes.items()},
        {
            provider: tuple(sorted(pairs, key=lambda pair: -len(pair[0])))
            for provider, pairs in prefixes.items()
        },
    )


def _patterns(shapes: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    in_order = sorted(shapes, key=lambda shape: (len(shape), shape))
    return tuple(
        re.compile("[0-9]".join(map(re.escape, one.split("#"))) + r"\Z") for one in in_order
    )


@attrs.frozen
class _Opened:
    """What a book knows, and how many registered cards that takes into account."""

    registered: int
    index: _Index
    find: Find


class CardBook:
    """Finds the card of a model.

    Nothing is read before the first question. It may be used from several threads at once: at worst
    two of them read the same files.

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
        self._layers: tuple[tuple[Entry, ...], ...] | None = None
        self._problems: tuple[ConfigurationError, ...] = ()
        self._opened: _Opened | None = None

    def register(self, *cards: Entry) -> None:
        """Add cards above all files. A card replaces what was known of its name."""
        self._registered.extend(cards)

    def find(self, provider: str, model: str) -> ModelCard | None:
        """The card of a model; None if nobody has described it.

        Args:
            provider: The provider of the card (`Endpoint.card_provider`).
            model: The model's name, as requests and answers have it.

        Raises:
            ConfigurationError: If a file of the user's cannot be read, or has mistakes.
        """
        return self._open().find(provider, model)

    def cards(self, provider: str | None = None) -> tuple[ModelCard, ...]:
        """All cards, or those of one provider, by provider and name.

        Raises:
            ConfigurationError: If a file of the user's cannot be read, or has mistakes.
        """
        found = self._open().index.cards
        return tuple(found[key] for key in sorted(found) if provider in {None, key[0]})

    @property
    def problems(self) -> tuple[ConfigurationError, ...]:
        """What was wrong with plugins' cards, once a card has been asked for."""
        return self._problems

    def _open(self) -> _Opened:
        opened = self._opened
        if opened is None or opened.registered != len(self._registered):
            registered = tuple(self._registered)
            index = _index((*self._read(), registered))
            remember = lru_cache(maxsize=_REMEMBERED)(index.find)
            opened = self._opened = _Opened(len(registered), index, remember)
        return opened

    def _read(self) -> tuple[tuple[Entry, ...], ...]:
        layers = self._layers
        if layers is None:
            from lamella._card_files import builtin_cards

            lowest = (builtin_cards(),) if self._builtin else ()
            problems: list[ConfigurationError] = []
            from_plugins: list[tuple[Entry, ...]] = []
            for source in self._plugins:
                try:
                    from_plugins.append(_entries(source))
                except ConfigurationError as error:
                    problems.append(error)
            layers = (*lowest, *from_plugins, *map(_entries, self._files))
            self._layers, self._problems = layers, tuple(problems)
        return layers


def _entries(source: CardSource) -> tuple[Entry, ...]:
    if callable(source):
        return tuple(source())
    from lamella._card_files import cards_from, read_card_file

    if isinstance(source, Mapping):
        return cards_from(source)
    return read_card_file(source)
