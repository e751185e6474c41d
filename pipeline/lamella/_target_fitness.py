"""Whether a target can take a request, asked before anything is sent.

A target that lacks what a request asks for is left out, and nothing of the request is dropped to
make it fit. What nobody knows of a model stands in no way: then the provider says it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import ref

from lamella._cards import ModelCard, stated_needs
from lamella._errors import ConfigurationError, UnsupportedError
from lamella._layers import name_of
from lamella._nothing import NOTHING
from lamella._parameter_rules import apply_rules
from lamella._shared_cards import shared_cards, shared_reading

if TYPE_CHECKING:
    from lamella._card_book import CardBook
    from lamella._requests import Request
    from lamella._targets import Target

REQUIRE: Final = "require"
"""The attribute of a context with the tags that a target must have: `{"region": "eu"}`."""

DOUBT: Final = 0.5
"""Estimates lean upwards, by more than double for some scripts: only half of one is held against a
target. What is too long nevertheless, the provider refuses."""


_ANY_MODEL: Final = ModelCard("any", "any")
"""By which a request is counted that several models may get: by no rule of one of them."""

_CHATS: Final = frozenset({"chat", "responses"})
_DONE_BY: Final[Mapping[str, frozenset[str]]] = {"chat": _CHATS, "token_count": _CHATS}
"""The operations of model cards with which an operation of ours can be done."""


class Fitness:
    """What a request asks of its targets, worked out once for all of them.

    Args:
        request: The request as the choose layer got it.
        book: Where models are looked up; None is the library's own, with those of plugins.
        require: Tags that a target must have, each with its value or those that will do; besides
            those of `request.context.attributes["require"]`.
    """

    __slots__ = ("_book", "_request", "_require", "_tokens")

    def __init__(
        self,
        request: Request[Any],
        book: CardBook | None = None,
        *,
        require: Mapping[str, str | Collection[str]] = NOTHING,
    ) -> None:
        self._request = request
        self._book = book
        attributes = request.context.attributes
        own = attributes.get(REQUIRE) if attributes else None
        self._require = require if own is None else {**require, **_required(own)}
        self._tokens: float | None = None

    @property
    def at_hand(self) -> bool:
        """Whether the model cards have been read."""
        return (shared_reading if self._book is None else self._book.reading).done

    async def ready(self) -> None:
        """Have the model cards read in a thread, where nobody has asked for one before.

        Without it the first question does that, and holds up the event loop for some 50 ms.

        Raises:
            ConfigurationError: If a file of the user's cannot be read, or has mistakes.
            ClosedError: If the pipeline closes meanwhile.
        """
        if not self.at_hand:
            reading = shared_reading if self._book is None else self._book.reading
            await reading.ready(self._request.context)

    def unsuitable(self, target: Target | None) -> str | None:
        """Why a target cannot take the request; None if nothing is known to be in the way.

        Args:
            target: Where to; None is the pipeline's own transport with the request as it is.
        """
        why = self._wrong_tag(target) if self._require else None
        if why is None and target is not None and target.changes and not target.renames:
            why = self._wrong_fields(target)
        return why or self._incapable(target)

    def card(self, target: Target | None) -> ModelCard | None:
        """What is known of the model that would answer."""
        request = self._request
        transport: Any = None if target is None else target.transport
        if transport is None:
            transport = self._own_transport()
        while (inner := getattr(transport, "transport", None)) is not None:
            transport = inner  # a pipeline's own
        model: object = request.model
        if target is not None and target.changes:
            changes = target.changes_for(request) if request.own_model else target.changes
            model = changes.get("model") or model
        if not model and not request.own_model:
            model = getattr(transport, "model", None)
        if transport is None or not isinstance(model, str):
            return None
        return _card(self._book or shared_cards(), transport, model)

    def window(self, target: Target | None) -> int | None:
        """How many tokens of a conversation the model takes; None if nobody says."""
        card = self.card(target)
        return None if card is None else _window(card)

    def _own_transport(self) -> Any:
        aimed = self._request.target
        if aimed is not None and aimed.transport is not None:
            return aimed.transport
        return self._request.context.transport

    def _wrong_tag(self, target: Target | None) -> str | None:
        for tag, wanted in self._require.items():
            has = None if target is None else target.tags.get(tag)
            will_do = (wanted,) if isinstance(wanted, str) else wanted
            if has not in will_do:
                return f"its tag {tag!r} is {has!r}, required is {', '.join(map(repr, will_do))}"
        return None

    def _wrong_fields(self, target: Target) -> str | None:
        fields = self._request.__dict__
        if target.changes.keys() <= fields.keys():
            return None
        unknown = [name for name in target.changes if name not in fields]
        return f"requests of {self._request.operation!r} have no {', '.join(unknown)}"

    def _incapable(self, target: Target | None) -> str | None:
        if target is not None and target.nested:
            return None  # what it can do, its own layers know
        card = self.card(target)
        if card is None:
            return None
        request = self._request
        if target is not None and not target.renames:
            request = request.evolve(**target.changes_for(request))
        operation = request.operation
        if card.operations and not card.operations & (
            _DONE_BY.get(operation) or frozenset({operation})
        ):
            return f"the model does not do {operation}"
        needs = request.needs
        missing = card.missing(stated_needs(needs)) if needs else ()
        if missing:
            return f"the model cannot do {', '.join(missing)}"
        return self._too_long(card, request)

    def _too_long(self, card: ModelCard, request: Request[Any]) -> str | None:
        limit = _window(card)
        if limit is None:
            return None
        tokens = self._input_tokens()
        if tokens * DOUBT > limit:
            return f"about {tokens:.0f} tokens do not fit into {limit}"
        wanted = getattr(request, "max_output_tokens", None) or 0
        if card.max_output_tokens is not None and wanted > card.max_output_tokens:
            return f"max_output_tokens={wanted}, and the model writes {card.max_output_tokens}"
        return None

    def _input_tokens(self) -> float:
        if self._tokens is None:
            from lamella._token_content import text_tokens
            from lamella._tokens import input_usage

            tokens = text_tokens(self._request)
            if tokens is None:
                usage = input_usage(self._request, card=_ANY_MODEL)
                tokens = 0 if usage is None else usage.input_tokens
            self._tokens = tokens
        return self._tokens


def _window(card: ModelCard) -> int | None:
    """How many tokens of a conversation a model takes; None if nobody says."""
    window, most = card.context_window, card.max_input_tokens
    if window is None or most is None:
        return most if window is None else window
    return min(window, most)


def cards_are_read() -> bool:
    """Whether the library's own model cards have been read."""
    return shared_reading.done


