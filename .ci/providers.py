"""Write the tables of providers and models in docs/transports, or check that they are right.

`python .ci/providers.py` writes docs/transports/models.md, and in docs/transports/index.md what
stands between the marks; `--check` fails if a page is behind. Everything is read from the model
cards and from the table of endpoints: a parameter is tried on every model, as a transport does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from lamella._card_book import CardBook
from lamella._cards import ModelCard
from lamella._errors import UnsupportedError
from lamella._money import Money
from lamella._parameter_rules import HasRules, apply_rules
from lamella.transports._endpoints import Endpoint, endpoints
from lamella_google._cards import google_cards, vertex_cards

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "transports"
BEGIN, END = "<!-- providers: begin -->", "<!-- providers: end -->"

PAGES = {
    "anthropic": "anthropic.md",
    "bedrock": "bedrock.md",
    "google": "google.md",
    "vertex": "google.md",
}
"""Providers that have a transport of their own; all others are reached by `OpenAI`."""


@attrs.frozen
class Probe:
    """Something that is tried on every model.

    Attributes:
        title: The column's title.
        parameter: What is stated in a request; nothing if it is an ability alone.
        value: Its value.
        ability: What the model's card must state for it; None if it need not.
        counted: Whether a model without that ability counts, as one that refuses.
    """

    title: str
    parameter: str | None = None
    value: object = None
    ability: str | None = None
    counted: bool = True


PARAMETERS = (
    Probe("`max_output_tokens`", "max_output_tokens", 100),
    Probe("`temperature`", "temperature", 0.5),
    Probe("`top_p`", "top_p", 0.9),
    Probe("`stop`", "stop", ("x",)),
    Probe("`seed`", "seed", 1),
    Probe("`n`", "n", 2, "n"),
    Probe("`frequency_penalty`", "frequency_penalty", 0.5),
    Probe("`presence_penalty`", "presence_penalty", 0.5),
    Probe("`logprobs`", "logprobs", 2, "logprobs"),
)

ANSWERS = (
    Probe("tools", ability="tools"),
    Probe("forced tool", "tool_choice", "required", "tools", counted=False),
    Probe("one tool at a time", "parallel_tool_calls", value=False, ability="tools", counted=False),
    Probe("JSON", ability="json_object"),
    Probe("JSON schema", ability="json_schema"),
    Probe("reasoning", "reasoning_effort", "low", "reasoning"),
    Probe("no reasoning", "reasoning_effort", "none", "reasoning", counted=False),
    Probe("prompt cache", ability="prompt_cache"),
)

OPERATIONS = ("chat", "responses", "embeddings", "moderation")

MODALITIES = ("text", "image", "file", "audio", "video")

THINKING = {
    "x-thinking-adaptive": "adaptive",
    "x-thinking-level": "levels",
    "x-thinking-budget": "budget",
    "x-reasoning-config": "effort",
    "x-reasoning-effort": "effort",
}


@attrs.frozen
class Provider:
    """One provider: what is known of its models, and what its endpoint says of them all."""

    name: str
    cards: tuple[ModelCard, ...]
    endpoint: Endpoint | None = None

    @property
    def page(self) -> str:
        """The page that describes its transport."""
        return PAGES.get(self.name, "openai.md")

    def serving(self, *operations: str) -> tuple[ModelCard, ...]:
        """The models that do one of these and had not been retired when the cards were written."""
        return tuple(
            card for card in self.cards if card.operations & set(operations) and not _retired(card)
        )


def providers() -> tuple[Provider, ...]:
    """Those with transports of their own, then the endpoints, each by name."""
    folder = ROOT / "plugins"
    book = CardBook(
        plugins=[
            folder / "anthropic/lamella_anthropic/cards/anthropic.toml",
            folder / "bedrock/lamella_bedrock/cards/bedrock.toml",
            google_cards,
            vertex_cards,
        ]
    )
    own = [Provider(name, book.cards(name)) for name in sorted(PAGES)]
    rows = [
        Provider(name, book.cards(row.card_provider) if row.card_provider else (), row)
        for name, row in sorted(endpoints().items())
    ]
    for error in book.problems:
        raise error
    return (*own, *rows)


def _retired(card: ModelCard) -> bool:
    return card.retires is not None and card.as_of is not None and card.retires <= card.as_of


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


# What a provider does


def _operations(provider: Provider) -> frozenset[str]:
    if provider.endpoint is not None:
        return provider.endpoint.apis
    return frozenset().union(*(card.operations for card in provider.serving(*OPERATIONS)))


def _modalities(provider: Provider, side: str) -> str:
    chat = provider.serving("chat", "responses")
    if not chat:
        return ""
    sets = [getattr(card, side) for card in chat]
    names = [one for one in MODALITIES if any(one in found for found in sets)]
    return ", ".join(one if all(one in found for found in sets) else f"{one}*" for one in names)


def _operation_rows(known: Iterable[Provider]) -> Iterator[Sequence[str]]:
    for one in known:
        done = _operations(one)
        yield (
            f"[`{one.name}`]({one.page})",
            *("yes" if name in done else "" for name in OPERATIONS),
            _modalities(one, "input"),
            _modalities(one, "output"),
            f"[{len(one.serving(*OPERATIONS))}](models.md#{_anchor(one)})" if one.cards else "",
        )


def _anchor(provider: Provider) -> str:
    return provider.endpoint.card_provider or "" if provider.endpoint else provider.name


# What becomes of a parameter


def _cell(provider: Provider, probe: Probe) -> str:
    """What becomes of a parameter: one word if it is the same for all chat models."""
    verdicts: set[str] = set()
    for card in provider.serving("chat") or (None,):
        if card is None or probe.ability is None or probe.ability in card.capabilities:
            verdicts.add(_tried((card, provider.endpoint), probe))
        elif probe.counted:
            verdicts.add("no")
    return "/".join(word for word in ("yes", "dropped", "no") if word in verdicts)


def _tried(owners: Iterable[HasRules | None], probe: Probe) -> str:
    params = {} if probe.parameter is None else {probe.parameter: probe.value}
    sent: Mapping[str, Any] = params
    try:
        for owner in owners:
            if owner is not None:
                sent, _ = apply_rules(owner, "chat", sent)
    except UnsupportedError:
        return "no"
    return "yes" if len(sent) == len(params) else "dropped"


def _probe_rows(known: Iterable[Provider], probes: Sequence[Probe]) -> Iterator[Sequence[str]]:
    for one in known:
        if "chat" in _operations(one):
            yield f"`{one.name}`", *(_cell(one, probe) for probe in probes)


def tables(known: Sequence[Provider]) -> str:
    """What stands between the marks of the page of transports."""
    operations = ("provider", *OPERATIONS, "reads", "writes", "models")
    return "\n".join(
        [
            "### Operations and modalities",
            "",
            *_table(operations, _operation_rows(known)),
            "",
            "### Parameters of a chat",
            "",
            *_table(
                ("provider", *(probe.title for probe in PARAMETERS)), _probe_rows(known, PARAMETERS)
            ),
            "",
            "### Tools, structure and reasoning",
            "",
            *_table(
                ("provider", *(probe.title for probe in ANSWERS)),
                _probe_rows([one for one in known if one.serving("chat")], ANSWERS),
            ),
        ]
    )


# Models


def _tokens(count: int | None) -> str:
    if count is None:
        return ""
    if count >= 1_000_000:
        return f"{count / 1_000_000:.2f}".rstrip("0").rstrip(".") + "M"
    return f"{round(count / 1000)}k" if count >= 1000 else str(count)


def _money(nano: int | None, currency: str) -> str:
    if nano is None:
        return ""
    return str(Money(nano, currency)).removesuffix(f" {currency}")


def _thinking(card: ModelCard) -> str:
    ways = [word for name, word in THINKING.items() if name in card.capabilities]
    said = ", ".join(ways) or ("yes" if "reasoning" in card.capabilities else "")
    return f"{said}, always" if "x-thinking-required" in card.capabilities else said


def _model_rows(provider: Provider) -> Iterator[Sequence[str]]:
    for card in provider.cards:
        price = card.price(card.as_of)
        rates = price.rates if price is not None else None
        currency = price.currency if price is not None else ""
        others = f" +{len(card.aliases)}" if card.aliases else ""
        yield (
            f"`{card.name}`{others}",
            _tokens(card.context_window or card.max_input_tokens),
            _tokens(card.max_output_tokens),
            ", ".join(one for one in MODALITIES if one in card.input),
            _thinking(card),
            _money(rates.uncached_input if rates else None, currency),
            _money(rates.cache_read if rates else None, currency),
            _money(rates.text_output if rates else None, currency),
            "" if card.retires is None else str(card.retires),
        )


def models(known: Iterable[Provider]) -> str:
    """The page of models."""
    titles = (
        "model",
        "context",
        "output",
        "reads",
        "reasoning",
        "input",
        "cached",
        "output price",
        "retires",
    )
    lines = [
        "# Models",
        "",
        "What the [model cards](../models.md) of this release say. Sizes are in tokens, prices in",
        "US dollars for a million tokens on the day of the card, in the ordinary service and below",
        "any tier. `+2` counts other names of the same model. `lamella models` shows the rest.",
        "",
        "This page is written by `python .ci/providers.py`.",
    ]
    done: set[str] = set()
    for one in sorted(known, key=_anchor):
        if not one.cards or _anchor(one) in done:
            continue
        done.add(_anchor(one))
        newest = max(card.as_of for card in one.cards if card.as_of is not None)
        lines += ["", f"## {_anchor(one)}", "", f"As of {newest}.", ""]
        lines += _table(titles, _model_rows(one))
    return "\n".join(lines) + "\n"


# The pages


def pages() -> dict[Path, Callable[[str], str]]:
    """What each page becomes, from what it is."""
    known = providers()
    found = tables(known)

    def index(text: str) -> str:
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise SystemExit(f"docs/transports/index.md has lost its marks {BEGIN} and {END}.")
        return f"{before}{BEGIN}\n\n{found}\n\n{END}{after}"

    return {FOLDER / "index.md": index, FOLDER / "models.md": lambda _: models(known)}


def main() -> int:
    """Write the pages, or compare."""
    behind: list[str] = []
    for page, made in pages().items():
        text = page.read_text("utf-8") if page.exists() else ""
        new = made(text)
        if new == text:
            continue
        behind.append(page.relative_to(ROOT).as_posix())
        if "--check" not in sys.argv:
            page.write_text(new, "utf-8")
    if behind and "--check" in sys.argv:
        sys.stderr.write(f"{' and '.join(behind)}: behind; run `python .ci/providers.py`.\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
