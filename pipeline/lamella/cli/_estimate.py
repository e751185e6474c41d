"""`lamella estimate`: what requests would cost, before any of them is sent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
from cyclopts import Parameter

from lamella._chat import ChatRequest
from lamella._money import Money
from lamella._prices import Price
from lamella._usage import Usage

if TYPE_CHECKING:
    from lamella._card_book import CardBook
    from lamella._cards import ModelCard
    from lamella._own_prices import Rows
    from lamella._price_lists import PriceList

_HEADERS: Final = (
    "model",
    "provider",
    "reads",
    "writes",
    "no answer",
    "as said",
    "at most",
    "price",
)


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Asked:
    """What is to be estimated, besides the models.

    Attributes:
        tokens: How many tokens it reads, and, after a comma, how many it is expected to write.
        file: A file whose text it reads instead of a prompt; - is standard input.
        max_output_tokens: The most it may write. As the model's card says if not given.
        service: The class of service: batch, flex, priority.
        calls: How many such requests; 1 or more.
    """

    tokens: str | None = None
    file: str | None = None
    max_output_tokens: int | None = None
    service: str | None = None
    calls: int = 1


@attrs.frozen
class _Asked:
    """The same, read."""

    text: str | None
    read: int | None
    written: int | None
    most: int | None
    service: str | None
    calls: int


_NOTHING_ASKED: Final = Asked()


@attrs.frozen
class _Estimate:
    """What one model would cost. None is what nobody knows."""

    model: str
    provider: str
    read: int
    exact: bool
    written: int | None
    most: int | None
    least: Money
    expected: Money | None
    worst: Money | None
    source: str


def estimate(
    *prompt: str,
    model: Annotated[
        tuple[str, ...], Parameter(name=["--model", "-m"], negative=(), consume_multiple=False)
    ],
    asked: Asked = _NOTHING_ASKED,
    provider: str | None = None,
    prices: Path | None = None,
    json: bool = False,
) -> int:
    """Say what a request would cost before it is sent: without an answer, as said, at most.

    Args:
        prompt: What is read, unless --tokens or --file says it. Words are joined with spaces, and -
            stands for what comes from standard input.
        model: The model, as model cards call it: gpt-4o-mini, or openai/gpt-4o-mini. May be given
            again, to compare.
        asked: What is asked.
        provider: Whose model it is, where several have one of that name.
        prices: A TOML or JSON file with prices of yours, as for Cost(prices=...).
        json: Print a JSON list; amounts are texts, and billionths.
    """
    from lamella._chosen_sources import default_sources
    from lamella._own_prices import own_prices
    from lamella._price_lists import PriceList
    from lamella._shared_cards import shared_cards
    from lamella.cli._output import show_json
    from lamella.cli._render import show_table

    what = _read_options(asked, prompt, model[0])
    own: Rows = {} if prices is None else own_prices(prices, "--prices")
    listed = PriceList(own, default_sources())
    book = shared_cards()
    found = [_estimate(name, provider, what, listed, book) for name in model]
    if json:
        show_json([_form(one, what) for one in found])
    else:
        show_table(_HEADERS, [_line(one) for one in found])
    return 0


def _read_options(asked: Asked, prompt: tuple[str, ...], model: str) -> _Asked:
    from lamella.cli._errors import UsageError
    from lamella.cli._run import prompt_of

    tokens, file, most = asked.tokens, asked.file, asked.max_output_tokens
    if [bool(prompt), tokens is not None, file is not None].count(True) != 1:
        msg = "Say what is read: either a prompt, --tokens or --file, and one of them only."
        example = f'Write lamella estimate -m {model} "Why is the sky blue?"'
        raise UsageError(msg, hint=f"{example}, --tokens 1200,300 or --file prompt.txt.")
    if asked.calls < 1 or (most is not None and most < 0):
        raise UsageError("--calls is 1 or more, and --max-output-tokens 0 or more.")
    read, written = (None, None) if tokens is None else _counts(tokens)
    text = prompt_of(prompt) if prompt else None if file is None else _text(file)
    return _Asked(text, read, written, most, asked.service, asked.calls)


def _counts(tokens: str) -> tuple[int, int | None]:
    from lamella.cli._errors import UsageError

    words = [word.strip().replace("_", "") for word in tokens.split(",")]
    if len(words) > 2 or not all(word.isascii() and word.isdigit() for word in words):
        msg = f"--tokens {tokens!r} is not one or two whole numbers."
        raise UsageError(msg, hint="Write --tokens 1200, or --tokens 1200,300.")
    return int(words[0]), int(words[1]) if len(words) > 1 else None


def _text(file: str) -> str:
    from lamella.cli._errors import UsageError
    from lamella.cli._run import STDIN

    try:
        return sys.stdin.read() if file == STDIN else Path(file).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UsageError(f"{file}: cannot be read ({why}).") from None


def _estimate(
    name: str, provider: str | None, asked: _Asked, listed: PriceList, book: CardBook
) -> _Estimate:
    import time

    whose, model, card = _place(name, provider, book)
    found = listed.found([(whose, model)], time.time())  # noqa: TID251 - the program's own clock
    if found is None:
        raise _unpriced(f"the model {model!r} of {whose!r}" if whose else f"the model {model!r}")
    price, source = found
    read, exact = _read(asked, card)
    most = asked.most
    if most is None and card is not None:
        most = card.max_output_tokens
    _must_fit(asked, most, model)
    return _Estimate(
        model=model,
        provider=whose,
        read=read,
        exact=exact,
        written=asked.written,
        most=most,
        least=_cost(price, model, read, 0, asked),
        expected=None if asked.written is None else _cost(price, model, read, asked.written, asked),
        worst=None if most is None else _cost(price, model, read, most, asked),
        source=source,
    )


def _must_fit(asked: _Asked, most: int | None, model: str) -> None:
    from lamella.cli._errors import UsageError

    if asked.written is not None and most is not None and asked.written > most:
        whose = f"{model!r} writes" if asked.most is None else "--max-output-tokens allows"
        msg = f"--tokens expects {asked.written:,} tokens written, and {whose} {most:,} at most."
        raise UsageError(msg, hint="Expect fewer, or ask more often with --calls.")


def _place(name: str, provider: str | None, book: CardBook) -> tuple[str, str, ModelCard | None]:
    """Whose model it is, its name there, and its card if it has one."""
    from lamella.cli._errors import UsageError

    if provider is not None:
        return provider, name, book.find(provider, name)
    known = {card.provider for card in book.cards()}
    whose, slash, rest = name.partition("/")
    if slash and whose in known and (card := book.find(whose, rest)) is not None:
        return whose, rest, card
    cards = {whose: card for whose in known if (card := book.find(whose, name)) is not None}
    if len(cards) > 1:
        msg = f"Several providers have a model {name!r}: {', '.join(sorted(cards))}."
        raise UsageError(msg, hint=f"Write --provider {min(cards)}, or {min(cards)}/{name}.")
    for whose, card in cards.items():
        return whose, name, card
    return (whose, rest, None) if slash else ("", name, None)


def _read(asked: _Asked, card: ModelCard | None) -> tuple[int, bool]:
    """How many tokens are read, and whether that is exact."""
    if asked.read is not None:
        return asked.read, True
    from lamella._tokenizers import counter_for
    from lamella._tokens import input_usage

    counter = counter_for(card)
    usage = input_usage(ChatRequest.of(asked.text or ""), counter, card=card)
    return (0 if usage is None else usage.input_tokens), counter.exact


def _cost(price: Price, model: str, read: int, written: int, asked: _Asked) -> Money:
    """What the requests cost, if each reads and writes so much; thinking may be the dearer text."""
    usages = [Usage(uncached_input=read, text_output=written)]
    if written:
        usages.append(Usage(uncached_input=read, reasoning_output=written))
    missing = [price.unpriced(usage, service=asked.service) for usage in usages]
    if missing[0]:
        raise _unpriced(f"{', '.join(missing[0])} of the model {model!r}")
    priced = [
        price.cost(usage, service=asked.service)
        for usage, without in zip(usages, missing, strict=True)
        if not without
    ]
    return max(priced, key=lambda cost: cost.nano) * asked.calls


def _unpriced(what: str) -> Exception:
    from importlib.util import find_spec

    from lamella.cli._errors import UsageError

    hint = "State one: --prices prices.toml, with a table for each model; or name --provider."
    if find_spec("genai_prices") is None:
        hint += " pip install 'lamella[cost]' brings the prices of many more."
    return UsageError(f"No price is known for {what}.", hint=hint)


def _line(one: _Estimate) -> tuple[str, ...]:
    return (
        one.model,
        one.provider or "-",
        f"{one.read:,}" if one.exact else f"about {one.read:,}",
        " to ".join([f"{count:,}" for count in (one.written, one.most) if count is not None])
        or "-",
        str(one.least),
        "-" if one.expected is None else str(one.expected),
        "-" if one.worst is None else str(one.worst),
        one.source,
    )


def _form(one: _Estimate, asked: _Asked) -> dict[str, Any]:
    amounts = {"least": one.least, "expected": one.expected, "worst": one.worst}
    return {
        "model": one.model,
        "provider": one.provider or None,
        "calls": asked.calls,
        "service": asked.service,
        "input_tokens": one.read,
        "input_tokens_exact": one.exact,
        "output_tokens": one.written,
        "max_output_tokens": one.most,
        "currency": one.least.currency,
        **{name: None if money is None else str(money.amount) for name, money in amounts.items()},
        **{
            f"{name}_nano": None if money is None else money.nano for name, money in amounts.items()
        },
        "price_from": one.source,
    }
