"""Model cards: what is known of a model, as data.

A card is a fact sheet: limits, abilities, prices, and what the model does with parameters. It says
nothing of models that have none; those are used as they are, without prices and without checks.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from lamella._errors import UnsupportedError
from lamella._parameter_rules import ParameterRule, RuleBook, Scalar
from lamella._prices import Price, price_on

if TYPE_CHECKING:
    from lamella._image_tokens import ImageRule

OPERATIONS: Final = frozenset(
    {
        "chat",
        "responses",
        "embeddings",
        "moderation",
        "images",
        "speech",
        "transcription",
        "video",
        "rerank",
    }
)
"""What a model may be asked to do: `chat` and `responses` are the two APIs of a chat model."""

MODALITIES: Final = frozenset({"text", "image", "audio", "file", "video", "embedding"})

CAPABILITIES: Final = frozenset(
    {
        "streaming",
        "system_role",
        "developer_role",
        "tools",
        "parallel_tool_calls",
        "json_object",
        "json_schema",
        "reasoning",
        "logprobs",
        "logit_bias",
        "n",
        "seed",
        "stop",
        "prompt_cache",
        "dimensions",
    }
)
"""What a card may state besides operations and modalities. A plugin's own begin with `x-`."""

FRAMINGS: Final = frozenset({"openai", "anthropic", "google"})
"""Whose way of writing messages and tools a model reads. A plugin's own begin with `x-`."""

_INPUTS: Final[Mapping[str, str]] = {
    "image_input": "input:image",
    "audio_input": "input:audio",
    "file_input": "input:file",
}


def stated_needs(needs: Iterable[str]) -> frozenset[str]:
    """What a request needs, in the words of the cards; what no card states is left out."""
    words = {_INPUTS.get(need, need) for need in needs}
    return frozenset([word for word in words if word in CAPABILITIES or word.startswith("input:")])


DATED: Final = ("-####-##-##",)
"""The snapshots of a model that most providers have: its name and a date. `#` is a digit."""

_Names: TypeAlias = "attrs.Attribute[tuple[str, ...]]"

_PREFIX_END: Final = (":", "/", "@")


@attrs.frozen
class EmbeddingFacts:
    """What an embedding model returns and takes.

    Attributes:
        dimensions: Numbers in a vector if the request asks for no other length.
        adjustable: The least and the greatest length that a request may ask for; None if it may
            not.
        max_batch: Inputs in one request; None if nobody says.
        max_input_tokens: Tokens in one input; None if nobody says.
        max_request_tokens: Tokens in one request, all inputs together; None if nobody says.
    """

    dimensions: int
    adjustable: tuple[int, int] | None = None
    max_batch: int | None = None
    max_input_tokens: int | None = None
    max_request_tokens: int | None = None


def _snapshot_patterns(_: object, field: _Names, value: tuple[str, ...]) -> None:
    for pattern in value:
        if not pattern or pattern[0].isalnum() or pattern[0] == "#" or "#" not in pattern:
            raise ValueError(
                f"{field.name} has {pattern!r}: expected a separator and digits written as '#', "
                "such as '-####-##-##'."
            )


def _prefix_ends(_: object, field: _Names, value: tuple[str, ...]) -> None:
    for prefix in value:
        if not prefix.endswith(_PREFIX_END):
            raise ValueError(
                f"{field.name} has {prefix!r}: expected it to end in ':', '/' or '@'. What follows "
                "a '-' may be another model."
            )


def _no_defaults() -> dict[str, Scalar]:
    return {}


def _abilities(card: ModelCard) -> frozenset[str]:
    reads = {f"input:{modality}" for modality in card.input}
    writes = {f"output:{modality}" for modality in card.output}
    sees: set[str] = {"vision"} if "image" in card.input else set()
    return card.operations | card.capabilities | reads | writes | sees


def _rule_book(card: ModelCard) -> RuleBook:
    return RuleBook(f"model {card.name!r} of {card.provider}", card.rules, card.defaults)