def own_card(request: Request[Any]) -> ModelCard | None:
    """What is known of the model that a request is for: as `Fitness(request).card(None)`."""
    target, model = request.target, request.model
    transport: Any = None if target is None else target.transport
    if transport is None:
        transport = request.context.transport
    while (inner := getattr(transport, "transport", None)) is not None:
        transport = inner  # a pipeline's own
    if not model and not request.own_model:
        model = getattr(transport, "model", None)
    if transport is None or not isinstance(model, str):
        return None
    return _card(shared_cards(), transport, model)


_cards: dict[tuple[int, str], tuple[ref[Any], CardBook, int, ModelCard | None]] = {}
_MOST_CARDS: Final = 1024
_LONGEST_NAME: Final = 512  # models' names come from requests


def _card(book: CardBook, transport: object, model: str) -> ModelCard | None:
    """The card of a model, by what a transport calls it; remembered, for each call asks."""
    known = _cards.get((id(transport), model))
    registered = book.registered
    if known is not None:
        of, read, count, card = known
        if count == registered and read is book and of() is transport:
            return card
    card = book.find(card_provider_of(transport), card_name_of(transport, model))
    if len(model) > _LONGEST_NAME:
        return card
    try:
        of = ref(transport)
    except TypeError:
        return card  # a later transport could not be told from it
    if len(_cards) >= _MOST_CARDS:
        _cards.clear()
    _cards[id(transport), model] = (of, book, registered, card)
    return card


def _required(given: Any) -> Mapping[str, Any]:
    """The tags that a request requires.

    Raises:
        ConfigurationError: If it says so in a way that cannot be understood.
    """
    table = cast("Mapping[str, Any]", given if isinstance(given, Mapping) else {"": None})
    for tag, wanted in table.items():
        several = isinstance(wanted, list | tuple | set | frozenset)
        if not isinstance(cast("object", tag), str) or not (
            wanted if several else isinstance(wanted, str)
        ):
            msg = f"Context(attributes={{{REQUIRE!r}: {given!r}}}) cannot be understood."
            hint = "Give a table of tags, each with the value or values that will do: "
            raise ConfigurationError(msg, hint=f'{hint}{{"region": "eu"}}.')
    return table


def unsuitable(
    request: Request[Any],
    target: Target | None,
    book: CardBook | None = None,
    *,
    require: Mapping[str, str | Collection[str]] = NOTHING,
) -> str | None:
    """Why a target cannot take a request; None if nothing is known to be in the way.

    Args:
        request: The request as the choose layer got it.
        target: Where to; None is the pipeline's own transport with the request as it is.
        book: As for `Fitness`, which is cheaper for several targets.
        require: As for `Fitness`.
    """
    return Fitness(request, book, require=require).unsuitable(target)


def service_sent(request: Request[Any], book: CardBook | None = None) -> str | None:
    """The class of service that a request asks for, as far as its model's card lets it through.

    A provider that has no such classes is not asked for one, and bills none.

    Args:
        request: As it is on its way to its target.
        book: Where the model is looked up; None is the library's own.
    """
    service: str | None = getattr(request, "service_tier", None)
    card = None if service is None else Fitness(request, book).card(None)
    if card is None:
        return service
    try:
        sent, _ = apply_rules(card, request.operation, {"service_tier": service})
    except UnsupportedError:  # which is said when it is sent
        return service
    return cast("str | None", sent.get("service_tier"))


def card_provider_of(transport: object) -> str:
    """Whose model cards hold for what a transport serves: its own word, or its name."""
    said = getattr(transport, "card_provider", None)
    return said if isinstance(said, str) and said else name_of(transport)


def card_name_of(transport: object, model: str) -> str:
    """What the model cards call a model that requests to a transport name so: `card_name(model)`.

    Some providers take a model under several names: a resource's path, an ARN.
    """
    name: Any = getattr(transport, "card_name", None)
    return model if name is None else name(model)