@attrs.frozen
class ModelCard:
    """What is known of one model.

    Attributes:
        name: The model, as requests name it.
        provider: Whose model endpoint it is (`openai`, `groq` ...): the same weights have other
            limits and prices elsewhere.
        aliases: Other names of the same model.
        snapshots: What may follow the name, or an alias, in a dated version of the same model: a
            separator, then `#` for each digit. `gpt-4o-2024-08-06` finds `gpt-4o` by
            `-####-##-##`; `gpt-4o-mini` never does.
        prefixes: Beginnings of names that mean this model, each ending in `:`, `/` or `@`
            (`ft:gpt-4o-2024-08-06:`). The longest one wins.
        operations: What it does; see `OPERATIONS`. Empty if nobody says.
        input: Modalities it reads.
        output: Modalities it writes.
        context_window: Tokens of request and answer together; None if nobody says.
        max_input_tokens: Tokens of the request; None if only the context window bounds them.
        max_output_tokens: Tokens of the answer, reasoning included; None if nobody says.
        cache_minimum: Tokens that the beginning of a request must have to be kept by the
            provider's prompt cache; None if nobody says.
        tokenizer: The tokenizer's name (`o200k_base`); None if nobody says.
        framing: How messages and tools stand in what the model reads; see `FRAMINGS`. None if
            nobody says.
        image_tokens: What pictures are billed as; None if nobody says.
        audio_tokens: Tokens of a second of sound; None if nobody says.
        page_tokens: Tokens of a page of a PDF; None if nobody says.
        tool_tokens: Tokens that the provider adds of its own to a request with tools.
        capabilities: See `CAPABILITIES`.
        embedding: For embedding models.
        rules: What it does with parameters, in the order in which they are applied.
        defaults: The values of parameters that a request does not state, for those rules.
        prices: The rows of its price list.
        retires: The day from which the provider does not serve it; None if none is announced.
        source: Where the facts come from.
        as_of: The day on which they held.
    """

    name: str
    provider: str
    aliases: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = attrs.field(default=DATED, validator=_snapshot_patterns)
    prefixes: tuple[str, ...] = attrs.field(default=(), validator=_prefix_ends)
    operations: frozenset[str] = frozenset({"chat"})
    input: frozenset[str] = frozenset({"text"})
    output: frozenset[str] = frozenset({"text"})
    context_window: int | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    cache_minimum: int | None = None
    tokenizer: str | None = None
    framing: str | None = None
    image_tokens: ImageRule | None = None
    audio_tokens: int | None = None
    page_tokens: int | None = None
    tool_tokens: int | None = None
    capabilities: frozenset[str] = frozenset()
    embedding: EmbeddingFacts | None = None
    rules: tuple[ParameterRule, ...] = ()
    defaults: Mapping[str, Scalar] = attrs.field(factory=_no_defaults, hash=False)
    prices: tuple[Price, ...] = ()
    retires: dt.date | None = None
    source: str = "stated by the program"
    as_of: dt.date | None = None
    abilities: frozenset[str] = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_abilities, takes_self=True)
    )
    """All that `missing` looks at: operations, `input:` and `output:` modalities, capabilities."""
    rule_book: RuleBook = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_rule_book, takes_self=True)
    )
    """The rules, prepared for `apply_rules`."""

    def missing(self, needs: frozenset[str]) -> list[str]:
        """What of `needs` the model cannot do, sorted; empty if it can do all.

        Args:
            needs: Operations (`"embeddings"`), modalities (`"input:image"`, `"output:audio"`) and
                capabilities (`"tools"`, `"vision"`).
        """
        return [] if needs <= self.abilities else sorted(needs - self.abilities)

    def require(self, needs: frozenset[str]) -> None:
        """Refuse what the model cannot do, before anything is sent.

        Raises:
            UnsupportedError: If it lacks any of `needs`; the hint names what it can do.
        """
        missing = self.missing(needs)
        if missing:
            raise UnsupportedError(
                f"The model {self.name!r} of {self.provider} cannot do {', '.join(missing)}.",
                hint=(
                    f"It can do {', '.join(sorted(self.abilities))}. If that is out of date "
                    f"({self.source}), state the model in a card file of your own."
                ),
                code="unsupported_operation",
            )

    def price(self, day: dt.date | None = None) -> Price | None:
        """The price on a day (UTC), or the newest one; None if the card has none for it."""
        return price_on(self.prices, day)


@attrs.frozen
class CardPatch:
    """Changes to a card of a lower layer: a price agreed with the provider, say.

    Attributes:
        provider: The provider of the card to change.
        name: Its name.
        changes: Fields of `ModelCard` and their new values.
    """

    provider: str
    name: str
    changes: Mapping[str, object] = attrs.field(hash=False)

    def applied_to(self, below: ModelCard | None) -> ModelCard:
        """The card of the layer below with these changes, or a card with nothing else stated."""
        card = below if below is not None else ModelCard(self.name, self.provider)
        changes: dict[str, Any] = dict(self.changes)
        return attrs.evolve(card, **changes)
